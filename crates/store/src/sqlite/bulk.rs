//! What SQLite says in its own words: a prepared statement in a loop is its way of doing many rows.

use diesel::dsl::Eq;
use diesel::prelude::*;
use diesel::sql_types::{BigInt, Bool, Integer, Nullable, SmallInt, Text};
use hookline_core::delivery::OwedAttempt;
use hookline_core::ids::SubscriptionId;
use hookline_core::partition::Partition;
use hookline_core::timestamp::Timestamp;

use super::Conn;
use super::kept::kept;
use super::queries;
use super::queries::intake::{NewDelivery, NewEvent};
use super::queries::stored::Part;
pub(crate) use super::recording::record;
use crate::columns::{Key, Uid};
use crate::error::StoreError;
use crate::fanout_index::Version;
use crate::records::Restart;
use crate::rows::{NextAttempt, cause_name};
use crate::schema::{attempt_counts, deliveries, events, replays};

/// One delivery at a time: a statement for many is another one for each number of them, so it is
/// parsed each time, and looks each of them up by itself, too.
pub(crate) fn deliveries_among(keys: &[Key]) -> impl Iterator<Item = Eq<deliveries::id, Key>> {
    keys.iter().map(|key| deliveries::id.eq(*key))
}

/// Events, likewise.
pub(crate) fn events_among(keys: &[Key]) -> impl Iterator<Item = Eq<events::key, Key>> {
    keys.iter().map(|key| events::key.eq(*key))
}

/// Reads as of one moment: with each moment that it sees, a reader forgets the pages that it has read.
pub(crate) fn in_one_view<T>(
    conn: &mut Conn,
    read: impl FnOnce(&mut Conn) -> Result<T, StoreError>,
) -> Result<T, StoreError> {
    conn.transaction(read)
}

/// Inserts events; answers with those that were not here before. What is asked besides is no round
/// trip in this home.
pub(crate) fn insert_events(
    conn: &mut Conn,
    rows: &[NewEvent<'_>],
) -> Result<(Vec<Key>, Option<Version>), StoreError> {
    let mut new = Vec::with_capacity(rows.len());
    for row in rows {
        let inserted = diesel::insert_into(events::table)
            .values(row)
            .on_conflict_do_nothing()
            .execute(conn)?;
        if inserted == 1 {
            new.push(row.key);
        }
    }
    Ok((new, None))
}

/// Inserts the deliveries that are not here yet, and adds to what is stored.
pub(crate) fn insert_fan_out(
    conn: &mut Conn,
    rows: &[NewDelivery<'_>],
    stored: &[Part<'_>],
) -> Result<(), StoreError> {
    let partitions = queries::partitions::count(conn)?;
    for row in rows {
        let Partition(partition) = partitions.of(SubscriptionId(row.subscription_id));
        diesel::insert_into(deliveries::table)
            .values((
                deliveries::id.eq(row.id),
                deliveries::organization_id.eq(row.organization_id),
                deliveries::subscription_id.eq(row.subscription_id),
                deliveries::event_key.eq(row.event_key),
                deliveries::origin.eq(row.origin),
                deliveries::activation.eq(row.activation),
                deliveries::generation.eq(row.generation),
                deliveries::attempts.eq(row.attempts),
                deliveries::state.eq(row.state),
                deliveries::due.eq(row.due),
                deliveries::finished_at.eq(row.finished_at),
                deliveries::created_at.eq(row.created_at),
                deliveries::partition.eq(i32::from(partition)),
            ))
            .on_conflict_do_nothing()
            .execute(conn)?;
    }
    add_stored(conn, stored)
}

/// Adds to what is stored of organizations.
pub(crate) fn add_stored(conn: &mut Conn, parts: &[Part<'_>]) -> Result<(), StoreError> {
    for part in parts {
        kept(
            "INSERT INTO stored_bytes (organization_id, part, bytes) VALUES (?, ?, ?)
             ON CONFLICT (organization_id, part) DO UPDATE SET bytes = bytes + excluded.bytes",
            &[
                &part.organization_id.into_sql::<Text>(),
                &part.part.into_sql::<Integer>(),
                &part.bytes.into_sql::<BigInt>(),
            ],
        )
        .execute(conn)?;
    }
    Ok(())
}

/// Starts deliveries again where they stand as they have to; answers with what is owed then.
pub(crate) fn start_again(
    conn: &mut Conn,
    keys: &[Key],
    restart: Restart,
) -> Result<Vec<OwedAttempt>, StoreError> {
    let mut started: Vec<OwedAttempt> = Vec::with_capacity(keys.len());
    for key in keys {
        let activation = restart.activation.into_sql::<BigInt>();
        let next: Vec<NextAttempt> = kept(
            "UPDATE deliveries
                SET generation = generation + 1, attempts_before = attempts, cause = ?,
                    activation = ?, state = 'pending', due = ?, finished_at = NULL, gave_up = NULL,
                    backlog = ?,
                    partition = subscription_id % (SELECT count FROM partitioning WHERE id = 1)
              WHERE id = ?
                AND (instr(?, state)
                     OR (? AND state = 'pending' AND origin = 'event' AND activation <> ?))
             RETURNING id, generation, attempts, subscription_id",
            &[
                &cause_name(restart.cause).into_sql::<Text>(),
                &activation,
                &restart.now.unix_micros().into_sql::<BigInt>(),
                &restart.backlog().into_sql::<Nullable<SmallInt>>(),
                &key.into_sql::<Uid>(),
                &restart.from.join(" ").into_sql::<Text>(),
                &restart.takes_void().into_sql::<Bool>(),
                &activation,
            ],
        )
        .load(conn)?;
        started.extend(next.into_iter().map(OwedAttempt::from));
    }
    Ok(started)
}

/// There is one writer, and it has the turn.
pub(crate) fn take_turns(_: &mut Conn, _of: &str) -> Result<(), StoreError> {
    Ok(())
}

/// The replay whose turn has waited longest.
pub(crate) fn due_replay(conn: &mut Conn, now: Timestamp) -> Result<Option<Key>, StoreError> {
    Ok(replays::table
        .filter(replays::next_turn.le(now.unix_micros()))
        .order(replays::next_turn)
        .select(replays::id)
        .first(conn)
        .optional()?)
}

/// The process that forgets is the only one that delivers from the folder.
pub(crate) fn retention_alone(_: &mut Conn) -> Result<bool, StoreError> {
    Ok(true)
}

/// Deletes some attempts of days before `day`. Each is counted when it is written, and the totals go
/// after it. They name the organizations, whose index finds the rows: to look for them by their age
/// alone would read the whole log while no other transaction can write.
pub(crate) fn forget_attempts(
    conn: &mut Conn,
    day: i64,
    slice: usize,
) -> Result<usize, StoreError> {
    let cutoff = Timestamp::of_unix_day(day).unix_micros();
    let mut removed = 0;
    while removed < slice {
        let oldest: Option<String> = attempt_counts::table
            .filter(attempt_counts::day.lt(day))
            .order(attempt_counts::day)
            .select(attempt_counts::organization_id)
            .first(conn)
            .optional()?;
        let Some(owner) = oldest else {
            break;
        };
        let mut delete = |statement, before: i64, room: usize| {
            let room = i64::try_from(room).unwrap_or(i64::MAX);
            kept(
                statement,
                &[
                    &owner.as_str().into_sql::<Text>(),
                    &before.into_sql::<BigInt>(),
                    &room.into_sql::<BigInt>(),
                ],
            )
            .execute(conn)
        };
        removed += delete(
            "DELETE FROM attempts WHERE rowid IN (
                 SELECT rowid FROM attempts WHERE organization_id = ? AND created_at < ? LIMIT ?)",
            cutoff,
            slice - removed,
        )?;
        // A total goes when nothing that it counts is left.
        removed += delete(
            "DELETE FROM attempt_counts WHERE rowid IN (
                 SELECT rowid FROM attempt_counts WHERE organization_id = ? AND day < ? LIMIT ?)",
            day,
            slice.saturating_sub(removed),
        )?;
    }
    Ok(removed)
}
