//! Partitions in PostgreSQL, each call in one statement: a heartbeat has one second for all its calls.

use diesel::prelude::*;
use diesel::sql_types::{Array, BigInt, Bool, Integer, Nullable, Text};
use hookline_core::delivery::AttemptTask;
use hookline_core::ids::DeliveryId;
use hookline_core::partition::{DispatcherId, Partition, Partitions};
use hookline_core::timestamp::Timestamp;

use crate::backend::postgres::Conn;
use crate::backend::postgres::unnest::{BulkStatement, UnnestRows};
use crate::columns::{UuidColumn, UuidKey};
use crate::error::StoreError;
use crate::partitions::rows::{PartitionCountsRow, PartitionOwnerRow, read_count, read_partition};
use crate::partitions::{
    ClusterState, DueAttempt, DueQuery, HandOver, Heartbeat, PartitionClaim, PartitionCounts,
    PartitionOwner, RegisteredDispatcher,
};
use crate::rows::NextAttempt;

#[cfg(test)]
mod tests;

macro_rules! clock {
    () => {
        "(extract(epoch FROM clock_timestamp()) * 1000000)::bigint"
    };
}

/// Deaths within the last ten minutes.
macro_rules! deaths {
    () => {
        concat!(
            "CASE WHEN p.died_at > ",
            clock!(),
            " - 600000000 THEN p.deaths ELSE 0 END"
        )
    };
}

/// Locks the given partitions in one order.
macro_rules! locked {
    () => {
        ", locked AS (
             SELECT p.partition FROM partitions p JOIN given g ON g.partition = p.partition
              ORDER BY p.partition FOR NO KEY UPDATE OF p
         ) "
    };
}

/// In order.
pub(crate) const PARTITION_OWNERS: &str = concat!(
    "SELECT p.partition, p.owner, p.epoch, ",
    deaths!(),
    " AS deaths, p.note FROM partitions p ORDER BY p.partition"
);

/// The database's clock in microseconds since 1970.
pub(crate) const CLOCK: &str = clock!();

/// A dispatcher, or a partition where `holding` is set.
#[derive(QueryableByName)]
struct RosterRow {
    #[diesel(sql_type = Integer)]
    count: i32,
    #[diesel(sql_type = Bool)]
    is_dispatcher: bool,
    #[diesel(sql_type = Bool)]
    draining: bool,
    #[diesel(sql_type = Bool)]
    can_deliver: bool,
    #[diesel(embed)]
    holding: PartitionOwnerRow,
}

#[derive(QueryableByName)]
struct MovedPartition {
    #[diesel(sql_type = Integer)]
    partition: i32,
}

#[derive(QueryableByName)]
struct FoundRow {
    #[diesel(embed)]
    next: NextAttempt,
    #[diesel(sql_type = Integer)]
    partition: i32,
    #[diesel(sql_type = BigInt)]
    due: i64,
}

#[derive(QueryableByName)]
struct CountRow {
    #[diesel(sql_type = BigInt)]
    count: i64,
}

/// One statement, so that it reads one snapshot.
pub(crate) fn beat(
    conn: &mut Conn,
    beat: Heartbeat,
) -> Result<Option<(ClusterState, Partitions)>, StoreError> {
    let rows: Vec<RosterRow> = UnnestRows::default()
        .column::<UuidColumn, _>("id", [UuidKey(beat.id.0)])
        .column::<Bool, _>("draining", [beat.draining])
        .column::<Bool, _>("can_deliver", [beat.can_deliver])
        .in_statement(concat!(
            ", mine AS (
                 UPDATE dispatchers d
                    SET heartbeat = d.heartbeat + 1, draining = g.draining, can_deliver = g.can_deliver, seen_at = ",
            clock!(),
            "  FROM given g WHERE d.id = g.id
                RETURNING d.id, d.heartbeat, d.draining, d.can_deliver
             ), everyone AS (
                 SELECT id, heartbeat, draining, can_deliver FROM mine
                  UNION ALL
                 SELECT d.id, d.heartbeat, d.draining, d.can_deliver FROM dispatchers d, mine m WHERE d.id <> m.id
             ), cluster_state AS (
                 SELECT TRUE AS is_dispatcher, draining, can_deliver, 0 AS partition, id AS owner,
                        heartbeat AS epoch, 0 AS deaths, '' AS note
                   FROM everyone
                  UNION ALL
                 SELECT FALSE, FALSE, FALSE, p.partition, p.owner, p.epoch, ",
            deaths!(),
            ", p.note FROM partitions p, mine
             )
             SELECT cluster_state.*, p.count FROM cluster_state, partitioning p ORDER BY cluster_state.partition",
        ))
        .load(conn)?;
    let Some(count) = rows.first().map(|row| row.count) else {
        return Ok(None);
    };
    let mut cluster_state = ClusterState {
        dispatchers: Vec::new(),
        partitions: Vec::with_capacity(rows.len()),
    };
    for row in rows {
        let holding = PartitionOwner::try_from(row.holding)?;
        match (row.is_dispatcher, holding.owner) {
            (true, Some(id)) => cluster_state.dispatchers.push(RegisteredDispatcher {
                id,
                heartbeat: holding.epoch,
                draining: row.draining,
                can_deliver: row.can_deliver,
            }),
            _ => cluster_state.partitions.push(holding),
        }
    }
    Ok(Some((cluster_state, read_count(count)?)))
}

/// Answers with the partitions that moved. Another owner that is still in the row has died.
pub(crate) fn take(
    conn: &mut Conn,
    me: DispatcherId,
    claims: &[PartitionClaim],
) -> Result<Vec<PartitionOwner>, StoreError> {
    let taken: Vec<PartitionOwnerRow> = UnnestRows::default()
        .column::<Integer, _>(
            "partition",
            claims.iter().map(|one| i32::from(one.partition.0)),
        )
        .column::<Nullable<UuidColumn>, _>("owner", claims.iter().map(|one| one.owner.map(key_of)))
        .column::<BigInt, _>("epoch", claims.iter().map(|one| one.epoch))
        .column::<UuidColumn, _>("me", claims.iter().map(|_| key_of(me)))
        .in_statement(concat!(
            locked!(),
            "UPDATE partitions p
                SET owner = g.me, epoch = p.epoch + 1,
                    deaths = ",
            deaths!(),
            "        + CASE WHEN p.owner <> g.me THEN 1 ELSE 0 END,
                    died_at = CASE WHEN p.owner <> g.me THEN ",
            clock!(),
            " ELSE p.died_at END
               FROM given g JOIN locked l ON l.partition = g.partition
              WHERE p.partition = g.partition AND p.epoch = g.epoch
                AND p.owner IS NOT DISTINCT FROM g.owner
             RETURNING p.partition, p.owner, p.epoch, p.deaths, p.note"
        ))
        .load(conn)?;
    taken.into_iter().map(PartitionOwner::try_from).collect()
}

/// Answers with the partitions that moved. A successor that is not registered does not count.
pub(crate) fn hand_over(
    conn: &mut Conn,
    me: DispatcherId,
    given_up: &[HandOver],
) -> Result<Vec<Partition>, StoreError> {
    let moved: Vec<MovedPartition> = UnnestRows::default()
        .column::<Integer, _>(
            "partition",
            given_up.iter().map(|one| i32::from(one.partition.0)),
        )
        .column::<BigInt, _>("epoch", given_up.iter().map(|one| one.epoch))
        .column::<Nullable<UuidColumn>, _>(
            "successor",
            given_up.iter().map(|one| one.to.map(key_of)),
        )
        .column::<Text, _>("note", given_up.iter().map(|one| one.note.as_str()))
        .column::<UuidColumn, _>("me", given_up.iter().map(|_| key_of(me)))
        .in_statement(concat!(
            locked!(),
            "UPDATE partitions p
                SET owner = (SELECT d.id FROM dispatchers d WHERE d.id = g.successor),
                    epoch = p.epoch + 1, note = g.note
               FROM given g JOIN locked l ON l.partition = g.partition
              WHERE p.partition = g.partition AND p.epoch = g.epoch AND p.owner = g.me
             RETURNING p.partition"
        ))
        .load(conn)?;
    let moved = moved.into_iter();
    moved.map(|moved| read_partition(moved.partition)).collect()
}

/// The longest due come first.
pub(crate) fn look(conn: &mut Conn, look: &DueQuery) -> Result<Vec<DueAttempt>, StoreError> {
    if look.partitions.is_empty() {
        return Ok(Vec::new());
    }
    let found: Vec<FoundRow> = looking(look).load(conn)?;
    let read = |row: FoundRow| {
        Ok(DueAttempt {
            task: AttemptTask::from(row.next),
            partition: read_partition(row.partition)?,
            due: Timestamp::from_unix_micros(row.due),
        })
    };
    let mut found = found
        .into_iter()
        .map(read)
        .collect::<Result<Vec<_>, StoreError>>()?;
    found.sort_by_key(|one| (one.due, one.task.delivery));
    found.dedup_by_key(|one| one.task.delivery);
    Ok(found)
}

/// One index search for each partition.
fn looking(look: &DueQuery) -> BulkStatement<'static> {
    let until = look.until.unix_micros();
    let into = &look.partitions;
    UnnestRows::default()
        .column::<Integer, _>(
            "partition",
            into.iter().map(|one| i32::from(one.partition.0)),
        )
        .column::<BigInt, _>("since", into.iter().map(|one| one.floor.unix_micros()))
        .column::<BigInt, _>("until", into.iter().map(|_| until))
        .column::<BigInt, _>("most", into.iter().map(|one| i64::from(one.limit)))
        .column::<BigInt, _>("newest", into.iter().map(|one| i64::from(one.newest)))
        .in_statement(
            "SELECT found.* FROM given CROSS JOIN LATERAL (
                 (SELECT d.id, d.subscription_id, d.generation, d.attempts, d.partition, d.due
                    FROM deliveries d
                   WHERE d.partition = given.partition AND d.due BETWEEN given.since AND given.until
                     AND d.backlog IS NULL
                   ORDER BY d.due LIMIT given.most)
                 UNION ALL
                 (SELECT d.id, d.subscription_id, d.generation, d.attempts, d.partition, d.due
                    FROM deliveries d
                   WHERE d.partition = given.partition AND d.due BETWEEN given.since AND given.until
                     AND d.backlog IS NULL
                   ORDER BY d.due DESC LIMIT given.newest)
             ) found",
        )
}

pub(crate) fn count_due(conn: &mut Conn, now: Timestamp, most: u64) -> Result<u64, StoreError> {
    let counted: CountRow = counting(now, most).get_result(conn)?;
    Ok(counted.count.unsigned_abs())
}

/// Without the inner ORDER BY, the planner may read all due rows of a partition before it stops. Without the lower bound,
/// statistics from quiet times make it read every index of pending deliveries.
fn counting(now: Timestamp, most: u64) -> BulkStatement<'static> {
    let most = i64::try_from(most).unwrap_or(i64::MAX);
    UnnestRows::default()
        .column::<BigInt, _>("since", [i64::MIN])
        .column::<BigInt, _>("now", [now.unix_micros()])
        .column::<BigInt, _>("most", [most])
        .in_statement(
            "SELECT count(*) AS count FROM (
                 SELECT FROM given g CROSS JOIN partitions p CROSS JOIN LATERAL (
                     SELECT FROM deliveries d
                      WHERE d.partition = p.partition AND d.due BETWEEN g.since AND g.now
                        AND d.backlog IS NULL
                      ORDER BY d.due LIMIT g.most
                 ) due LIMIT (SELECT most FROM given)
             ) counted",
        )
}

/// Due rows come first, so one search counts due and later rows. Its bounds are for the planner, as in [`counting`].
pub(crate) fn totals(conn: &mut Conn, now: Timestamp) -> Result<Vec<PartitionCounts>, StoreError> {
    let most = i64::try_from(PartitionCounts::MOST).unwrap_or(i64::MAX);
    let totals: Vec<PartitionCountsRow> = UnnestRows::default()
        .column::<BigInt, _>("since", [i64::MIN])
        .column::<BigInt, _>("until", [i64::MAX])
        .column::<BigInt, _>("now", [now.unix_micros()])
        .column::<BigInt, _>("most", [most])
        .in_statement(
            "SELECT p.partition, counted.*, waiting.* FROM given g CROSS JOIN partitions p CROSS JOIN LATERAL (
                 SELECT count(*) FILTER (WHERE pending.due <= g.now) AS due,
                        count(*) FILTER (WHERE pending.due > g.now) AS later
                   FROM (SELECT d.due FROM deliveries d
                          WHERE d.partition = p.partition AND d.due BETWEEN g.since AND g.until
                            AND d.backlog IS NULL
                          ORDER BY d.due LIMIT g.most) pending
             ) counted CROSS JOIN LATERAL (
                 SELECT count(*) AS backlog
                   FROM (SELECT FROM deliveries d
                          WHERE d.partition = p.partition AND d.backlog IS NOT NULL AND d.due IS NOT NULL
                          ORDER BY d.subscription_id LIMIT g.most) marked
             ) waiting ORDER BY p.partition",
        )
        .load(conn)?;
    totals.into_iter().map(PartitionCounts::try_from).collect()
}

/// Answers with the number that moved.
pub(crate) fn repartition_deliveries(
    conn: &mut Conn,
    ids: Vec<DeliveryId>,
) -> Result<usize, StoreError> {
    let keys: Vec<UuidKey> = ids.into_iter().map(|id| UuidKey(id.0)).collect();
    // Locked in the order of ids, as in `recording`.
    let moved = diesel::sql_query(
        "WITH locked AS (
             SELECT d.id FROM deliveries d WHERE d.id = ANY ($1) ORDER BY d.id FOR NO KEY UPDATE
         ), by_number AS (
             SELECT count FROM partitioning WHERE id = 1
         )
         UPDATE deliveries d SET partition = d.subscription_id % n.count
           FROM locked l, by_number n
          WHERE d.id = l.id AND d.state = 'pending' AND d.partition <> d.subscription_id % n.count",
    )
    .bind::<Array<UuidColumn>, _>(keys)
    .execute(conn)?;
    Ok(moved)
}

fn key_of(id: DispatcherId) -> UuidKey {
    UuidKey(id.0)
}
