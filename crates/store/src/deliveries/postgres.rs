//! SQL of deliveries for PostgreSQL: many rows in one statement.

use diesel::dsl::EqAny;
use diesel::prelude::*;
use diesel::sql_types::{Array, BigInt, Bool, Nullable, SmallInt, Text};
use hookline_core::delivery::AttemptTask;
use hookline_core::timestamp::Timestamp;

use crate::backend::ROWS;
use crate::backend::postgres::Conn;
use crate::backlog::BacklogClass;
use crate::columns::{UuidColumn, UuidKey};
use crate::deliveries::{Restart, RestartKey};
use crate::error::StoreError;
use crate::rows::NextAttempt;
use crate::schema::{deliveries, events};

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

/// Locks rows in the order of ids, as `recording` does. An update of them alone would lock them in any order.
pub(crate) fn lock(conn: &mut Conn, keys: &[UuidKey]) -> Result<(), StoreError> {
    deliveries::table
        .filter(deliveries::id.eq_any(keys))
        .order(deliveries::id)
        .select(deliveries::id)
        .for_no_key_update()
        .execute(conn)?;
    Ok(())
}

/// Without a transaction, which would cost two more round trips: each statement sees the present rows.
pub(crate) fn in_one_view<T>(
    conn: &mut Conn,
    read: impl FnOnce(&mut Conn) -> Result<T, StoreError>,
) -> Result<T, StoreError> {
    read(conn)
}

/// Restarts the deliveries that are in one of `restart.from`. Answers with the attempts that are due then.
pub(crate) fn restart(
    conn: &mut Conn,
    keys: &[RestartKey],
    restart: Restart<'_>,
) -> Result<Vec<AttemptTask>, StoreError> {
    let (ids, activations): (Vec<UuidKey>, Vec<i64>) = keys
        .iter()
        .map(|key| (key.delivery, key.activation))
        .unzip();
    // Locked in the order of ids, as in `recording`.
    let started: Vec<NextAttempt> = diesel::sql_query(
        "WITH locked AS (
             SELECT d.id, given.activation
               FROM unnest($1, $3) AS given (id, activation) JOIN deliveries d ON d.id = given.id
              ORDER BY d.id FOR NO KEY UPDATE OF d
         )
         UPDATE deliveries d
            SET generation = d.generation + 1, attempts_before = d.attempts, started_by = $2,
                activation = l.activation, state = 'pending', due = $4, finished_at = NULL, exhausted_reason = NULL,
                backlog = $7,
                partition = d.subscription_id % (SELECT count FROM partitioning WHERE id = 1)
           FROM locked l
          WHERE d.id = l.id
            AND (d.state = ANY ($5)
                 OR ($6 AND d.state = 'pending' AND d.origin = 'event' AND d.activation <> l.activation))
         RETURNING d.id, d.generation, d.attempts, d.subscription_id",
    )
    .bind::<Array<UuidColumn>, _>(ids)
    .bind::<Text, _>(restart.started_by.as_str())
    .bind::<Array<BigInt>, _>(activations)
    .bind::<BigInt, _>(restart.now.unix_micros())
    .bind::<Array<Text>, _>(restart.from)
    .bind::<Bool, _>(restart.takes_void())
    .bind::<Nullable<SmallInt>, _>(restart.backlog())
    .load(conn)?;
    Ok(started.into_iter().map(AttemptTask::from).collect())
}

/// Makes pending deliveries due that are not yet. A row that is due may be in flight, and stays as it is. Answers with the
/// attempts that are due then.
pub(crate) fn bring_forward(
    conn: &mut Conn,
    keys: &[UuidKey],
    now: Timestamp,
    backlog: Option<BacklogClass>,
) -> Result<Vec<AttemptTask>, StoreError> {
    let due: Vec<NextAttempt> = diesel::sql_query(
        "WITH locked AS (
             SELECT d.id FROM deliveries d WHERE d.id = ANY ($1) ORDER BY d.id FOR NO KEY UPDATE
         )
         UPDATE deliveries d SET due = $2, backlog = $3
           FROM locked l
          WHERE d.id = l.id AND d.state = 'pending' AND d.due > $2
         RETURNING d.id, d.generation, d.attempts, d.subscription_id",
    )
    .bind::<Array<UuidColumn>, _>(keys)
    .bind::<BigInt, _>(now.unix_micros())
    .bind::<Nullable<SmallInt>, _>(backlog.map(BacklogClass::number))
    .load(conn)?;
    Ok(due.into_iter().map(AttemptTask::from).collect())
}
