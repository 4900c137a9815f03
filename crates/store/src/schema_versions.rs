//! Versions of a schema: a program does not work on one that a newer version has migrated.

use crate::error::StoreError;

/// Refuses a schema with a migration that this program does not know.
pub(crate) fn refuse_newer(
    place: &str,
    applied: &[String],
    known: &[String],
) -> Result<(), StoreError> {
    match applied.iter().find(|applied| !known.contains(applied)) {
        None => Ok(()),
        Some(newer) => Err(StoreError::Unsuitable(format!(
            "the {place}'s schema is newer than this program (migration {newer}): run the version that migrated it, or a newer one"
        ))),
    }
}
