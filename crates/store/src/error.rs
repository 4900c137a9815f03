//! What can go wrong with a store, in the two kinds that callers treat differently.

use diesel::result::{DatabaseErrorKind, Error as DieselError};

use crate::sealed::Unsealable;

/// Why a store did not do something. Nothing of it was done.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// It cannot be reached, is full, or did not answer in time: the same may work later.
    #[error("the store is not available: {0}")]
    Unavailable(String),
    /// It refuses this very thing: the same fails again.
    #[error("the store refuses: {0}")]
    Refused(String),
    /// What it holds cannot be read as what it should be.
    #[error("the store holds a bad value: {0}")]
    Corrupt(String),
    /// Its schema is older or newer than this program's.
    #[error("the schema is not this version's: run `hookline migrate`")]
    NotMigrated,
}

impl From<Unsealable> for StoreError {
    fn from(_: Unsealable) -> Self {
        StoreError::Refused("a value could not be sealed".to_owned())
    }
}

/// Texts of errors that are about the moment and not about the statement. Neither backend's code
/// reaches us through diesel, so the words have to do.
const PASSING: [&str; 12] = [
    "timeout",
    "No space left",
    "disk is full",
    "out of memory",
    "read-only",
    "readonly",
    "too many clients",
    "connection slots",
    "terminating connection",
    "locked",
    "I/O error",
    "unable to open",
];

impl From<DieselError> for StoreError {
    fn from(error: DieselError) -> Self {
        let text = error.to_string();
        let passing = match &error {
            DieselError::DatabaseError(kind, _) => {
                matches!(
                    kind,
                    DatabaseErrorKind::ClosedConnection
                        | DatabaseErrorKind::UnableToSendCommand
                        | DatabaseErrorKind::SerializationFailure
                        | DatabaseErrorKind::ReadOnlyTransaction
                ) || is_passing(&text)
            }
            DieselError::BrokenTransactionManager | DieselError::RollbackErrorOnCommit { .. } => {
                true
            }
            _ => false,
        };
        match (passing, error) {
            (true, _) => StoreError::Unavailable(text),
            (false, DieselError::DeserializationError(_)) => StoreError::Corrupt(text),
            (false, _) => StoreError::Refused(text),
        }
    }
}

fn is_passing(text: &str) -> bool {
    PASSING.iter().any(|passing| text.contains(passing))
        || text.contains("connection to server")
        || text.contains("server closed the connection")
}
