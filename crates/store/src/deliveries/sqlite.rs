//! SQL of deliveries for SQLite: many rows are a prepared statement in a loop.

use diesel::dsl::Eq;
use diesel::prelude::*;
use diesel::sql_types::{BigInt, Bool, Nullable, SmallInt, Text};
use hookline_core::delivery::AttemptTask;
use hookline_core::timestamp::Timestamp;

use crate::backend::sqlite::Conn;
use crate::backend::sqlite::prepared::prepared;
use crate::backlog::BacklogClass;
use crate::columns::{UuidColumn, UuidKey};
use crate::deliveries::{Restart, RestartKey};
use crate::error::StoreError;
use crate::rows::NextAttempt;
use crate::schema::{deliveries, events};

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

/// There is one writer.
pub(crate) fn lock(_: &mut Conn, _: &[UuidKey]) -> Result<(), StoreError> {
    Ok(())
}

/// Reads in one transaction: with each new snapshot, a reader drops its page cache.
pub(crate) fn in_one_view<T>(
    conn: &mut Conn,
    read: impl FnOnce(&mut Conn) -> Result<T, StoreError>,
) -> Result<T, StoreError> {
    conn.transaction(read)
}

/// Restarts the deliveries that are in one of `restart.from`. Answers with the attempts that are due then.
pub(crate) fn restart(
    conn: &mut Conn,
    keys: &[RestartKey],
    restart: Restart<'_>,
) -> Result<Vec<AttemptTask>, StoreError> {
    let mut started: Vec<AttemptTask> = Vec::with_capacity(keys.len());
    for key in keys {
        let activation = key.activation.into_sql::<BigInt>();
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
                &key.delivery.into_sql::<UuidColumn>(),
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

/// Makes pending deliveries due that are not yet. A row that is due may be in flight, and stays as it is. Answers with the
/// attempts that are due then.
pub(crate) fn bring_forward(
    conn: &mut Conn,
    keys: &[UuidKey],
    now: Timestamp,
    backlog: Option<BacklogClass>,
) -> Result<Vec<AttemptTask>, StoreError> {
    let now = now.unix_micros();
    let mut due: Vec<AttemptTask> = Vec::with_capacity(keys.len());
    for key in keys {
        let next: Vec<NextAttempt> = prepared(
            "UPDATE deliveries SET due = ?, backlog = ?
              WHERE id = ? AND state = 'pending' AND due > ?
             RETURNING id, generation, attempts, subscription_id",
            &[
                &now.into_sql::<BigInt>(),
                &backlog
                    .map(BacklogClass::number)
                    .into_sql::<Nullable<SmallInt>>(),
                &key.into_sql::<UuidColumn>(),
                &now.into_sql::<BigInt>(),
            ],
        )
        .load(conn)?;
        due.extend(next.into_iter().map(AttemptTask::from));
    }
    Ok(due)
}
