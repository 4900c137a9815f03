//! Retention: deletion of old rows in short slices.

use hookline_core::retention::TrustedTime;
use hookline_core::timestamp::Timestamp;

use crate::error::StoreError;
use crate::store::{Backend, Store, run};

pub(crate) mod postgres;
pub(crate) mod sql;
pub(crate) mod sqlite;

impl Store {
    /// Advances retention's clock; see [`TrustedTime`].
    pub async fn advance_retention(&self, now: Timestamp) -> Result<TrustedTime, StoreError> {
        run!(self, write, |conn, q: sql| q::advance(conn, now))
    }

    /// Deletes some attempts of days before `day` (days since 1970). Answers with the number of rows or partitions; 0 means
    /// that there are no more, or that another process deletes at the moment.
    pub async fn forget_attempts(&self, day: i64) -> Result<usize, StoreError> {
        run!(self, write, |conn, q: sql| q::forget_attempts(conn, day))
    }

    /// Moves some rows of the roll-up from minutes that ended before `cutoff` into their hours; answers likewise.
    pub async fn fold_stats(&self, cutoff: Timestamp) -> Result<usize, StoreError> {
        run!(self, write, |conn, q: sql| q::fold_stats(conn, cutoff))
    }

    /// Deletes some events received before `cutoff` with their deliveries; answers likewise.
    pub async fn forget_events(&self, cutoff: Timestamp) -> Result<usize, StoreError> {
        run!(self, write, |conn, q: sql| q::forget_events(conn, cutoff))
    }

    /// Erases name and URL of some subscriptions that were deleted before `cutoff`; answers likewise.
    pub async fn forget_deleted_subscriptions(
        &self,
        cutoff: Timestamp,
    ) -> Result<usize, StoreError> {
        run!(self, write, |conn, q: crate::subscriptions::sql| {
            q::forget_deleted(conn, cutoff)
        })
    }

    /// Attempts in the default partition of the log, counted up to `most`. SQLite has no table partitions.
    pub async fn unpartitioned_attempts(&self, most: i64) -> Result<u64, StoreError> {
        match &self.backend {
            Backend::Postgres(backend) => {
                backend
                    .run(move |conn| postgres::unpartitioned(conn, most))
                    .await
            }
            Backend::Sqlite(_) => Ok(0),
        }
    }

    /// Creates the partitions of the log for today and the next days.
    pub async fn prepare_days(&self, now: Timestamp) -> Result<(), StoreError> {
        match &self.backend {
            Backend::Postgres(backend) => {
                backend
                    .run(move |conn| postgres::prepare_days(conn, now))
                    .await
            }
            Backend::Sqlite(_) => Ok(()),
        }
    }
}
