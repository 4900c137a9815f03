//! Partitions in SQLite: a prepared statement in a loop. The single writer makes each call atomic.

use diesel::prelude::*;
use diesel::sql_types::{BigInt, Bool, Integer, Nullable, Text};
use hookline_core::delivery::AttemptTask;
use hookline_core::ids::DeliveryId;
use hookline_core::partition::{DispatcherId, Partition, Partitions};
use hookline_core::timestamp::Timestamp;

use crate::backend::sqlite::Conn;
use crate::backend::sqlite::prepared::prepared;
use crate::columns::{UuidColumn, UuidKey};
use crate::error::StoreError;
use crate::partitions::cluster::sqlite as cluster;
use crate::partitions::rows::{PartitionCountsRow, PartitionOwnerRow};
use crate::partitions::{
    ClusterState, DueAttempt, DueQuery, HandOver, Heartbeat, PartitionClaim, PartitionCounts,
    PartitionOwner,
};
use crate::rows::NextAttempt;
use crate::schema::deliveries;

macro_rules! clock {
    () => {
        "CAST(unixepoch('subsec') * 1000000 AS INTEGER)"
    };
}

/// Deaths within the last ten minutes.
macro_rules! deaths {
    () => {
        concat!("iif(died_at > ", clock!(), " - 600000000, deaths, 0)")
    };
}

/// In order.
pub(crate) const PARTITION_OWNERS: &str = concat!(
    "SELECT partition, owner, epoch, ",
    deaths!(),
    " AS deaths, note FROM partitions ORDER BY partition"
);

/// This machine's clock in microseconds since 1970.
pub(crate) const CLOCK: &str = clock!();

#[derive(QueryableByName)]
struct CountRow {
    #[diesel(sql_type = BigInt)]
    count: i64,
}

pub(crate) fn beat(
    conn: &mut Conn,
    beat: Heartbeat,
) -> Result<Option<(ClusterState, Partitions)>, StoreError> {
    let raised = prepared(
        concat!(
            "UPDATE dispatchers SET heartbeat = heartbeat + 1, draining = ?, can_deliver = ?, seen_at = ",
            clock!(),
            " WHERE id = ?"
        ),
        &[
            &beat.draining.into_sql::<Bool>(),
            &beat.can_deliver.into_sql::<Bool>(),
            &UuidKey(beat.id.0).into_sql::<UuidColumn>(),
        ],
    )
    .execute(conn)?;
    if raised == 0 {
        return Ok(None);
    }
    Ok(Some((
        cluster::state(conn, PARTITION_OWNERS)?,
        cluster::count(conn)?,
    )))
}

/// Answers with the partitions that moved.
pub(crate) fn take(
    conn: &mut Conn,
    me: DispatcherId,
    claims: &[PartitionClaim],
) -> Result<Vec<PartitionOwner>, StoreError> {
    let mut taken = Vec::with_capacity(claims.len());
    for claim in claims {
        let holding: Option<PartitionOwnerRow> = prepared(
            concat!(
                "UPDATE partitions
                    SET owner = ?, epoch = epoch + 1,
                        deaths = ",
                deaths!(),
                "        + (owner IS NOT NULL),
                        died_at = iif(owner IS NULL, died_at, ",
                clock!(),
                "        )
                  WHERE partition = ? AND epoch = ? AND owner IS ?
                 RETURNING partition, owner, epoch, deaths, note"
            ),
            &[
                &UuidKey(me.0).into_sql::<UuidColumn>(),
                &i32::from(claim.partition.0).into_sql::<Integer>(),
                &claim.epoch.into_sql::<BigInt>(),
                &claim
                    .owner
                    .map(|owner| UuidKey(owner.0))
                    .into_sql::<Nullable<UuidColumn>>(),
            ],
        )
        .get_result(conn)
        .optional()?;
        taken.extend(holding.map(PartitionOwner::try_from).transpose()?);
    }
    Ok(taken)
}

/// Answers with the partitions that moved. A successor that is not registered does not count.
pub(crate) fn hand_over(
    conn: &mut Conn,
    me: DispatcherId,
    given_up: &[HandOver],
) -> Result<Vec<Partition>, StoreError> {
    let mut moved = Vec::with_capacity(given_up.len());
    for one in given_up {
        let rows = prepared(
            "UPDATE partitions
                SET owner = (SELECT id FROM dispatchers WHERE id = ?), epoch = epoch + 1, note = ?
              WHERE partition = ? AND epoch = ? AND owner = ?",
            &[
                &one.to
                    .map(|to| UuidKey(to.0))
                    .into_sql::<Nullable<UuidColumn>>(),
                &one.note.as_str().into_sql::<Text>(),
                &i32::from(one.partition.0).into_sql::<Integer>(),
                &one.epoch.into_sql::<BigInt>(),
                &UuidKey(me.0).into_sql::<UuidColumn>(),
            ],
        )
        .execute(conn)?;
        if rows == 1 {
            moved.push(one.partition);
        }
    }
    Ok(moved)
}

/// The longest due come first.
pub(crate) fn look(conn: &mut Conn, look: &DueQuery) -> Result<Vec<DueAttempt>, StoreError> {
    let mut found = Vec::new();
    for into in &look.partitions {
        let due = || {
            deliveries::table
                .filter(deliveries::partition.eq(i32::from(into.partition.0)))
                .filter(deliveries::due.ge(into.floor.unix_micros()))
                .filter(deliveries::due.le(look.until.unix_micros()))
                .filter(deliveries::backlog.is_null())
                .select((
                    deliveries::id,
                    deliveries::subscription_id,
                    deliveries::generation,
                    deliveries::attempts,
                    deliveries::due,
                ))
        };
        let mut rows: Vec<(UuidKey, i64, i32, i32, Option<i64>)> = due()
            .order(deliveries::due)
            .limit(i64::from(into.limit))
            .load(conn)?;
        if into.newest > 0 {
            let newest = due()
                .order(deliveries::due.desc())
                .limit(i64::from(into.newest));
            rows.extend(newest.load::<(UuidKey, i64, i32, i32, Option<i64>)>(conn)?);
        }
        let due = |(id, subscription_id, generation, attempts, due): (_, _, _, _, Option<i64>)| {
            let next = NextAttempt {
                id,
                subscription_id,
                generation,
                attempts,
            };
            DueAttempt {
                task: AttemptTask::from(next),
                partition: into.partition,
                due: due.map_or(into.floor, Timestamp::from_unix_micros),
            }
        };
        found.extend(rows.into_iter().map(due));
    }
    found.sort_by_key(|one| (one.due, one.task.delivery));
    found.dedup_by_key(|one| one.task.delivery);
    Ok(found)
}

pub(crate) fn count_due(conn: &mut Conn, now: Timestamp, most: u64) -> Result<u64, StoreError> {
    let counted: CountRow = prepared(
        "SELECT count(*) AS count FROM (
             SELECT 1 FROM partitions p CROSS JOIN deliveries d
              WHERE d.partition = p.partition AND d.due <= ? AND d.backlog IS NULL LIMIT ?)",
        &[
            &now.unix_micros().into_sql::<BigInt>(),
            &i64::try_from(most).unwrap_or(i64::MAX).into_sql::<BigInt>(),
        ],
    )
    .get_result(conn)?;
    Ok(counted.count.unsigned_abs())
}

/// Due rows come first, so one search counts due and later rows.
pub(crate) fn totals(conn: &mut Conn, now: Timestamp) -> Result<Vec<PartitionCounts>, StoreError> {
    let most = i64::try_from(PartitionCounts::MOST).unwrap_or(i64::MAX);
    let mut totals = Vec::new();
    for Partition(number) in cluster::count(conn)?.all() {
        let (partition, now) = (i32::from(number), now.unix_micros());
        let counted: PartitionCountsRow = prepared(
            "SELECT ? AS partition, count(*) FILTER (WHERE due <= ?) AS due,
                    count(*) FILTER (WHERE due > ?) AS later,
                    (SELECT count(*) FROM (SELECT 1 FROM deliveries
                                            WHERE partition = ? AND due IS NOT NULL AND backlog IS NOT NULL
                                            LIMIT ?)) AS backlog
               FROM (SELECT due FROM deliveries
                      WHERE partition = ? AND due IS NOT NULL AND backlog IS NULL ORDER BY due LIMIT ?)",
            &[
                &partition.into_sql::<Integer>(),
                &now.into_sql::<BigInt>(),
                &now.into_sql::<BigInt>(),
                &partition.into_sql::<Integer>(),
                &most.into_sql::<BigInt>(),
                &partition.into_sql::<Integer>(),
                &most.into_sql::<BigInt>(),
            ],
        )
        .get_result(conn)?;
        totals.push(PartitionCounts::try_from(counted)?);
    }
    Ok(totals)
}

/// Answers with the number that moved.
pub(crate) fn repartition_deliveries(
    conn: &mut Conn,
    ids: Vec<DeliveryId>,
) -> Result<usize, StoreError> {
    let mut moved = 0;
    for id in ids {
        moved += prepared(
            "UPDATE deliveries SET partition = subscription_id % n.count
               FROM (SELECT count FROM partitioning WHERE id = 1) n
              WHERE id = ? AND state = 'pending' AND partition <> subscription_id % n.count",
            &[&UuidKey(id.0).into_sql::<UuidColumn>()],
        )
        .execute(conn)?;
    }
    Ok(moved)
}
