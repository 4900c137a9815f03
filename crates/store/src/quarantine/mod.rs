//! Quarantine: the crash counts of published events and deliveries.

use std::collections::HashMap;

use hookline_core::ids::QuarantineKey;
use hookline_core::timestamp::Timestamp;

use crate::error::StoreError;
use crate::store::{Store, run};

pub(crate) mod sql;

impl Store {
    /// The crash count of each; a count of 0 is not in the answer.
    pub async fn crash_counts(
        &self,
        keys: Vec<QuarantineKey>,
    ) -> Result<HashMap<QuarantineKey, u32>, StoreError> {
        run!(self, read, |conn, q: sql| q::crash_counts(conn, &keys))
    }

    /// Counts a crash for each, which [`Store::clear_crash_counts`] takes back.
    pub async fn raise_crash_counts(
        &self,
        keys: Vec<QuarantineKey>,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        run!(self, write, |conn, q: sql| q::raise(conn, &keys, now))
    }

    /// Removes the counts of messages that were handled without a crash.
    pub async fn clear_crash_counts(&self, keys: Vec<QuarantineKey>) -> Result<(), StoreError> {
        run!(self, write, |conn, q: sql| q::clear(conn, &keys))
    }

    /// Deletes counts that were last raised before `cutoff`.
    pub async fn forget_crash_counts(&self, cutoff: Timestamp) -> Result<(), StoreError> {
        run!(self, write, |conn, q: sql| q::forget(conn, cutoff))
    }
}
