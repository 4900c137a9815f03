//! Queries of partitions. A partition is claimed and released by compare-and-set on its owner and epoch. All times are
//! the store's clock.

use std::time::Duration;

use diesel::dsl::sql;
use diesel::prelude::*;
use diesel::sql_types::BigInt;
use hookline_core::ids::DeliveryId;
use hookline_core::partition::{DispatcherId, Partition, Partitions};

use crate::backend::{ROWS, backends};
use crate::columns::UuidKey;
use crate::error::StoreError;
use crate::partitions::ClusterState;
use crate::schema::{deliveries, dispatchers, partitioning, partitions};

/// A dispatcher without a heartbeat for this time is deleted (microseconds).
const FORGOTTEN_AFTER: i64 = 86_400_000_000;

#[derive(Insertable)]
#[diesel(table_name = partitions, treat_none_as_default_value = false)]
struct NewPartition {
    partition: i32,
    epoch: i64,
}

backends!(
    with {
        cluster: crate::partitions::cluster,
        own: crate::partitions,
    }

    use backend::Conn;
    pub(crate) use cluster::count;
    pub(crate) use own::{
        CLOCK, PARTITION_OWNERS, beat, count_due, hand_over, look, repartition_deliveries, take,
        totals,
    };

    pub(crate) fn register(conn: &mut Conn, id: DispatcherId) -> Result<(), StoreError> {
        conn.transaction(|conn| {
            let now = clock(conn)?;
            diesel::delete(
                dispatchers::table.filter(dispatchers::seen_at.lt(now - FORGOTTEN_AFTER)),
            )
            .execute(conn)?;
            // The caller repeats a registration if its answer was lost.
            diesel::insert_into(dispatchers::table)
                .values((
                    dispatchers::id.eq(UuidKey(id.0)),
                    dispatchers::heartbeat.eq(0),
                    dispatchers::draining.eq(false),
                    dispatchers::can_deliver.eq(true),
                    dispatchers::seen_at.eq(now),
                ))
                .on_conflict_do_nothing()
                .execute(conn)?;
            Ok(())
        })
    }

    pub(crate) fn unregister(conn: &mut Conn, id: DispatcherId) -> Result<(), StoreError> {
        diesel::delete(dispatchers::table.find(UuidKey(id.0))).execute(conn)?;
        Ok(())
    }

    pub(crate) fn cluster_state(conn: &mut Conn) -> Result<ClusterState, StoreError> {
        cluster::state(conn, PARTITION_OWNERS)
    }

    pub(crate) fn heartbeat_ages(
        conn: &mut Conn,
    ) -> Result<Vec<(DispatcherId, Duration)>, StoreError> {
        let now = clock(conn)?;
        let seen: Vec<(UuidKey, i64)> = dispatchers::table
            .select((dispatchers::id, dispatchers::seen_at))
            .load(conn)?;
        let since = |at: i64| Duration::from_micros(u64::try_from(now - at).unwrap_or_default());
        let seen = seen.into_iter();
        Ok(seen
            .map(|(id, at)| (DispatcherId(id.0), since(at)))
            .collect())
    }

    /// False where the partition has another epoch.
    pub(crate) fn note(
        conn: &mut Conn,
        partition: Partition,
        epoch: i64,
        note: &str,
    ) -> Result<bool, StoreError> {
        let of_this_owner = partitions::table
            .find(i32::from(partition.0))
            .filter(partitions::epoch.eq(epoch));
        let noted = diesel::update(of_this_owner)
            .set(partitions::note.eq(note))
            .execute(conn)?;
        Ok(noted == 1)
    }

    /// Each dispatcher sees with its next heartbeat that the number is about to change.
    pub(crate) fn announce_resize(conn: &mut Conn) -> Result<(), StoreError> {
        let announcement = NewPartition {
            partition: i32::from(Partition::CHANGE.0),
            epoch: 0,
        };
        diesel::insert_into(partitions::table)
            .values(announcement)
            .on_conflict_do_nothing()
            .execute(conn)?;
        Ok(())
    }

    /// Also ends the announcement. A new partition starts with an epoch that no partition of that number has had before.
    pub(crate) fn resize(conn: &mut Conn, count: Partitions) -> Result<(), StoreError> {
        conn.transaction(|conn| {
            let number = i32::from(count.count());
            diesel::update(partitioning::table.find(1))
                .set(partitioning::count.eq(number))
                .execute(conn)?;
            diesel::delete(partitions::table.filter(partitions::partition.ge(number)))
                .execute(conn)?;
            let epoch = clock(conn)?;
            let all: Vec<NewPartition> = (0..number)
                .map(|partition| NewPartition { partition, epoch })
                .collect();
            for some in all.chunks(ROWS) {
                diesel::insert_into(partitions::table)
                    .values(some)
                    .on_conflict_do_nothing()
                    .execute(conn)?;
            }
            Ok(())
        })
    }

    /// Moves some pending deliveries of partitions that do not exist: there was a larger number of partitions before.
    pub(crate) fn refile(conn: &mut Conn, limit: u32) -> Result<usize, StoreError> {
        conn.transaction(|conn| {
            let first = i32::from(count(conn)?.count());
            let limit = i64::from(limit);
            let waiting = deliveries::table
                .filter(deliveries::partition.ge(first))
                .filter(deliveries::due.is_not_null());
            let mut keys: Vec<UuidKey> = waiting
                .filter(deliveries::backlog.is_null())
                .order((deliveries::partition, deliveries::due))
                .select(deliveries::id)
                .limit(limit)
                .load(conn)?;
            let room = limit.saturating_sub(i64::try_from(keys.len()).unwrap_or(limit));
            // The backlog has an index of its own.
            let backlog: Vec<UuidKey> = waiting
                .filter(deliveries::backlog.is_not_null())
                .order((deliveries::partition, deliveries::subscription_id))
                .select(deliveries::id)
                .limit(room)
                .load(conn)?;
            keys.extend(backlog);
            let found = keys.into_iter().map(|key| DeliveryId(key.0)).collect();
            repartition_deliveries(conn, found)
        })
    }

    fn clock(conn: &mut Conn) -> Result<i64, StoreError> {
        Ok(diesel::select(sql::<BigInt>(CLOCK)).get_result(conn)?)
    }
);
