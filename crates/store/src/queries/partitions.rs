//! Owners of partitions. A partition is taken and given up by compare-and-set on its owner and epoch. All times are
//! the store's clock.

use std::time::Duration;

use diesel::dsl::sql;
use diesel::prelude::*;
use diesel::sql_types::{BigInt, Integer, Nullable, Text};
use hookline_core::ids::DeliveryId;
use hookline_core::partition::{DispatcherId, Partition, Partitions};

use super::super::Conn;
pub(crate) use super::super::partitions::{
    CLOCK, HOLDINGS, beat, count_due, hand_over, look, refile_deliveries, take, totals,
};
use super::ROWS;
use crate::columns::{Key, Uid};
use crate::error::StoreError;
use crate::records::{Holding, PartitionTotals, RegisteredDispatcher, Roster};
use crate::schema::{deliveries, dispatchers, partitioning, partitions};

/// A dispatcher that gave no sign of life for so long is forgotten (microseconds).
const FORGOTTEN_AFTER: i64 = 86_400_000_000;

/// A row of `partitions`; `deaths` is 0 where the last was too long ago.
#[derive(QueryableByName)]
pub(crate) struct HoldingRow {
    #[diesel(sql_type = Integer)]
    partition: i32,
    #[diesel(sql_type = Nullable<Uid>)]
    owner: Option<Key>,
    #[diesel(sql_type = BigInt)]
    epoch: i64,
    #[diesel(sql_type = Integer)]
    deaths: i32,
    #[diesel(sql_type = Text)]
    note: String,
}

impl TryFrom<HoldingRow> for Holding {
    type Error = StoreError;

    fn try_from(row: HoldingRow) -> Result<Self, StoreError> {
        Ok(Self {
            partition: read_partition(row.partition)?,
            owner: row.owner.map(|owner| DispatcherId(owner.0)),
            epoch: row.epoch,
            deaths: row.deaths.unsigned_abs(),
            note: row.note,
        })
    }
}

#[derive(QueryableByName)]
pub(crate) struct TotalsRow {
    #[diesel(sql_type = Integer)]
    partition: i32,
    #[diesel(sql_type = BigInt)]
    due: i64,
    #[diesel(sql_type = BigInt)]
    backlog: i64,
    #[diesel(sql_type = BigInt)]
    later: i64,
}

impl TryFrom<TotalsRow> for PartitionTotals {
    type Error = StoreError;

    fn try_from(row: TotalsRow) -> Result<Self, StoreError> {
        Ok(Self {
            partition: read_partition(row.partition)?,
            due: row.due.unsigned_abs(),
            backlog: row.backlog.unsigned_abs(),
            later: row.later.unsigned_abs(),
        })
    }
}

#[derive(Insertable)]
#[diesel(table_name = partitions, treat_none_as_default_value = false)]
struct NewPartition {
    partition: i32,
    epoch: i64,
}

pub(crate) fn read_partition(number: i32) -> Result<Partition, StoreError> {
    u16::try_from(number)
        .map(Partition)
        .map_err(|_| StoreError::Corrupt(format!("partition: {number}")))
}

pub(crate) fn read_count(number: i32) -> Result<Partitions, StoreError> {
    u16::try_from(number)
        .ok()
        .and_then(Partitions::new)
        .ok_or_else(|| StoreError::Corrupt(format!("number of partitions: {number}")))
}

pub(crate) fn count(conn: &mut Conn) -> Result<Partitions, StoreError> {
    let count = partitioning::table.find(1).select(partitioning::count);
    read_count(count.first(conn)?)
}

pub(crate) fn register(conn: &mut Conn, id: DispatcherId) -> Result<(), StoreError> {
    conn.transaction(|conn| {
        let now = clock(conn)?;
        diesel::delete(dispatchers::table.filter(dispatchers::seen_at.lt(now - FORGOTTEN_AFTER)))
            .execute(conn)?;
        // A registration whose answer was lost is repeated.
        diesel::insert_into(dispatchers::table)
            .values((
                dispatchers::id.eq(Key(id.0)),
                dispatchers::beat.eq(0),
                dispatchers::draining.eq(false),
                dispatchers::able.eq(true),
                dispatchers::seen_at.eq(now),
            ))
            .on_conflict_do_nothing()
            .execute(conn)?;
        Ok(())
    })
}

pub(crate) fn unregister(conn: &mut Conn, id: DispatcherId) -> Result<(), StoreError> {
    diesel::delete(dispatchers::table.find(Key(id.0))).execute(conn)?;
    Ok(())
}

/// All dispatchers and partitions.
pub(crate) fn roster(conn: &mut Conn) -> Result<Roster, StoreError> {
    let registered: Vec<(Key, i64, bool, bool)> = dispatchers::table
        .select((
            dispatchers::id,
            dispatchers::beat,
            dispatchers::draining,
            dispatchers::able,
        ))
        .load(conn)?;
    let held: Vec<HoldingRow> = diesel::sql_query(HOLDINGS).load(conn)?;
    let registered = registered.into_iter();
    let held = held.into_iter().map(Holding::try_from);
    Ok(Roster {
        dispatchers: registered
            .map(|(id, beat, draining, able)| RegisteredDispatcher {
                id: DispatcherId(id.0),
                beat,
                draining,
                able,
            })
            .collect(),
        partitions: held.collect::<Result<_, StoreError>>()?,
    })
}

/// How long ago each dispatcher gave its last sign of life.
pub(crate) fn silences(conn: &mut Conn) -> Result<Vec<(DispatcherId, Duration)>, StoreError> {
    let now = clock(conn)?;
    let seen: Vec<(Key, i64)> = dispatchers::table
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

/// Shows each dispatcher with its next beat that the number is about to change.
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

/// Ends the announcement, too. A partition that is made starts with an epoch that none of that number has had before.
pub(crate) fn resize(conn: &mut Conn, count: Partitions) -> Result<(), StoreError> {
    conn.transaction(|conn| {
        let number = i32::from(count.count());
        diesel::update(partitioning::table.find(1))
            .set(partitioning::count.eq(number))
            .execute(conn)?;
        diesel::delete(partitions::table.filter(partitions::partition.ge(number))).execute(conn)?;
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

/// Files pending deliveries of partitions that are none, some at a time: those of a larger number of partitions, and
/// those that a program of an older version started again.
pub(crate) fn refile(conn: &mut Conn, limit: u32) -> Result<usize, StoreError> {
    conn.transaction(|conn| {
        let first = i32::from(count(conn)?.count());
        let mut found: Vec<DeliveryId> = Vec::new();
        for (from, to) in [(first, i32::MAX), (i32::MIN, -1)] {
            // One index has the backlog, another one what else is due.
            let waiting = deliveries::table
                .filter(deliveries::partition.between(from, to))
                .filter(deliveries::due.is_not_null());
            let room = |found: &[DeliveryId]| {
                i64::from(limit).saturating_sub(i64::try_from(found.len()).unwrap_or(0))
            };
            let keys: Vec<Key> = waiting
                .filter(deliveries::backlog.is_null())
                .order((deliveries::partition, deliveries::due))
                .select(deliveries::id)
                .limit(room(&found))
                .load(conn)?;
            found.extend(keys.into_iter().map(|key| DeliveryId(key.0)));
            let keys: Vec<Key> = waiting
                .filter(deliveries::backlog.is_not_null())
                .order((deliveries::partition, deliveries::subscription_id))
                .select(deliveries::id)
                .limit(room(&found))
                .load(conn)?;
            found.extend(keys.into_iter().map(|key| DeliveryId(key.0)));
        }
        refile_deliveries(conn, found)
    })
}

fn clock(conn: &mut Conn) -> Result<i64, StoreError> {
    Ok(diesel::select(sql::<BigInt>(CLOCK)).get_result(conn)?)
}
