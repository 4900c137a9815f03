//! SQL for SQLite: many rows are a prepared statement in a loop.

use diesel::dsl::Eq;
use diesel::prelude::*;
use diesel::sql_types::{BigInt, Bool, Integer, Nullable, SmallInt, Text};
use hookline_core::delivery::AttemptTask;
use hookline_core::ids::SubscriptionId;
use hookline_core::partition::Partition;
use hookline_core::timestamp::Timestamp;

use super::Conn;
use super::prepared::prepared;
pub(crate) use super::recording::record;
use super::sql;
use crate::columns::{UuidColumn, UuidKey};
use crate::deliveries::Restart;
use crate::error::StoreError;
use crate::events::fanout_index::Version;
use crate::events::rows::{NewDelivery, NewEvent};
use crate::rows::NextAttempt;
use crate::schema::{attempt_counts, deliveries, events, replays};
use crate::usage::UsageShard;

/// One delivery at a time: a statement for many rows differs for each number of them, is parsed each time, and does the
/// same number of index searches.
pub(crate) fn deliveries_among(
    keys: &[UuidKey],
) -> impl Iterator<Item = Eq<deliveries::id, UuidKey>> {
    keys.iter().map(|key| deliveries::id.eq(*key))
}

pub(crate) fn events_among(keys: &[UuidKey]) -> impl Iterator<Item = Eq<events::key, UuidKey>> {
    keys.iter().map(|key| events::key.eq(*key))
}

/// Reads in one transaction: with each new snapshot, a reader drops its page cache.
pub(crate) fn in_one_view<T>(
    conn: &mut Conn,
    read: impl FnOnce(&mut Conn) -> Result<T, StoreError>,
) -> Result<T, StoreError> {
    conn.transaction(read)
}

/// Answers with the new events. The version of the subscriptions is a separate query, which costs no round trip here.
pub(crate) fn insert_events(
    conn: &mut Conn,
    rows: &[NewEvent<'_>],
) -> Result<(Vec<UuidKey>, Option<Version>), StoreError> {
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

/// Inserts new deliveries, and adds to the storage usage.
pub(crate) fn insert_fan_out(
    conn: &mut Conn,
    rows: &[NewDelivery<'_>],
    stored: &[UsageShard<'_>],
) -> Result<(), StoreError> {
    let partitions = sql::partitions::count(conn)?;
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

pub(crate) fn add_stored(conn: &mut Conn, shards: &[UsageShard<'_>]) -> Result<(), StoreError> {
    for shard in shards {
        prepared(
            "INSERT INTO storage_usage (organization_id, shard, bytes) VALUES (?, ?, ?)
             ON CONFLICT (organization_id, shard) DO UPDATE SET bytes = bytes + excluded.bytes",
            &[
                &shard.organization_id.into_sql::<Text>(),
                &shard.shard.into_sql::<Integer>(),
                &shard.bytes.into_sql::<BigInt>(),
            ],
        )
        .execute(conn)?;
    }
    Ok(())
}

/// Restarts the deliveries that are in one of `restart.from`. Answers with the attempts that are due then.
pub(crate) fn restart(
    conn: &mut Conn,
    keys: &[UuidKey],
    restart: Restart,
) -> Result<Vec<AttemptTask>, StoreError> {
    let mut started: Vec<AttemptTask> = Vec::with_capacity(keys.len());
    for key in keys {
        let activation = restart.activation.into_sql::<BigInt>();
        let next: Vec<NextAttempt> = prepared(
            "UPDATE deliveries
                SET generation = generation + 1, attempts_before = attempts, started_by = ?,
                    activation = ?, state = 'pending', due = ?, finished_at = NULL, exhausted_reason = NULL,
                    backlog = ?,
                    partition = subscription_id % (SELECT count FROM partitioning WHERE id = 1)
              WHERE id = ?
                AND (instr(?, state)
                     OR (? AND state = 'pending' AND origin = 'event' AND activation <> ?))
             RETURNING id, generation, attempts, subscription_id",
            &[
                &restart.started_by.as_str().into_sql::<Text>(),
                &activation,
                &restart.now.unix_micros().into_sql::<BigInt>(),
                &restart.backlog().into_sql::<Nullable<SmallInt>>(),
                &key.into_sql::<UuidColumn>(),
                &restart.from.join(" ").into_sql::<Text>(),
                &restart.takes_void().into_sql::<Bool>(),
                &activation,
            ],
        )
        .load(conn)?;
        started.extend(next.into_iter().map(AttemptTask::from));
    }
    Ok(started)
}

/// There is one writer, so no lock is needed.
pub(crate) fn lock_limit(_: &mut Conn, _of: &str) -> Result<(), StoreError> {
    Ok(())
}

/// The replay that has waited longest.
pub(crate) fn due_replay(conn: &mut Conn, now: Timestamp) -> Result<Option<UuidKey>, StoreError> {
    Ok(replays::table
        .filter(replays::next_step_at.le(now.unix_micros()))
        .order(replays::next_step_at)
        .select(replays::id)
        .first(conn)
        .optional()?)
}

/// One process at a time uses the folder, so no lock is needed.
pub(crate) fn try_lock_retention(_: &mut Conn) -> Result<bool, StoreError> {
    Ok(true)
}

/// Deletes some attempts of days before `day`. The totals are deleted after the attempts, so they name the organizations
/// that still have such attempts, and the index by organization finds these. A search by age alone would read the whole
/// log while no other transaction can write.
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
            prepared(
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
        // A total is deleted after the attempts that it counts.
        removed += delete(
            "DELETE FROM attempt_counts WHERE rowid IN (
                 SELECT rowid FROM attempt_counts WHERE organization_id = ? AND day < ? LIMIT ?)",
            day,
            slice.saturating_sub(removed),
        )?;
    }
    Ok(removed)
}
