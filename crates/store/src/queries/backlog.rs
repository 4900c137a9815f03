//! Backlog: due deliveries that wait for their subscription's turn. The owner of a subscription marks them, and reads
//! them in the order in which they are due; looks pass over them.

use std::collections::HashSet;
use std::time::Duration;

use diesel::prelude::*;
use diesel::sql_types::{BigInt, Integer, SmallInt};
use hookline_core::delivery::OwedAttempt;
use hookline_core::ids::{DeliveryId, SubscriptionId};
use hookline_core::partition::Partition;
use hookline_core::timestamp::Timestamp;

use super::super::{Conn, backlog};
use super::ROWS;
use super::partitions::{read_partition, refile_deliveries};
use crate::columns::Key;
use crate::error::StoreError;
use crate::records::{BacklogRow, Backlogged, BreakerChange};
use crate::rows::NextAttempt;
use crate::schema::{circuit_breakers, deliveries};

pub(crate) use super::super::backlog::{list, read};

/// A delivery in the backlog.
#[derive(QueryableByName)]
pub(crate) struct Marked {
    #[diesel(embed)]
    next: NextAttempt,
    #[diesel(sql_type = SmallInt)]
    backlog: i16,
    #[diesel(sql_type = BigInt)]
    due: i64,
}

impl TryFrom<Marked> for BacklogRow {
    type Error = StoreError;

    fn try_from(row: Marked) -> Result<Self, StoreError> {
        Ok(Self {
            owed: row.next.into(),
            class: row.backlog.try_into()?,
            due: Timestamp::from_unix_micros(row.due),
        })
    }
}

/// A subscription with backlog.
#[derive(QueryableByName)]
pub(crate) struct Listed {
    #[diesel(sql_type = Integer)]
    partition: i32,
    #[diesel(sql_type = BigInt)]
    subscription_id: i64,
    #[diesel(sql_type = SmallInt)]
    backlog: i16,
}

impl TryFrom<Listed> for Backlogged {
    type Error = StoreError;

    fn try_from(row: Listed) -> Result<Self, StoreError> {
        Ok(Self {
            partition: read_partition(row.partition)?,
            subscription: SubscriptionId(row.subscription_id),
            class: row.backlog.try_into()?,
        })
    }
}

/// In the order of their ids, as `recording` locks them.
pub(crate) fn mark(
    conn: &mut Conn,
    mut owed: Vec<OwedAttempt>,
    now: Timestamp,
) -> Result<HashSet<DeliveryId>, StoreError> {
    owed.sort_unstable_by_key(|one| one.delivery);
    let marked = backlog::mark(conn, &owed, now)?;
    Ok(marked.into_iter().map(|key| DeliveryId(key.0)).collect())
}

/// In the order of their subscriptions, so that two writers wait for one another in no circle.
pub(crate) fn write_breakers(
    conn: &mut Conn,
    mut changes: Vec<BreakerChange>,
    now: Timestamp,
) -> Result<(), StoreError> {
    changes.sort_unstable_by_key(|one| one.subscription);
    let closed: Vec<i64> = changes
        .iter()
        .filter(|one| one.wait.is_none())
        .map(|one| one.subscription.0)
        .collect();
    conn.transaction(|conn| {
        for closed in closed.chunks(ROWS) {
            let closed = circuit_breakers::table
                .filter(circuit_breakers::subscription_id.eq_any(closed.to_vec()));
            diesel::delete(closed).execute(conn)?;
        }
        for BreakerChange { subscription, wait } in &changes {
            let Some(wait) = wait else {
                continue;
            };
            let seconds = i32::try_from(wait.as_secs()).unwrap_or(i32::MAX);
            diesel::insert_into(circuit_breakers::table)
                .values((
                    circuit_breakers::subscription_id.eq(subscription.0),
                    circuit_breakers::opened_at.eq(now.unix_micros()),
                    circuit_breakers::wait_seconds.eq(seconds),
                ))
                .on_conflict(circuit_breakers::subscription_id)
                .do_update()
                .set(circuit_breakers::wait_seconds.eq(seconds))
                .execute(conn)?;
        }
        Ok(())
    })
}

pub(crate) fn breakers(conn: &mut Conn) -> Result<Vec<BreakerChange>, StoreError> {
    let rows: Vec<(i64, i32)> = circuit_breakers::table
        .select((
            circuit_breakers::subscription_id,
            circuit_breakers::wait_seconds,
        ))
        .load(conn)?;
    let breakers = rows
        .into_iter()
        .map(|(subscription, seconds)| BreakerChange {
            subscription: SubscriptionId(subscription),
            wait: Some(Duration::from_secs(u64::from(seconds.unsigned_abs()))),
        });
    Ok(breakers.collect())
}

/// [`ROWS`] at most.
pub(crate) fn refile(conn: &mut Conn, listed: Backlogged) -> Result<usize, StoreError> {
    conn.transaction(|conn| {
        let keys: Vec<Key> = deliveries::table
            .filter(deliveries::partition.eq(i32::from(listed.partition.0)))
            .filter(deliveries::subscription_id.eq(listed.subscription.0))
            .filter(deliveries::backlog.eq(listed.class.number()))
            .filter(deliveries::due.is_not_null())
            .select(deliveries::id)
            .limit(i64::try_from(ROWS).unwrap_or(i64::MAX))
            .load(conn)?;
        let ids = keys.into_iter().map(|key| DeliveryId(key.0));
        refile_deliveries(conn, ids.collect())
    })
}

/// Where a list goes on: behind `after`, or before the first entry.
pub(crate) fn behind(after: Option<Backlogged>) -> (i32, i64, i16) {
    after.map_or((i32::MIN, i64::MIN, 0), |after| {
        let class = after.class.number();
        (number(after.partition), after.subscription.0, class)
    })
}

/// The number of a partition as a column has it.
pub(crate) fn number(Partition(number): Partition) -> i32 {
    i32::from(number)
}
