//! Versions of a schema. A program works only on a schema with migrations that it knows.

use crate::error::StoreError;

/// Refuses a schema with a migration that this program does not know. The versions are times, so one before the initial
/// migration is of a version that was never released.
pub(crate) fn refuse_unknown(
    place: &str,
    applied: &[String],
    known: &[String],
) -> Result<(), StoreError> {
    let Some(unknown) = applied.iter().find(|applied| !known.contains(applied)) else {
        return Ok(());
    };
    Err(StoreError::Unsuitable(match known.iter().min() {
        Some(initial) if unknown < initial => format!(
            "an unreleased version of Hookline made the {place}'s schema (migration {unknown}), and no version migrates \
             it: start with a new {place}"
        ),
        _ => format!(
            "the {place}'s schema is newer than this program (migration {unknown}): run the version that migrated it, or a newer one"
        ),
    }))
}
