//! The index of subscriptions that a process keeps, and how it stays true: every intake asks inside
//! its own transaction what has changed since, so no notice can be late.
//!
//! A database that loses its last commits, by the promotion of a replica that lagged or by a restore,
//! gives out again the version numbers that it lost. Each version has a mark, a random number, so the
//! index notices that the version it knows is not there any more, or is another one, and loads every
//! subscription anew.

use std::sync::{Arc, Mutex, PoisonError};

use hookline_core::event_type::EventType;
use hookline_core::fanout::{SubscriptionChange, SubscriptionIndex};
use hookline_core::ids::OrganizationId;

use crate::error::StoreError;

/// Every subscription as a process last saw it, kept fresh inside each intake.
#[derive(Debug, Clone, Default)]
pub struct FanoutIndex(Arc<Mutex<Known>>);

/// A version of the subscriptions.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Version {
    /// 0 where there is no subscription.
    pub(crate) number: i64,
    /// None for a version that was written before versions had marks, or long ago.
    pub(crate) mark: Option<i64>,
}

/// What an index has to learn.
#[derive(Debug)]
pub(crate) enum News {
    Nothing,
    /// These changes, up to a version.
    Since(Vec<SubscriptionChange>, Version),
    /// All that there is; what the index knew does not count.
    Anew(Vec<SubscriptionChange>, Version),
}

#[derive(Debug, Default)]
struct Known {
    version: Version,
    index: SubscriptionIndex,
    failures: u64,
}

impl FanoutIndex {
    /// Forgets everything where transactions have failed since it was learnt: an intake sees the
    /// changes before it in its own transaction, and when that is taken back, their versions are
    /// given out again.
    pub(crate) fn believe(&self, failures: u64) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if known.failures != failures {
            *known = Known {
                failures,
                ..Known::default()
            };
        }
    }

    /// How many deliveries an event makes, as far as is known: what has changed since the last intake is
    /// not.
    pub fn deliveries_of(&self, owner: &OrganizationId, event_type: EventType) -> usize {
        self.as_it_is(|index| index.wanting(owner, event_type).count())
            .0
    }

    /// What the index says as it is, and its version.
    pub(crate) fn as_it_is<T>(&self, ask: impl FnOnce(&SubscriptionIndex) -> T) -> (T, Version) {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        (ask(&known.index), known.version)
    }

    /// Brings the index up to date with what `news` finds after its version, then asks it.
    pub(crate) fn with<T>(
        &self,
        news: impl FnOnce(Version) -> Result<News, StoreError>,
        ask: impl FnOnce(&SubscriptionIndex) -> T,
    ) -> Result<T, StoreError> {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let learnt = match news(known.version)? {
            News::Nothing => None,
            News::Since(changes, version) => Some((changes, version)),
            News::Anew(changes, version) => {
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
    fn what_was_learnt_before_a_failure_is_learnt_anew() {
        let index = FanoutIndex::default();
        let asked_after = |failures| {
            index.believe(failures);
            let mut after = None;
            let asked = index.with(
                |version| {
                    after = Some(version.number);
                    let mark = None;
                    Ok(News::Since(Vec::new(), Version { number: 7, mark }))
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
