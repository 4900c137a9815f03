//! The index of subscriptions that a process keeps, and how it stays true: every intake asks inside
//! its own transaction what has changed since, so no notice can be late.

use std::sync::{Arc, Mutex, PoisonError};

use hookline_core::event_type::EventType;
use hookline_core::fanout::{SubscriptionChange, SubscriptionIndex};
use hookline_core::ids::OrganizationId;

use crate::error::StoreError;

/// Every subscription as a process last saw it, kept fresh inside each intake.
#[derive(Debug, Clone, Default)]
pub struct FanoutIndex(Arc<Mutex<Known>>);

#[derive(Debug, Default)]
struct Known {
    version: i64,
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
    pub(crate) fn as_it_is<T>(&self, ask: impl FnOnce(&SubscriptionIndex) -> T) -> (T, i64) {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        (ask(&known.index), known.version)
    }

    /// Brings the index up to date with what `changes` finds after its version, then asks it.
    pub(crate) fn with<T>(
        &self,
        changes: impl FnOnce(i64) -> Result<(Vec<SubscriptionChange>, i64), StoreError>,
        ask: impl FnOnce(&SubscriptionIndex) -> T,
    ) -> Result<T, StoreError> {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (changed, version) = changes(known.version)?;
        for change in changed {
            known.index.apply(change);
        }
        known.version = version;
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
                    after = Some(version);
                    Ok((Vec::new(), 7))
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
