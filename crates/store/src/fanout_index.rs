//! The index of subscriptions that a process keeps, and how it stays true: every intake asks inside
//! its own transaction what has changed since, so no notice can be late.

use std::sync::{Arc, Mutex, PoisonError};

use hookline_core::fanout::{SubscriptionChange, SubscriptionIndex};

use crate::error::StoreError;

/// Every subscription as a process last saw it, kept fresh inside each intake.
#[derive(Debug, Clone, Default)]
pub struct FanoutIndex(Arc<Mutex<Known>>);

#[derive(Debug, Default)]
struct Known {
    version: i64,
    index: SubscriptionIndex,
}

impl FanoutIndex {
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
