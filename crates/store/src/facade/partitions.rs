//! Partitions: dispatchers, the partitions that each of them owns, and the deliveries that are due in them.

use std::time::Duration;

use hookline_core::ids::DeliveryId;
use hookline_core::partition::{DispatcherId, Partition, Partitions};
use hookline_core::timestamp::Timestamp;

use super::{Home, Store, run};
use crate::error::StoreError;
use crate::records::{Beat, Due, HandOver, Holding, Look, PartitionClaim, PartitionTotals, Roster};
use crate::{postgres, sqlite};

/// How many deliveries a statement moves to another partition.
const REFILED_AT_ONCE: u32 = 1_000;

impl Store {
    /// How many partitions there are.
    pub async fn partitions(&self) -> Result<Partitions, StoreError> {
        run!(self, read, |conn, q| q::partitions::count(conn))
    }

    /// Registers a dispatcher that starts, and forgets those without a beat for a day.
    pub async fn register_dispatcher(&self, id: DispatcherId) -> Result<(), StoreError> {
        run!(self, write, |conn, q| q::partitions::register(conn, id))
    }

    /// Raises a dispatcher's beat; None where it is not registered any more.
    pub async fn beat(&self, beat: Beat) -> Result<Option<(Roster, Partitions)>, StoreError> {
        run!(self, write, |conn, q| q::partitions::beat(conn, beat))
    }

    /// All dispatchers and partitions, for a command.
    pub async fn roster(&self) -> Result<Roster, StoreError> {
        run!(self, read, |conn, q| q::partitions::roster(conn))
    }

    /// How long ago each dispatcher gave its last sign of life, for a command. Empty in a folder, whose dispatcher gives
    /// none after its start.
    pub async fn silences(&self) -> Result<Vec<(DispatcherId, Duration)>, StoreError> {
        if matches!(self.home, Home::Sqlite(_)) {
            return Ok(Vec::new());
        }
        run!(self, read, |conn, q| q::partitions::silences(conn))
    }

    /// Takes partitions where owner and epoch are still as they were observed, and answers with those. An owner that is
    /// still in the row has died: it counts as a death within the next ten minutes.
    pub async fn take_partitions(
        &self,
        me: DispatcherId,
        claims: Vec<PartitionClaim>,
    ) -> Result<Vec<Holding>, StoreError> {
        run!(self, write, |conn, q| q::partitions::take(
            conn, me, &claims
        ))
    }

    /// Gives up partitions where `me` still owns them in that epoch, and answers with those. A successor that is not
    /// registered gets nothing: the partition is free then.
    pub async fn hand_over(
        &self,
        me: DispatcherId,
        given_up: Vec<HandOver>,
    ) -> Result<Vec<Partition>, StoreError> {
        run!(self, write, |conn, q| q::partitions::hand_over(
            conn, me, &given_up
        ))
    }

    /// Replaces the note of a partition; false where its epoch is another one.
    pub async fn note(
        &self,
        partition: Partition,
        epoch: i64,
        note: String,
    ) -> Result<bool, StoreError> {
        run!(self, write, |conn, q| q::partitions::note(
            conn, partition, epoch, &note
        ))
    }

    /// Forgets a dispatcher that has given up its partitions.
    pub async fn unregister_dispatcher(&self, id: DispatcherId) -> Result<(), StoreError> {
        run!(self, write, |conn, q| q::partitions::unregister(conn, id))
    }

    /// Deliveries that are due, those that have been due for longest first.
    pub async fn look(&self, look: Look) -> Result<Vec<Due>, StoreError> {
        run!(self, read, |conn, q| q::partitions::look(conn, &look))
    }

    /// How many deliveries are due, up to `most`.
    pub async fn count_due(&self, now: Timestamp, most: u64) -> Result<u64, StoreError> {
        run!(self, read, |conn, q| q::partitions::count_due(
            conn, now, most
        ))
    }

    /// What waits in each partition, in order.
    pub async fn partition_totals(
        &self,
        now: Timestamp,
    ) -> Result<Vec<PartitionTotals>, StoreError> {
        run!(self, read, |conn, q| q::partitions::totals(conn, now))
    }

    /// Announces a change of the number: dispatchers start nothing because of a wake-up until it is made.
    pub async fn announce_resize(&self) -> Result<(), StoreError> {
        run!(self, write, |conn, q| q::partitions::announce_resize(conn))
    }

    /// Changes the number of partitions. Pending deliveries stay in their partitions until [`Store::refile`] and
    /// [`Store::refile_deliveries`] move them.
    pub async fn resize_partitions(&self, count: Partitions) -> Result<(), StoreError> {
        run!(self, write, |conn, q| q::partitions::resize(conn, count))
    }

    /// Moves pending deliveries, `limit` at most, of partitions that do not exist; answers with how many moved.
    pub async fn refile(&self, limit: u32) -> Result<usize, StoreError> {
        run!(self, write, |conn, q| q::partitions::refile(conn, limit))
    }

    /// Moves all pending deliveries of partitions that do not exist; answers with how many moved.
    pub async fn refile_all(&self) -> Result<usize, StoreError> {
        let mut moved = 0;
        loop {
            match self.refile(REFILED_AT_ONCE).await? {
                0 => return Ok(moved),
                rows => moved += rows,
            }
        }
    }

    /// Moves these deliveries to the partitions of their subscriptions, where they are pending; answers with how many
    /// moved.
    pub async fn refile_deliveries(&self, ids: Vec<DeliveryId>) -> Result<usize, StoreError> {
        run!(self, write, |conn, q| q::partitions::refile_deliveries(
            conn, ids
        ))
    }
}
