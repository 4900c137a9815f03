//! Owners of partitions, and the deliveries that are due in them.

use std::time::Duration;

use hookline_core::delivery::AttemptTask;
use hookline_core::ids::DeliveryId;
use hookline_core::partition::{DispatcherId, Partition, Partitions};
use hookline_core::timestamp::Timestamp;

use crate::error::StoreError;
use crate::store::{Backend, Store, run};

pub(crate) mod cluster;
pub(crate) mod postgres;
pub(crate) mod rows;
pub(crate) mod sql;
pub(crate) mod sqlite;

#[derive(Debug, Clone, Copy)]
pub struct Heartbeat {
    pub id: DispatcherId,
    /// The process is shutting down: it claims no partition, and others do not count it.
    pub draining: bool,
    /// False while its writes fail, or it can reach no receiver.
    pub can_deliver: bool,
}

/// All dispatchers and partitions, as a heartbeat reads them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClusterState {
    pub dispatchers: Vec<RegisteredDispatcher>,
    /// In order.
    pub partitions: Vec<PartitionOwner>,
}

/// It may be dead.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RegisteredDispatcher {
    pub id: DispatcherId,
    /// Raised by one with each heartbeat.
    pub heartbeat: i64,
    pub draining: bool,
    pub can_deliver: bool,
}

/// A partition and its owner.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartitionOwner {
    pub partition: Partition,
    pub owner: Option<DispatcherId>,
    /// Raised by one whenever the owner changes.
    pub epoch: i64,
    /// Consecutive owners that died without a hand-over, each within ten minutes after the one before.
    pub deaths: u32,
    /// Requests of an earlier owner that may be in flight: JSON, or empty.
    pub note: String,
}

/// A partition as it was observed. The claim succeeds if owner and epoch are still the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PartitionClaim {
    pub partition: Partition,
    pub owner: Option<DispatcherId>,
    pub epoch: i64,
}

/// A partition that its owner releases.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HandOver {
    pub partition: Partition,
    pub epoch: i64,
    /// The new owner. None: any dispatcher may claim it.
    pub to: Option<DispatcherId>,
    pub note: String,
}

#[derive(Debug, Clone)]
pub struct DueQuery {
    pub partitions: Vec<PartitionRange>,
    /// Inclusive.
    pub until: Timestamp,
}

#[derive(Debug, Clone, Copy)]
pub struct PartitionRange {
    pub partition: Partition,
    /// Rows that are due earlier are skipped.
    pub floor: Timestamp,
    /// The longest due come first.
    pub limit: u32,
    /// And this number of the most recently due rows.
    pub newest: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DueAttempt {
    pub task: AttemptTask,
    pub partition: Partition,
    pub due: Timestamp,
}

/// Waiting deliveries of a partition. Each count stops at [`PartitionCounts::MOST`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PartitionCounts {
    pub partition: Partition,
    /// Deliveries that are due now and not in the backlog.
    pub due: u64,
    /// Due deliveries that are in the backlog.
    pub backlog: u64,
    /// Deliveries that are due later.
    pub later: u64,
}

impl PartitionCounts {
    /// The largest count that is exact.
    pub const MOST: u64 = 10_000;
}

/// Deliveries that one statement moves to another partition.
const REPARTITION_BATCH: u32 = 1_000;

impl Store {
    pub async fn partitions(&self) -> Result<Partitions, StoreError> {
        run!(self, read, |conn, q: sql| q::count(conn))
    }

    /// Also deletes dispatchers without a heartbeat for a day.
    pub async fn register_dispatcher(&self, id: DispatcherId) -> Result<(), StoreError> {
        run!(self, write, |conn, q: sql| q::register(conn, id))
    }

    /// None where the dispatcher is no longer registered.
    pub async fn beat(
        &self,
        beat: Heartbeat,
    ) -> Result<Option<(ClusterState, Partitions)>, StoreError> {
        run!(self, write, |conn, q: sql| q::beat(conn, beat))
    }

    pub async fn cluster_state(&self) -> Result<ClusterState, StoreError> {
        run!(self, read, |conn, q: sql| q::cluster_state(conn))
    }

    /// The time since each dispatcher's last heartbeat. Empty in a folder, because its dispatcher has none after its start.
    pub async fn heartbeat_ages(&self) -> Result<Vec<(DispatcherId, Duration)>, StoreError> {
        if matches!(self.backend, Backend::Sqlite(_)) {
            return Ok(Vec::new());
        }
        run!(self, read, |conn, q: sql| q::heartbeat_ages(conn))
    }

    /// Returns the partitions that were claimed. An owner that is still in the row has died: it counts in `deaths`
    /// for ten minutes.
    pub async fn claim_partitions(
        &self,
        me: DispatcherId,
        claims: Vec<PartitionClaim>,
    ) -> Result<Vec<PartitionOwner>, StoreError> {
        run!(self, write, |conn, q: sql| q::take(conn, me, &claims))
    }

    /// Releases partitions that `me` still owns in that epoch, and answers with these. Where the successor is not
    /// registered, the partition is free.
    pub async fn hand_over(
        &self,
        me: DispatcherId,
        given_up: Vec<HandOver>,
    ) -> Result<Vec<Partition>, StoreError> {
        run!(self, write, |conn, q: sql| q::hand_over(
            conn, me, &given_up
        ))
    }

    /// False where the partition has another epoch.
    pub async fn note(
        &self,
        partition: Partition,
        epoch: i64,
        note: String,
    ) -> Result<bool, StoreError> {
        run!(self, write, |conn, q: sql| q::note(
            conn, partition, epoch, &note
        ))
    }

    pub async fn unregister_dispatcher(&self, id: DispatcherId) -> Result<(), StoreError> {
        run!(self, write, |conn, q: sql| q::unregister(conn, id))
    }

    /// The longest due come first.
    pub async fn look(&self, look: DueQuery) -> Result<Vec<DueAttempt>, StoreError> {
        run!(self, read, |conn, q: sql| q::look(conn, &look))
    }

    /// Counts up to `most`.
    pub async fn count_due(&self, now: Timestamp, most: u64) -> Result<u64, StoreError> {
        run!(self, read, |conn, q: sql| q::count_due(conn, now, most))
    }

    /// In the order of partitions.
    pub async fn partition_counts(
        &self,
        now: Timestamp,
    ) -> Result<Vec<PartitionCounts>, StoreError> {
        run!(self, read, |conn, q: sql| q::totals(conn, now))
    }

    /// Announces a change of the number: until it is made, dispatchers ignore wake-ups.
    pub async fn announce_resize(&self) -> Result<(), StoreError> {
        run!(self, write, |conn, q: sql| q::announce_resize(conn))
    }

    /// Changes the number of partitions. Pending deliveries stay in their partitions until [`Store::refile`] and
    /// [`Store::repartition_deliveries`] move them.
    pub async fn resize_partitions(&self, count: Partitions) -> Result<(), StoreError> {
        run!(self, write, |conn, q: sql| q::resize(conn, count))
    }

    /// Moves up to `limit` pending deliveries of partitions that do not exist. Answers with the number.
    pub async fn refile(&self, limit: u32) -> Result<usize, StoreError> {
        run!(self, write, |conn, q: sql| q::refile(conn, limit))
    }

    /// The same for all such deliveries.
    pub async fn repartition_all(&self) -> Result<usize, StoreError> {
        let mut moved = 0;
        loop {
            match self.refile(REPARTITION_BATCH).await? {
                0 => return Ok(moved),
                rows => moved += rows,
            }
        }
    }

    /// Moves these pending deliveries to the partitions of their subscriptions. Answers with the number that moved.
    pub async fn repartition_deliveries(&self, ids: Vec<DeliveryId>) -> Result<usize, StoreError> {
        run!(self, write, |conn, q: sql| q::repartition_deliveries(
            conn, ids
        ))
    }
}
