//! Backlog: due deliveries that wait for their subscription's turn, and circuit breakers that are not closed.

use std::collections::HashSet;
use std::time::Duration;

use hookline_core::delivery::AttemptTask;
use hookline_core::ids::{DeliveryId, SubscriptionId};
use hookline_core::partition::Partition;
use hookline_core::timestamp::Timestamp;

use crate::error::StoreError;
use crate::store::{Store, run};

pub(crate) mod postgres;
pub(crate) mod rows;
pub(crate) mod sql;
pub(crate) mod sqlite;

/// The class of a delivery in the backlog.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum BacklogClass {
    /// There was no free slot for it. New deliveries of its subscription queue behind it.
    Live,
    /// A replay restarted it. No other delivery queues behind it.
    Replay,
}

impl BacklogClass {
    pub(crate) fn number(self) -> i16 {
        match self {
            BacklogClass::Live => 1,
            BacklogClass::Replay => 2,
        }
    }
}

impl TryFrom<i16> for BacklogClass {
    type Error = StoreError;

    fn try_from(number: i16) -> Result<Self, StoreError> {
        match number {
            1 => Ok(BacklogClass::Live),
            2 => Ok(BacklogClass::Replay),
            other => Err(StoreError::Corrupt(format!("class of backlog: {other}"))),
        }
    }
}

/// A place in the backlog of a subscription: rows are read in the order of `due` and id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct BacklogPosition {
    pub due: Timestamp,
    pub delivery: DeliveryId,
}

/// A search for the next rows in the backlog of a subscription.
#[derive(Debug, Clone, Copy)]
pub struct BacklogRead {
    pub partition: Partition,
    pub subscription: SubscriptionId,
    pub class: BacklogClass,
    /// None reads from the start.
    pub after: Option<BacklogPosition>,
    pub limit: u32,
}

/// A delivery in the backlog.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BacklogRow {
    pub task: AttemptTask,
    pub class: BacklogClass,
    pub due: Timestamp,
}

impl BacklogRow {
    pub fn position(&self) -> BacklogPosition {
        BacklogPosition {
            due: self.due,
            delivery: self.task.delivery,
        }
    }
}

/// A subscription with backlog, as its partition's index lists it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct BacklogSubscription {
    pub partition: Partition,
    pub subscription: SubscriptionId,
    pub class: BacklogClass,
}

impl BacklogSubscription {
    /// Entries in a page of a list.
    pub const MOST: i64 = 1_000;
}

/// A change of a circuit breaker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BreakerChange {
    pub subscription: SubscriptionId,
    /// The wait between two probes; none where the breaker has closed.
    pub wait: Option<Duration>,
}

impl Store {
    /// Marks pending deliveries as backlog that are due by `now` and not tests, and answers with those that are in the
    /// backlog then. The mark does not change the due time; the next attempt removes it.
    pub async fn mark_backlog(
        &self,
        tasks: Vec<AttemptTask>,
        now: Timestamp,
    ) -> Result<HashSet<DeliveryId>, StoreError> {
        run!(self, write, |conn, q: sql| q::mark(conn, tasks, now))
    }

    /// The next rows of each of these backlogs that are due by `now`, in order.
    pub async fn read_backlog(
        &self,
        reads: Vec<BacklogRead>,
        now: Timestamp,
    ) -> Result<Vec<BacklogRow>, StoreError> {
        run!(self, read, |conn, q: sql| q::read(conn, &reads, now))
    }

    /// Subscriptions with backlog, in order, after `after`: [`BacklogSubscription::MOST`] at most.
    pub async fn list_backlog(
        &self,
        after: Option<BacklogSubscription>,
    ) -> Result<Vec<BacklogSubscription>, StoreError> {
        run!(self, read, |conn, q: sql| q::list(conn, after))
    }

    /// Writes changes of circuit breakers, one for a subscription at most.
    pub async fn write_breakers(
        &self,
        changes: Vec<BreakerChange>,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        run!(self, write, |conn, q: sql| q::write_breakers(
            conn, changes, now
        ))
    }

    /// All circuit breakers that are not closed.
    pub async fn breakers(&self) -> Result<Vec<BreakerChange>, StoreError> {
        run!(self, read, |conn, q: sql| q::breakers(conn))
    }

    /// Moves backlog of a subscription to the subscription's partition. Answers with the number of deliveries that moved.
    pub async fn repartition_backlog(
        &self,
        listed: BacklogSubscription,
    ) -> Result<usize, StoreError> {
        run!(self, write, |conn, q: sql| q::refile(conn, listed))
    }
}
