//! Forgetting.

use hookline_core::retention::TrustedTime;
use hookline_core::timestamp::Timestamp;

use super::{Home, Store, run};
use crate::error::StoreError;
use crate::{postgres, sqlite};

impl Store {
    /// Moves retention's own clock on, by which everything here is forgotten.
    pub async fn advance_retention(&self, now: Timestamp) -> Result<TrustedTime, StoreError> {
        run!(self, write, |conn, q| q::retention::advance(conn, now))
    }

    /// Forgets some attempts of days before `day` (days since 1970), and answers with how many rows
    /// or partitions are gone; 0: there are no more, or another process forgets just now.
    pub async fn forget_attempts(&self, day: i64) -> Result<usize, StoreError> {
        run!(self, write, |conn, q| q::retention::forget_attempts(
            conn, day
        ))
    }

    /// Forgets some events received before `cutoff` with their deliveries; answers likewise.
    pub async fn forget_events(&self, cutoff: Timestamp) -> Result<usize, StoreError> {
        run!(self, write, |conn, q| q::retention::forget_events(
            conn, cutoff
        ))
    }

    /// Forgets the names of some subscriptions that were deleted before `cutoff`; answers likewise.
    pub async fn forget_deleted_subscriptions(
        &self,
        cutoff: Timestamp,
    ) -> Result<usize, StoreError> {
        run!(self, write, |conn, q| q::subscriptions::forget_deleted(
            conn, cutoff
        ))
    }

    /// How many attempts stand in no daily partition, up to `most`. A folder has no partitions.
    pub async fn unpartitioned_attempts(&self, most: i64) -> Result<u64, StoreError> {
        match &self.home {
            Home::Postgres(home) => {
                home.run(move |conn| postgres::days::unpartitioned(conn, most))
                    .await
            }
            Home::Sqlite(_) => Ok(0),
        }
    }
}
