//! The subscription index of a process, and its invalidation: each intake reads inside its own transaction the changes
//! since the last one, so the index is never stale.
//!
//! A database that loses its last commits, because a lagging replica was promoted or a backup restored, issues the lost
//! version numbers again. Each version therefore has a mark, a random number. If the version of an
//! index is gone or has another mark, the index loads every subscription again.

use std::sync::{Arc, Mutex, PoisonError};

use hookline_core::event_type::EventType;
use hookline_core::fanout::{SubscriptionChange, SubscriptionIndex};
use hookline_core::ids::OrganizationId;

use crate::error::StoreError;

/// Every subscription as a process last saw it; each intake updates it.
#[derive(Debug, Clone, Default)]
pub struct FanoutIndex(Arc<Mutex<CachedIndex>>);

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Version {
    /// 0 where there is no subscription.
    pub(crate) number: i64,
    /// None for a version from before marks existed, or from long ago.
    pub(crate) mark: Option<i64>,
}

/// The changes since the version of an index.
#[derive(Debug)]
pub(crate) enum IndexChanges {
    Nothing,
    /// Changes up to this version.
    Since(Vec<SubscriptionChange>, Version),
    /// All subscriptions; the index starts empty.
    Anew(Vec<SubscriptionChange>, Version),
}

#[derive(Debug, Default)]
struct CachedIndex {
    version: Version,
    index: SubscriptionIndex,
    failures: u64,
}

impl FanoutIndex {
    /// Clears the index where transactions have failed since it was filled. An intake sees uncommitted changes of its own
    /// transaction; after a rollback their versions are issued again.
    pub(crate) fn clear_after_failure(&self, failures: u64) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if known.failures != failures {
            *known = CachedIndex {
                failures,
                ..CachedIndex::default()
            };
        }
    }

    /// The number of deliveries that an event makes, as of the last intake.
    pub fn deliveries_of(&self, owner: &OrganizationId, event_type: EventType) -> usize {
        self.read(|index| index.wanting(owner, event_type).count())
            .0
    }

    /// Reads the index without an update.
    pub(crate) fn read<T>(&self, ask: impl FnOnce(&SubscriptionIndex) -> T) -> (T, Version) {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        (ask(&known.index), known.version)
    }

    /// Updates the index with the changes that `news` finds, then reads it.
    pub(crate) fn with<T>(
        &self,
        news: impl FnOnce(Version) -> Result<IndexChanges, StoreError>,
        ask: impl FnOnce(&SubscriptionIndex) -> T,
    ) -> Result<T, StoreError> {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let learnt = match news(known.version)? {
            IndexChanges::Nothing => None,
            IndexChanges::Since(changes, version) => Some((changes, version)),
            IndexChanges::Anew(changes, version) => {
                known.index = SubscriptionIndex::default();
                Some((changes, version))
            }
        };
        if let Some((changes, version)) = learnt {
            for change in changes {
                known.index.apply(change);
            }
            known.version = version;
        }
        Ok(ask(&known.index))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_index_is_cleared_after_a_failed_transaction() {
        let index = FanoutIndex::default();
        let asked_after = |failures| {
            index.clear_after_failure(failures);
            let mut after = None;
            let asked = index.with(
                |version| {
                    after = Some(version.number);
                    let mark = None;
                    Ok(IndexChanges::Since(Vec::new(), Version { number: 7, mark }))
                },
                |_| (),
            );
            assert!(asked.is_ok());
            after
        };
        assert_eq!(asked_after(0), Some(0));
        assert_eq!(asked_after(0), Some(7));
        assert_eq!(asked_after(1), Some(0));
        assert_eq!(asked_after(1), Some(7));
    }
}
