//! Partitions in one statement each: a beat has a second for all that it asks.

use diesel::prelude::*;
use diesel::sql_types::{Array, BigInt, Bool, Integer, Nullable, Text};
use hookline_core::delivery::OwedAttempt;
use hookline_core::ids::DeliveryId;
use hookline_core::partition::{DispatcherId, Partition, Partitions};
use hookline_core::timestamp::Timestamp;

use super::Conn;
use super::given::{Given, Statement};
use super::queries::partitions::{HoldingRow, TotalsRow, read_count, read_partition};
use crate::columns::{Key, Uid};
use crate::error::StoreError;
use crate::records::{
    Beat, Due, HandOver, Holding, Look, PartitionClaim, PartitionTotals, RegisteredDispatcher,
    Roster,
};
use crate::rows::NextAttempt;

#[cfg(test)]
mod tests;

macro_rules! clock {
    () => {
        "(extract(epoch FROM clock_timestamp()) * 1000000)::bigint"
    };
}

/// Deaths that count still: those of the last ten minutes.
macro_rules! deaths {
    () => {
        concat!(
            "CASE WHEN p.died_at > ",
            clock!(),
            " - 600000000 THEN p.deaths ELSE 0 END"
        )
    };
}

/// The given partitions, locked in one order.
macro_rules! locked {
    () => {
        ", locked AS (
             SELECT p.partition FROM partitions p JOIN given g ON g.partition = p.partition
              ORDER BY p.partition FOR NO KEY UPDATE OF p
         ) "
    };
}

/// All partitions, in order.
pub(crate) const HOLDINGS: &str = concat!(
    "SELECT p.partition, p.owner, p.epoch, ",
    deaths!(),
    " AS deaths, p.note FROM partitions p ORDER BY p.partition"
);

/// The database's clock in microseconds since 1970.
pub(crate) const CLOCK: &str = clock!();

/// A dispatcher or, where `holding` is there, a partition.
#[derive(QueryableByName)]
struct RosterRow {
    #[diesel(sql_type = Integer)]
    count: i32,
    #[diesel(sql_type = Bool)]
    is_dispatcher: bool,
    #[diesel(sql_type = Bool)]
    draining: bool,
    #[diesel(sql_type = Bool)]
    able: bool,
    #[diesel(embed)]
    holding: HoldingRow,
}

#[derive(QueryableByName)]
struct Moved {
    #[diesel(sql_type = Integer)]
    partition: i32,
}

#[derive(QueryableByName)]
struct Found {
    #[diesel(embed)]
    next: NextAttempt,
    #[diesel(sql_type = Integer)]
    partition: i32,
    #[diesel(sql_type = BigInt)]
    due: i64,
}

#[derive(QueryableByName)]
struct Count {
    #[diesel(sql_type = BigInt)]
    count: i64,
}

/// All that it reads is of one moment.
pub(crate) fn beat(
    conn: &mut Conn,
    beat: Beat,
) -> Result<Option<(Roster, Partitions)>, StoreError> {
    let rows: Vec<RosterRow> = Given::default()
        .column::<Uid, _>("id", [Key(beat.id.0)])
        .column::<Bool, _>("draining", [beat.draining])
        .column::<Bool, _>("able", [beat.able])
        .in_statement(concat!(
            ", mine AS (
                 UPDATE dispatchers d
                    SET beat = d.beat + 1, draining = g.draining, able = g.able, seen_at = ",
            clock!(),
            "  FROM given g WHERE d.id = g.id
                RETURNING d.id, d.beat, d.draining, d.able
             ), everyone AS (
                 SELECT id, beat, draining, able FROM mine
                  UNION ALL
                 SELECT d.id, d.beat, d.draining, d.able FROM dispatchers d, mine m WHERE d.id <> m.id
             ), roster AS (
                 SELECT TRUE AS is_dispatcher, draining, able, 0 AS partition, id AS owner,
                        beat AS epoch, 0 AS deaths, '' AS note
                   FROM everyone
                  UNION ALL
                 SELECT FALSE, FALSE, FALSE, p.partition, p.owner, p.epoch, ",
            deaths!(),
            ", p.note FROM partitions p, mine
             )
             SELECT roster.*, p.count FROM roster, partitioning p ORDER BY roster.partition",
        ))
        .load(conn)?;
    let Some(count) = rows.first().map(|row| row.count) else {
        return Ok(None);
    };
    let mut roster = Roster {
        dispatchers: Vec::new(),
        partitions: Vec::with_capacity(rows.len()),
    };
    for row in rows {
        let holding = Holding::try_from(row.holding)?;
        match (row.is_dispatcher, holding.owner) {
            (true, Some(id)) => roster.dispatchers.push(RegisteredDispatcher {
                id,
                beat: holding.epoch,
                draining: row.draining,
                able: row.able,
            }),
            _ => roster.partitions.push(holding),
        }
    }
    Ok(Some((roster, read_count(count)?)))
}

/// Answers with those that moved. An owner that is still in the row and is another one has died.
pub(crate) fn take(
    conn: &mut Conn,
    me: DispatcherId,
    claims: &[PartitionClaim],
) -> Result<Vec<Holding>, StoreError> {
    let taken: Vec<HoldingRow> = Given::default()
        .column::<Integer, _>(
            "partition",
            claims.iter().map(|one| i32::from(one.partition.0)),
        )
        .column::<Nullable<Uid>, _>("owner", claims.iter().map(|one| one.owner.map(key_of)))
        .column::<BigInt, _>("epoch", claims.iter().map(|one| one.epoch))
        .column::<Uid, _>("me", claims.iter().map(|_| key_of(me)))
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
    taken.into_iter().map(Holding::try_from).collect()
}

/// Answers with those that moved. A successor that is not registered is none.
pub(crate) fn hand_over(
    conn: &mut Conn,
    me: DispatcherId,
    given_up: &[HandOver],
) -> Result<Vec<Partition>, StoreError> {
    let moved: Vec<Moved> = Given::default()
        .column::<Integer, _>(
            "partition",
            given_up.iter().map(|one| i32::from(one.partition.0)),
        )
        .column::<BigInt, _>("epoch", given_up.iter().map(|one| one.epoch))
        .column::<Nullable<Uid>, _>("successor", given_up.iter().map(|one| one.to.map(key_of)))
        .column::<Text, _>("note", given_up.iter().map(|one| one.note.as_str()))
        .column::<Uid, _>("me", given_up.iter().map(|_| key_of(me)))
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

/// Those that have been due for longest first.
pub(crate) fn look(conn: &mut Conn, look: &Look) -> Result<Vec<Due>, StoreError> {
    if look.partitions.is_empty() {
        return Ok(Vec::new());
    }
    let found: Vec<Found> = looking(look).load(conn)?;
    let read = |row: Found| {
        Ok(Due {
            owed: OwedAttempt::from(row.next),
            partition: read_partition(row.partition)?,
            due: Timestamp::from_unix_micros(row.due),
        })
    };
    let mut found = found
        .into_iter()
        .map(read)
        .collect::<Result<Vec<_>, StoreError>>()?;
    found.sort_by_key(|one| (one.due, one.owed.delivery));
    found.dedup_by_key(|one| one.owed.delivery);
    Ok(found)
}

/// A search of the index for each partition.
fn looking(look: &Look) -> Statement<'static> {
    let until = look.until.unix_micros();
    let into = &look.partitions;
    Given::default()
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
    let counted: Count = counting(now, most).get_result(conn)?;
    Ok(counted.count.unsigned_abs())
}

/// Without the inner order, the planner may read all that is due in a partition before it stops. Without the lower bound,
/// statistics of quiet times make it read every index of pending deliveries.
fn counting(now: Timestamp, most: u64) -> Statement<'static> {
    let most = i64::try_from(most).unwrap_or(i64::MAX);
    Given::default()
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

/// What is due comes first, so one search counts what is due now and later. Its bounds are for the planner, as in
/// [`counting`].
pub(crate) fn totals(conn: &mut Conn, now: Timestamp) -> Result<Vec<PartitionTotals>, StoreError> {
    let most = i64::try_from(PartitionTotals::MOST).unwrap_or(i64::MAX);
    let totals: Vec<TotalsRow> = Given::default()
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
    totals.into_iter().map(PartitionTotals::try_from).collect()
}

/// Answers with how many moved.
pub(crate) fn refile_deliveries(
    conn: &mut Conn,
    ids: Vec<DeliveryId>,
) -> Result<usize, StoreError> {
    let keys: Vec<Key> = ids.into_iter().map(|id| Key(id.0)).collect();
    // Locked in the order of their ids, as in `recording`.
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
    .bind::<Array<Uid>, _>(keys)
    .execute(conn)?;
    Ok(moved)
}

fn key_of(id: DispatcherId) -> Key {
    Key(id.0)
}
