//! Backlog: due deliveries that wait for their subscription's turn, and circuit breakers that are not closed.

use std::collections::HashSet;

use hookline_core::delivery::OwedAttempt;
use hookline_core::ids::DeliveryId;
use hookline_core::timestamp::Timestamp;

use super::{Home, Store, run};
use crate::error::StoreError;
use crate::records::{BacklogRead, BacklogRow, Backlogged, BreakerChange};
use crate::{postgres, sqlite};

impl Store {
    /// Marks deliveries as backlog where they are still owed, due by `now` and no test; answers with those that are in
    /// the backlog then. The mark does not change when they are due, and their next attempt removes it.
    pub async fn mark_backlog(
        &self,
        owed: Vec<OwedAttempt>,
        now: Timestamp,
    ) -> Result<HashSet<DeliveryId>, StoreError> {
        run!(self, write, |conn, q| q::backlog::mark(conn, owed, now))
    }

    /// The next rows of each of these backlogs that are due by `now`, in order.
    pub async fn read_backlog(
        &self,
        reads: Vec<BacklogRead>,
        now: Timestamp,
    ) -> Result<Vec<BacklogRow>, StoreError> {
        run!(self, read, |conn, q| q::backlog::read(conn, &reads, now))
    }

    /// Subscriptions with backlog, in order, behind `after`: [`Backlogged::MOST`] at most.
    pub async fn list_backlog(
        &self,
        after: Option<Backlogged>,
    ) -> Result<Vec<Backlogged>, StoreError> {
        run!(self, read, |conn, q| q::backlog::list(conn, after))
    }

    /// Writes changes of circuit breakers, one for a subscription at most.
    pub async fn write_breakers(
        &self,
        changes: Vec<BreakerChange>,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        run!(self, write, |conn, q| q::backlog::write_breakers(
            conn, changes, now
        ))
    }

    /// All circuit breakers that are not closed.
    pub async fn breakers(&self) -> Result<Vec<BreakerChange>, StoreError> {
        run!(self, read, |conn, q| q::backlog::breakers(conn))
    }

    /// Moves the backlog of a subscription to the partition that is its own; answers with how many deliveries moved.
    pub async fn refile_backlog(&self, listed: Backlogged) -> Result<usize, StoreError> {
        run!(self, write, |conn, q| q::backlog::refile(conn, listed))
    }
}
