//! SQL for PostgreSQL: many rows in one statement.

use diesel::dsl::EqAny;
use diesel::prelude::*;
use diesel::sql_types::{Array, BigInt, Binary, Bool, Integer, Nullable, SmallInt, Text};
use hookline_core::delivery::AttemptTask;
use hookline_core::timestamp::Timestamp;

use super::Conn;
pub(crate) use super::days::{forget_attempts, try_lock_retention};
pub(crate) use super::recording::record;
use super::unnest::{BulkStatement, UnnestRows};
use crate::columns::{UuidColumn, UuidKey};
use crate::deliveries::Restart;
use crate::error::StoreError;
use crate::events::fanout_index::Version;
use crate::events::rows::{NewDelivery, NewEvent};
use crate::rows::NextAttempt;
use crate::schema::{deliveries, events};
use crate::usage::UsageShard;

const ROWS: usize = 1_000;

#[derive(QueryableByName)]
struct FoundReplay {
    #[diesel(sql_type = UuidColumn)]
    id: UuidKey,
}

#[derive(QueryableByName)]
struct NewlyInserted {
    #[diesel(sql_type = UuidColumn)]
    id: UuidKey,
    #[diesel(sql_type = Nullable<BigInt>)]
    seen: Option<i64>,
    #[diesel(sql_type = Nullable<BigInt>)]
    mark: Option<i64>,
}

/// One condition for each statement's worth of keys.
pub(crate) fn deliveries_among(
    keys: &[UuidKey],
) -> impl Iterator<Item = EqAny<deliveries::id, Vec<UuidKey>>> {
    keys.chunks(ROWS)
        .map(|keys| deliveries::id.eq_any(keys.to_vec()))
}

pub(crate) fn events_among(
    keys: &[UuidKey],
) -> impl Iterator<Item = EqAny<events::key, Vec<UuidKey>>> {
    keys.chunks(ROWS)
        .map(|keys| events::key.eq_any(keys.to_vec()))
}

/// Without a transaction, which would cost two more round trips: each statement sees the present rows.
pub(crate) fn in_one_view<T>(
    conn: &mut Conn,
    read: impl FnOnce(&mut Conn) -> Result<T, StoreError>,
) -> Result<T, StoreError> {
    read(conn)
}

/// Answers with the new events, and with the newest version of the subscriptions, which saves a round trip.
pub(crate) fn insert_events(
    conn: &mut Conn,
    rows: &[NewEvent<'_>],
) -> Result<(Vec<UuidKey>, Option<Version>), StoreError> {
    let mut new = Vec::with_capacity(rows.len());
    let mut seen = None;
    for rows in rows.chunks(ROWS) {
        let inserted: Vec<NewlyInserted> = given_events(rows)
            .inserted_into(
                "events",
                "ON CONFLICT DO NOTHING
                 RETURNING key AS id, (SELECT max(version) FROM subscriptions) AS seen,
                           (SELECT mark FROM subscription_marks
                             WHERE version = (SELECT max(version) FROM subscriptions)) AS mark",
            )
            .load(conn)?;
        seen = inserted.first().and_then(|event| {
            let (number, mark) = (event.seen?, event.mark);
            Some(Version { number, mark })
        });
        new.extend(inserted.into_iter().map(|event| event.id));
    }
    Ok((new, seen))
}

pub(super) fn given_events<'a>(rows: &'a [NewEvent<'_>]) -> UnnestRows<'a> {
    UnnestRows::default()
        .column::<UuidColumn, _>("key", rows.iter().map(|row| row.key))
        .column::<Text, _>(
            "organization_id",
            rows.iter().map(|row| row.organization_id),
        )
        .column::<Text, _>("event_id", rows.iter().map(|row| row.event_id))
        .column::<Text, _>("event_type", rows.iter().map(|row| row.event_type))
        .column::<Binary, _>("body", rows.iter().map(|row| row.body))
        .column::<Nullable<Text>, _>(
            "traceparent",
            rows.iter().map(|row| row.traceparent.as_deref()),
        )
        .column::<BigInt, _>("received_at", rows.iter().map(|row| row.received_at))
}

/// Inserts new deliveries, and adds to the storage usage.
pub(crate) fn insert_fan_out(
    conn: &mut Conn,
    rows: &[NewDelivery<'_>],
    stored: &[UsageShard<'_>],
) -> Result<(), StoreError> {
    let few = rows.len() % ROWS;
    let (many, last) = rows.split_at(rows.len() - few);
    for rows in many.chunks(ROWS) {
        fan_out(rows).execute(conn)?;
    }
    fan_out(last)
        .together_with(adding_stored(stored))
        .execute(conn)?;
    Ok(())
}

fn fan_out<'a>(rows: &'a [NewDelivery<'_>]) -> BulkStatement<'a> {
    given_deliveries(rows).in_statement(
        "INSERT INTO deliveries
             (id, organization_id, subscription_id, event_key, origin, activation,
              generation, attempts, state, due, finished_at, created_at, partition)
         SELECT given.*, subscription_id % (SELECT count FROM partitioning WHERE id = 1) FROM given
         ON CONFLICT DO NOTHING",
    )
}

pub(super) fn given_deliveries<'a>(rows: &'a [NewDelivery<'_>]) -> UnnestRows<'a> {
    UnnestRows::default()
        .column::<UuidColumn, _>("id", rows.iter().map(|row| row.id))
        .column::<Text, _>(
            "organization_id",
            rows.iter().map(|row| row.organization_id),
        )
        .column::<BigInt, _>(
            "subscription_id",
            rows.iter().map(|row| row.subscription_id),
        )
        .column::<UuidColumn, _>("event_key", rows.iter().map(|row| row.event_key))
        .column::<Text, _>("origin", rows.iter().map(|row| row.origin))
        .column::<BigInt, _>("activation", rows.iter().map(|row| row.activation))
        .column::<Integer, _>("generation", rows.iter().map(|row| row.generation))
        .column::<Integer, _>("attempts", rows.iter().map(|row| row.attempts))
        .column::<Text, _>("state", rows.iter().map(|row| row.state))
        .column::<Nullable<BigInt>, _>("due", rows.iter().map(|row| row.due))
        .column::<Nullable<BigInt>, _>("finished_at", rows.iter().map(|row| row.finished_at))
        .column::<BigInt, _>("created_at", rows.iter().map(|row| row.created_at))
}

pub(crate) fn add_stored(conn: &mut Conn, shards: &[UsageShard<'_>]) -> Result<(), StoreError> {
    for shards in shards.chunks(ROWS) {
        adding_stored(shards).execute(conn)?;
    }
    Ok(())
}

fn adding_stored<'a>(shards: &'a [UsageShard<'_>]) -> BulkStatement<'a> {
    UnnestRows::default()
        .column::<Text, _>(
            "organization_id",
            shards.iter().map(|shard| shard.organization_id),
        )
        .column::<Integer, _>("shard", shards.iter().map(|shard| shard.shard))
        .column::<BigInt, _>("bytes", shards.iter().map(|shard| shard.bytes))
        .inserted_into(
            "storage_usage AS s",
            "ON CONFLICT (organization_id, shard) DO UPDATE SET bytes = s.bytes + excluded.bytes",
        )
}

/// Restarts the deliveries that are in one of `restart.from`. Answers with the attempts that are due then.
pub(crate) fn restart(
    conn: &mut Conn,
    keys: &[UuidKey],
    restart: Restart,
) -> Result<Vec<AttemptTask>, StoreError> {
    // Locked in the order of ids, as in `recording`.
    let started: Vec<NextAttempt> = diesel::sql_query(
        "WITH locked AS (
             SELECT d.id FROM deliveries d WHERE d.id = ANY ($1) ORDER BY d.id FOR NO KEY UPDATE
         )
         UPDATE deliveries d
            SET generation = d.generation + 1, attempts_before = d.attempts, started_by = $2,
                activation = $3, state = 'pending', due = $4, finished_at = NULL, exhausted_reason = NULL,
                backlog = $7,
                partition = d.subscription_id % (SELECT count FROM partitioning WHERE id = 1)
           FROM locked l
          WHERE d.id = l.id
            AND (d.state = ANY ($5)
                 OR ($6 AND d.state = 'pending' AND d.origin = 'event' AND d.activation <> $3))
         RETURNING d.id, d.generation, d.attempts, d.subscription_id",
    )
    .bind::<Array<UuidColumn>, _>(keys)
    .bind::<Text, _>(restart.started_by.as_str())
    .bind::<BigInt, _>(restart.activation)
    .bind::<BigInt, _>(restart.now.unix_micros())
    .bind::<Array<Text>, _>(restart.from)
    .bind::<Bool, _>(restart.takes_void())
    .bind::<Nullable<SmallInt>, _>(restart.backlog())
    .load(conn)?;
    Ok(started.into_iter().map(AttemptTask::from).collect())
}

/// Takes the lock of a limit on objects of `of`, until the end of the transaction.
pub(crate) fn lock_limit(conn: &mut Conn, of: &str) -> Result<(), StoreError> {
    diesel::sql_query("SELECT pg_advisory_xact_lock(hashtextextended($1, 0))")
        .bind::<Text, _>(of)
        .execute(conn)?;
    Ok(())
}

/// The replay that has waited longest, locked. Replays that another session has locked are skipped.
pub(crate) fn due_replay(conn: &mut Conn, now: Timestamp) -> Result<Option<UuidKey>, StoreError> {
    let due: Option<FoundReplay> = diesel::sql_query(
        "SELECT id FROM replays WHERE next_step_at <= $1
          ORDER BY next_step_at LIMIT 1 FOR NO KEY UPDATE SKIP LOCKED",
    )
    .bind::<BigInt, _>(now.unix_micros())
    .get_result(conn)
    .optional()?;
    Ok(due.map(|due| due.id))
}
