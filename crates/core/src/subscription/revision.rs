//! Optimistic locking of a subscription: each change makes a new revision, and a change may require certain
//! revisions (`If-Match`).

use std::fmt;
use std::str::FromStr;

use crate::ids::SubscriptionId;
use crate::timestamp::Timestamp;

/// Different after every change, also of hidden fields. A database that lost its last commits issues their version
/// numbers again, so the time of the change is part of the revision.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Revision {
    /// Counts the changes of all subscriptions.
    pub version: i64,
    pub changed_at: Timestamp,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("is no revision")]
pub struct InvalidRevision;

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.version, self.changed_at.unix_micros())
    }
}

impl FromStr for Revision {
    type Err = InvalidRevision;

    /// Reads what [`Revision`] displays, and no other form of the same numbers.
    fn from_str(text: &str) -> Result<Self, InvalidRevision> {
        let number = |part: &str| part.parse().map_err(|_| InvalidRevision);
        let (version, changed_at) = text.split_once('-').ok_or(InvalidRevision)?;
        let revision = Self {
            version: number(version)?,
            changed_at: Timestamp::from_unix_micros(number(changed_at)?),
        };
        match revision.to_string() == text {
            true => Ok(revision),
            false => Err(InvalidRevision),
        }
    }
}

/// The revisions that a change requires.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Precondition {
    #[default]
    Any,
    OneOf(Vec<Revision>),
}

impl Precondition {
    pub fn holds(&self, revision: Revision) -> bool {
        match self {
            Precondition::Any => true,
            Precondition::OneOf(revisions) => revisions.contains(&revision),
        }
    }
}

/// The subscription of a change, with its precondition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Addressed {
    pub id: SubscriptionId,
    pub precondition: Precondition,
}

impl From<SubscriptionId> for Addressed {
    fn from(id: SubscriptionId) -> Self {
        Self {
            id,
            precondition: Precondition::Any,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn any_other_text_than_a_displayed_revision_is_refused() {
        for bad in [
            "", "1", "-", "1-", "-1", "01-2", "1-+2", "1-2 ", "a-b", "1-2-3",
        ] {
            assert_eq!(bad.parse::<Revision>(), Err(InvalidRevision), "{bad:?}");
        }
    }

    proptest! {
        #[test]
        fn a_revision_reads_back_the_same(version in 0..i64::MAX, micros in 0..1_000_000_000_000_000_i64) {
            let revision = Revision { version, changed_at: Timestamp::from_unix_micros(micros) };
            prop_assert_eq!(revision.to_string().parse(), Ok(revision));
        }
    }
}
