//! Store errors, sorted into transient and permanent ones.
//!
//! An error is permanent only where a closed list says so: a unique, foreign-key or check violation of
//! a constraint that our migrations make, and a value that this crate validates itself. Every other
//! error is transient, because a database fails for reasons that no list can name: a failover, a full
//! disk, a revoked right, a deadlock, an administrator, a constraint that an operator added.
//!
//! An error is never sorted by the text of its message: a server speaks the language of its
//! `lc_messages`.

use std::fmt;

use diesel::result::{DatabaseErrorInformation, DatabaseErrorKind, Error as DieselError};

use crate::crypto::encryption::EncryptError;

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// A transient error: the same call may succeed later. A write may have been committed, because
    /// a connection can be lost between the commit and its answer.
    #[error("the store is not available: {0}")]
    Unavailable(String),
    /// A permanent error: the same call fails again. Nothing was written.
    #[error("the store refuses: {0}")]
    Refused(String),
    /// The row has changed since the caller saw it. Nothing was written.
    #[error("it has changed since")]
    Stale,
    /// A stored value does not have the form that this version expects.
    #[error("the store holds a bad value: {0}")]
    Corrupt(String),
    /// The schema is older than this program's.
    #[error("the database's schema is older than this program: run `hookline migrate`")]
    NotMigrated,
    /// The database, its settings or the role's rights do not allow this program to work. The text
    /// says what an operator does about it.
    #[error("{0}")]
    Unsuitable(String),
}

impl StoreError {
    pub(crate) fn unavailable(why: impl fmt::Display) -> Self {
        Self::Unavailable(one_line(&why))
    }

    /// The same for a program that has never reached the database: a refused login is a mistake in the URL or in the
    /// server's users, and waiting does not help. libpq gives no code for it, so this alone matches the text. In a language
    /// other than English the program waits as for any other error.
    #[must_use]
    pub fn at_first_start(self) -> Self {
        match self {
            Self::Unavailable(text) if is_refused_login(&text) => Self::Unsuitable(format!(
                "PostgreSQL refuses the login: {text}: correct store.url, or the server's users, databases and \
                 pg_hba.conf"
            )),
            other => other,
        }
    }

    /// Whether the same call may succeed later.
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Unavailable(_))
    }
}

impl From<EncryptError> for StoreError {
    fn from(_: EncryptError) -> Self {
        StoreError::Refused("a value could not be sealed".to_owned())
    }
}

impl From<DieselError> for StoreError {
    fn from(error: DieselError) -> Self {
        let text = one_line(&error);
        match error {
            DieselError::DatabaseError(kind, about)
                if is_violation(&kind) && is_of_our_constraint(about.as_ref()) =>
            {
                StoreError::Refused(text)
            }
            _ => StoreError::Unavailable(text),
        }
    }
}

fn is_refused_login(text: &str) -> bool {
    const REFUSALS: [&str; 5] = [
        "password authentication failed",
        "no password supplied",
        "no pg_hba.conf entry",
        "permission denied for database",
        "is not permitted to log in",
    ];
    let is_missing = |what: &str| {
        let named = text.split_once(what).map(|(_, rest)| rest);
        named.is_some_and(|rest| rest.contains("\" does not exist"))
    };
    REFUSALS.iter().any(|refusal| text.contains(refusal))
        || is_missing("FATAL:  database \"")
        || is_missing("FATAL:  role \"")
}

/// The text of an error in one line, for a log entry: libpq has a line for each address that it tried.
fn one_line(why: &impl fmt::Display) -> String {
    let text = why.to_string();
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    lines.collect::<Vec<_>>().join("; ")
}

/// NOT NULL is not among them: no query leaves out a column of ours, so a violation names a column that an operator or a
/// newer version added.
fn is_violation(kind: &DatabaseErrorKind) -> bool {
    matches!(
        kind,
        DatabaseErrorKind::UniqueViolation
            | DatabaseErrorKind::ForeignKeyViolation
            | DatabaseErrorKind::CheckViolation
    )
}

/// The constraints of our tables besides their primary keys.
pub(crate) const CONSTRAINTS: [&str; 7] = [
    "api_key_organizations_key_id_fkey",
    "api_key_organizations_organization_id_fkey",
    "api_keys_hash_key",
    "api_keys_organization_id_fkey",
    "partitioning_id_check",
    "retention_clock_id_check",
    "subscription_version_id_check",
];

/// Whether a violation names a constraint that our migrations make. An operator can add constraints,
/// triggers and tables, and a row without a partition is a check violation without a constraint. Only
/// PostgreSQL gives these names. A violation in SQLite, which no query of ours causes, is transient.
fn is_of_our_constraint(about: &dyn DatabaseErrorInformation) -> bool {
    let (Some(table), Some(constraint)) = (about.table_name(), about.constraint_name()) else {
        return false;
    };
    let is_primary_key = constraint.strip_suffix("_pkey") == Some(table);
    crate::schema::TABLES.contains(&table) && (is_primary_key || CONSTRAINTS.contains(&constraint))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// PostgreSQL's information on a violation, with these names.
    struct ViolationInfo {
        table: Option<&'static str>,
        column: Option<&'static str>,
        constraint: Option<&'static str>,
    }

    impl DatabaseErrorInformation for ViolationInfo {
        fn message(&self) -> &str {
            "doppelter Schlüsselwert verletzt Unique-Constraint"
        }
        fn details(&self) -> Option<&str> {
            None
        }
        fn hint(&self) -> Option<&str> {
            None
        }
        fn table_name(&self) -> Option<&str> {
            self.table
        }
        fn column_name(&self) -> Option<&str> {
            self.column
        }
        fn constraint_name(&self) -> Option<&str> {
            self.constraint
        }
        fn statement_position(&self) -> Option<i32> {
            None
        }
    }

    fn is_transient(kind: DatabaseErrorKind, about: ViolationInfo) -> bool {
        StoreError::from(DieselError::DatabaseError(kind, Box::new(about))).is_transient()
    }

    const VIOLATIONS: fn() -> [DatabaseErrorKind; 3] = || {
        [
            DatabaseErrorKind::UniqueViolation,
            DatabaseErrorKind::ForeignKeyViolation,
            DatabaseErrorKind::CheckViolation,
        ]
    };

    #[test]
    fn a_violation_of_our_own_constraint_is_permanent() {
        for kind in VIOLATIONS() {
            let about = ViolationInfo {
                table: Some("events"),
                column: None,
                constraint: Some("events_pkey"),
            };
            assert!(!is_transient(kind, about));
        }
        let about = ViolationInfo {
            table: Some("api_keys"),
            column: None,
            constraint: Some("api_keys_organization_id_fkey"),
        };
        assert!(!is_transient(DatabaseErrorKind::ForeignKeyViolation, about));
    }

    #[test]
    fn what_an_operator_added_to_our_tables_is_transient() {
        for constraint in ["ops_freeze", "audit_pkey", "attempts_archive_pkey"] {
            for table in ["events", "attempts", "attempts_archive", "attempts_d20421"] {
                for kind in VIOLATIONS() {
                    let about = ViolationInfo {
                        table: Some(table),
                        column: None,
                        constraint: Some(constraint),
                    };
                    assert!(is_transient(kind, about), "{table}, {constraint}");
                }
            }
        }
        let about = ViolationInfo {
            table: Some("events"),
            column: Some("region"),
            constraint: None,
        };
        assert!(is_transient(DatabaseErrorKind::NotNullViolation, about));
    }

    #[test]
    fn a_violation_that_names_nothing_of_ours_is_transient() {
        let named = |table, constraint| ViolationInfo {
            table,
            column: None,
            constraint,
        };
        for kind in VIOLATIONS() {
            assert!(is_transient(kind, named(None, None)));
        }
        for kind in VIOLATIONS() {
            assert!(
                is_transient(kind, named(Some("attempts"), None)),
                "no partition"
            );
        }
        for kind in VIOLATIONS() {
            let about = named(Some("audit_of_an_operator"), Some("audit_pkey"));
            assert!(is_transient(kind, about));
        }
    }

    #[test]
    fn a_refused_login_does_not_pass_by_waiting_at_a_first_start() {
        let server = "connection to server at \"127.0.0.1\", port 5432 failed: FATAL:  ";
        for refusal in [
            "password authentication failed for user \"hookline\"",
            "database \"hookline\" does not exist",
            "role \"hookline\" does not exist",
            "no pg_hba.conf entry for host \"10.0.0.1\", user \"hookline\"",
        ] {
            let error = StoreError::unavailable(format!("{server}{refusal}"));
            assert!(
                matches!(error.at_first_start(), StoreError::Unsuitable(_)),
                "{refusal}"
            );
        }
        for passing in [
            "the database system is starting up",
            "sorry, too many clients already",
            "terminating connection due to administrator command",
        ] {
            let error = StoreError::unavailable(format!("{server}{passing}"));
            assert!(error.at_first_start().is_transient(), "{passing}");
        }
    }

    #[test]
    fn the_text_of_an_error_is_one_line() {
        let refused = "connection to server at \"::1\" failed: Connection refused\n\tIs the server running?\r\n\n\
                       connection to server at \"127.0.0.1\" failed: FATAL\n";
        let line = "the store is not available: connection to server at \"::1\" failed: Connection refused; \
                    Is the server running?; connection to server at \"127.0.0.1\" failed: FATAL";
        assert_eq!(StoreError::unavailable(refused).to_string(), line);
        let refused = diesel::ConnectionError::BadConnection(refused.to_owned());
        let message =
            StoreError::from(DieselError::QueryBuilderError(Box::new(refused))).to_string();
        assert_eq!(message.lines().count(), 1, "{message}");
    }

    #[test]
    fn every_other_error_is_transient_whatever_it_says() {
        for kind in [
            DatabaseErrorKind::Unknown,
            DatabaseErrorKind::ReadOnlyTransaction,
            DatabaseErrorKind::SerializationFailure,
            DatabaseErrorKind::ClosedConnection,
            DatabaseErrorKind::UnableToSendCommand,
            DatabaseErrorKind::ExclusionViolation,
            DatabaseErrorKind::RestrictViolation,
        ] {
            let about = ViolationInfo {
                table: Some("events"),
                column: None,
                constraint: Some("events_pkey"),
            };
            assert!(is_transient(kind, about));
        }
        for error in [
            DieselError::NotFound,
            DieselError::DeserializationError("no UTF-8".into()),
            DieselError::RollbackTransaction,
            DieselError::BrokenTransactionManager,
        ] {
            assert!(StoreError::from(error).is_transient());
        }
    }
}
