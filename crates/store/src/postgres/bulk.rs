//! What PostgreSQL says in its own words: many rows in one statement.

use diesel::dsl::EqAny;
use diesel::prelude::*;
use diesel::sql_types::{Array, BigInt, Binary, Bool, Integer, Nullable, SmallInt, Text};
use hookline_core::delivery::OwedAttempt;
use hookline_core::timestamp::Timestamp;

use super::Conn;
pub(crate) use super::days::{forget_attempts, retention_alone};
use super::given::{Given, Statement};
use super::queries::intake::{NewDelivery, NewEvent};
use super::queries::stored::Part;
pub(crate) use super::recording::record;
use crate::columns::{Key, Uid};
use crate::error::StoreError;
use crate::fanout_index::Version;
use crate::records::Restart;
use crate::rows::{NextAttempt, cause_name};
use crate::schema::{deliveries, events};

/// How many rows one statement has.
const ROWS: usize = 1_000;

#[derive(QueryableByName)]
struct Found {
    #[diesel(sql_type = Uid)]
    id: Key,
}

#[derive(QueryableByName)]
struct NewlyInserted {
    #[diesel(sql_type = Uid)]
    id: Key,
    #[diesel(sql_type = Nullable<BigInt>)]
    seen: Option<i64>,
    #[diesel(sql_type = Nullable<BigInt>)]
    mark: Option<i64>,
}

/// Deliveries, as many as one statement takes at a time.
pub(crate) fn deliveries_among(
    keys: &[Key],
) -> impl Iterator<Item = EqAny<deliveries::id, Vec<Key>>> {
    keys.chunks(ROWS)
        .map(|keys| deliveries::id.eq_any(keys.to_vec()))
}

/// Events, likewise.
pub(crate) fn events_among(keys: &[Key]) -> impl Iterator<Item = EqAny<events::key, Vec<Key>>> {
    keys.chunks(ROWS)
        .map(|keys| events::key.eq_any(keys.to_vec()))
}

/// Each statement sees what is there: a transaction would be two more round trips.
pub(crate) fn in_one_view<T>(
    conn: &mut Conn,
    read: impl FnOnce(&mut Conn) -> Result<T, StoreError>,
) -> Result<T, StoreError> {
    read(conn)
}

/// Inserts events; answers with those that were not here before, and with the newest version of a
/// subscription at that moment, which would be a round trip of its own.
pub(crate) fn insert_events(
    conn: &mut Conn,
    rows: &[NewEvent<'_>],
) -> Result<(Vec<Key>, Option<Version>), StoreError> {
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

/// Events as rows.
pub(super) fn given_events<'a>(rows: &'a [NewEvent<'_>]) -> Given<'a> {
    Given::default()
        .column::<Uid, _>("key", rows.iter().map(|row| row.key))
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

/// Inserts the deliveries that are not here yet, and adds to what is stored.
pub(crate) fn insert_fan_out(
    conn: &mut Conn,
    rows: &[NewDelivery<'_>],
    stored: &[Part<'_>],
) -> Result<(), StoreError> {
    let few = rows.len() % ROWS;
    let (many, last) = rows.split_at(rows.len() - few);
    for rows in many.chunks(ROWS) {
        fan_out(rows).execute(conn)?;
    }
    fan_out(last).beside(adding_stored(stored)).execute(conn)?;
    Ok(())
}

fn fan_out<'a>(rows: &'a [NewDelivery<'_>]) -> Statement<'a> {
    given_deliveries(rows).in_statement(
        "INSERT INTO deliveries
             (id, organization_id, subscription_id, event_key, origin, activation,
              generation, attempts, state, due, finished_at, created_at, partition)
         SELECT given.*, subscription_id % (SELECT count FROM partitioning WHERE id = 1) FROM given
         ON CONFLICT DO NOTHING",
    )
}

/// Deliveries as rows.
pub(super) fn given_deliveries<'a>(rows: &'a [NewDelivery<'_>]) -> Given<'a> {
    Given::default()
        .column::<Uid, _>("id", rows.iter().map(|row| row.id))
        .column::<Text, _>(
            "organization_id",
            rows.iter().map(|row| row.organization_id),
        )
        .column::<BigInt, _>(
            "subscription_id",
            rows.iter().map(|row| row.subscription_id),
        )
        .column::<Uid, _>("event_key", rows.iter().map(|row| row.event_key))
        .column::<Text, _>("origin", rows.iter().map(|row| row.origin))
        .column::<BigInt, _>("activation", rows.iter().map(|row| row.activation))
        .column::<Integer, _>("generation", rows.iter().map(|row| row.generation))
        .column::<Integer, _>("attempts", rows.iter().map(|row| row.attempts))
        .column::<Text, _>("state", rows.iter().map(|row| row.state))
        .column::<Nullable<BigInt>, _>("due", rows.iter().map(|row| row.due))
        .column::<Nullable<BigInt>, _>("finished_at", rows.iter().map(|row| row.finished_at))
        .column::<BigInt, _>("created_at", rows.iter().map(|row| row.created_at))
}

/// Adds to what is stored of organizations.
pub(crate) fn add_stored(conn: &mut Conn, parts: &[Part<'_>]) -> Result<(), StoreError> {
    for parts in parts.chunks(ROWS) {
        adding_stored(parts).execute(conn)?;
    }
    Ok(())
}

fn adding_stored<'a>(parts: &'a [Part<'_>]) -> Statement<'a> {
    Given::default()
        .column::<Text, _>(
            "organization_id",
            parts.iter().map(|part| part.organization_id),
        )
        .column::<Integer, _>("part", parts.iter().map(|part| part.part))
        .column::<BigInt, _>("bytes", parts.iter().map(|part| part.bytes))
        .inserted_into(
            "stored_bytes AS s",
            "ON CONFLICT (organization_id, part) DO UPDATE SET bytes = s.bytes + excluded.bytes",
        )
}

/// Starts deliveries again where they stand as they have to; answers with what is owed then.
pub(crate) fn start_again(
    conn: &mut Conn,
    keys: &[Key],
    restart: Restart,
) -> Result<Vec<OwedAttempt>, StoreError> {
    // Locked in the order of their ids, as in `recording`.
    let started: Vec<NextAttempt> = diesel::sql_query(
        "WITH locked AS (
             SELECT d.id FROM deliveries d WHERE d.id = ANY ($1) ORDER BY d.id FOR NO KEY UPDATE
         )
         UPDATE deliveries d
            SET generation = d.generation + 1, attempts_before = d.attempts, cause = $2,
                activation = $3, state = 'pending', due = $4, finished_at = NULL, gave_up = NULL,
                backlog = $7,
                partition = d.subscription_id % (SELECT count FROM partitioning WHERE id = 1)
           FROM locked l
          WHERE d.id = l.id
            AND (d.state = ANY ($5)
                 OR ($6 AND d.state = 'pending' AND d.origin = 'event' AND d.activation <> $3))
         RETURNING d.id, d.generation, d.attempts, d.subscription_id",
    )
    .bind::<Array<Uid>, _>(keys)
    .bind::<Text, _>(cause_name(restart.cause))
    .bind::<BigInt, _>(restart.activation)
    .bind::<BigInt, _>(restart.now.unix_micros())
    .bind::<Array<Text>, _>(restart.from)
    .bind::<Bool, _>(restart.takes_void())
    .bind::<Nullable<SmallInt>, _>(restart.backlog())
    .load(conn)?;
    Ok(started.into_iter().map(OwedAttempt::from).collect())
}

/// Waits until nobody else changes what `of` has a limited number of.
pub(crate) fn take_turns(conn: &mut Conn, of: &str) -> Result<(), StoreError> {
    diesel::sql_query("SELECT pg_advisory_xact_lock(hashtextextended($1, 0))")
        .bind::<Text, _>(of)
        .execute(conn)?;
    Ok(())
}

/// The replay whose turn has waited longest, locked; one that somebody else has locked is passed
/// over.
pub(crate) fn due_replay(conn: &mut Conn, now: Timestamp) -> Result<Option<Key>, StoreError> {
    let due: Option<Found> = diesel::sql_query(
        "SELECT id FROM replays WHERE next_turn <= $1
          ORDER BY next_turn LIMIT 1 FOR NO KEY UPDATE SKIP LOCKED",
    )
    .bind::<BigInt, _>(now.unix_micros())
    .get_result(conn)
    .optional()?;
    Ok(due.map(|due| due.id))
}
