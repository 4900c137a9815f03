//! Forgetting.

use hookline_core::timestamp::Timestamp;

use super::{Home, Store, run};
use crate::error::StoreError;
use crate::{postgres, sqlite};

#[expect(
    clippy::missing_errors_doc,
    reason = "all fail alike: the store is unavailable, or refuses"
)]
impl Store {
    /// Forgets attempts of days before `day` (days since 1970).
    pub async fn forget_attempts(&self, day: i64) -> Result<(), StoreError> {
        run!(self, write, |conn, q| q::retention::forget_attempts(
            conn, day
        ))
    }

    /// Forgets some events received before `cutoff`, and answers with how many.
    pub async fn forget_events(&self, cutoff: Timestamp) -> Result<usize, StoreError> {
        run!(self, write, |conn, q| q::retention::forget_events(
            conn, cutoff
        ))
    }
}
