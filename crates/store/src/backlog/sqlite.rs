//! Backlog in SQLite: a prepared statement in a loop.

use diesel::prelude::*;
use diesel::sql_types::{BigInt, Integer, SmallInt};
use hookline_core::delivery::AttemptTask;
use hookline_core::timestamp::Timestamp;

use crate::backend::sqlite::Conn;
use crate::backend::sqlite::prepared::prepared;
use crate::backlog::rows::{BacklogSubscriptionRow, MarkedRow, behind, number};
use crate::backlog::{BacklogClass, BacklogRead, BacklogRow, BacklogSubscription};
use crate::columns::{UuidColumn, UuidKey};
use crate::error::StoreError;
use crate::rows::signed;

/// Answers with the rows that have a mark then.
pub(crate) fn mark(
    conn: &mut Conn,
    tasks: &[AttemptTask],
    now: Timestamp,
) -> Result<Vec<UuidKey>, StoreError> {
    let mut marked = Vec::with_capacity(tasks.len());
    for one in tasks {
        let key = UuidKey(one.delivery.0);
        let rows = prepared(
            "UPDATE deliveries SET backlog = coalesce(backlog, ?)
              WHERE id = ? AND state = 'pending' AND generation = ? AND attempts = ?
                AND origin <> 'test' AND due <= ?",
            &[
                &BacklogClass::Live.number().into_sql::<SmallInt>(),
                &key.into_sql::<UuidColumn>(),
                &signed(one.generation).into_sql::<Integer>(),
                &(signed(one.attempt) - 1).into_sql::<Integer>(),
                &now.unix_micros().into_sql::<BigInt>(),
            ],
        )
        .execute(conn)?;
        if rows == 1 {
            marked.push(key);
        }
    }
    Ok(marked)
}

/// The longest due come first.
pub(crate) fn read(
    conn: &mut Conn,
    reads: &[BacklogRead],
    now: Timestamp,
) -> Result<Vec<BacklogRow>, StoreError> {
    let mut found = Vec::new();
    for one in reads {
        let (due, id) = one.after.map_or((i64::MIN, UuidKey::default()), |after| {
            (after.due.unix_micros(), UuidKey(after.delivery.0))
        });
        let rows: Vec<MarkedRow> = prepared(
            "SELECT id, subscription_id, generation, attempts, backlog, due FROM deliveries
              WHERE partition = ? AND subscription_id = ? AND backlog = ? AND due <= ?
                AND (due, id) > (?, ?)
              ORDER BY due, id LIMIT ?",
            &[
                &number(one.partition).into_sql::<Integer>(),
                &one.subscription.0.into_sql::<BigInt>(),
                &one.class.number().into_sql::<SmallInt>(),
                &now.unix_micros().into_sql::<BigInt>(),
                &due.into_sql::<BigInt>(),
                &id.into_sql::<UuidColumn>(),
                &i64::from(one.limit).into_sql::<BigInt>(),
            ],
        )
        .load(conn)?;
        for row in rows {
            found.push(BacklogRow::try_from(row)?);
        }
    }
    found.sort_unstable_by_key(BacklogRow::position);
    Ok(found)
}

/// The index has an entry for each delivery; this skips from one subscription to the next.
pub(crate) fn list(
    conn: &mut Conn,
    mut after: Option<BacklogSubscription>,
) -> Result<Vec<BacklogSubscription>, StoreError> {
    let mut found = Vec::new();
    for _ in 0..BacklogSubscription::MOST {
        let (partition, subscription, class) = behind(after);
        let next: Option<BacklogSubscriptionRow> = prepared(
            "SELECT partition, subscription_id, backlog FROM deliveries
              WHERE due IS NOT NULL AND backlog IS NOT NULL
                AND (partition, subscription_id, backlog) > (?, ?, ?)
              ORDER BY partition, subscription_id, backlog LIMIT 1",
            &[
                &partition.into_sql::<Integer>(),
                &subscription.into_sql::<BigInt>(),
                &class.into_sql::<SmallInt>(),
            ],
        )
        .get_result(conn)
        .optional()?;
        after = next.map(BacklogSubscription::try_from).transpose()?;
        match after {
            Some(listed) => found.push(listed),
            None => break,
        }
    }
    Ok(found)
}
