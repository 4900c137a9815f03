//! Backlog, one delivery or subscription after the other: a prepared statement in a loop.

use diesel::prelude::*;
use diesel::sql_types::{BigInt, Integer, SmallInt};
use hookline_core::delivery::OwedAttempt;
use hookline_core::timestamp::Timestamp;

use super::Conn;
use super::kept::kept;
use super::queries::backlog::{Listed, Marked, behind, number};
use super::queries::progress::signed;
use crate::columns::{Key, Uid};
use crate::error::StoreError;
use crate::records::{BacklogClass, BacklogRead, BacklogRow, Backlogged};

/// Answers with those that bear a mark then.
pub(crate) fn mark(
    conn: &mut Conn,
    owed: &[OwedAttempt],
    now: Timestamp,
) -> Result<Vec<Key>, StoreError> {
    let mut marked = Vec::with_capacity(owed.len());
    for one in owed {
        let key = Key(one.delivery.0);
        let rows = kept(
            "UPDATE deliveries SET backlog = coalesce(backlog, ?)
              WHERE id = ? AND state = 'pending' AND generation = ? AND attempts = ?
                AND origin <> 'test' AND due <= ?",
            &[
                &BacklogClass::Live.number().into_sql::<SmallInt>(),
                &key.into_sql::<Uid>(),
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

/// Those that have been due for longest first.
pub(crate) fn read(
    conn: &mut Conn,
    reads: &[BacklogRead],
    now: Timestamp,
) -> Result<Vec<BacklogRow>, StoreError> {
    let mut found = Vec::new();
    for one in reads {
        let (due, id) = one.after.map_or((i64::MIN, Key::default()), |after| {
            (after.due.unix_micros(), Key(after.delivery.0))
        });
        let rows: Vec<Marked> = kept(
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
                &id.into_sql::<Uid>(),
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

/// The index has an entry for each delivery; this skips from subscription to subscription.
pub(crate) fn list(
    conn: &mut Conn,
    mut after: Option<Backlogged>,
) -> Result<Vec<Backlogged>, StoreError> {
    let mut found = Vec::new();
    for _ in 0..Backlogged::MOST {
        let (partition, subscription, class) = behind(after);
        let next: Option<Listed> = kept(
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
        after = next.map(Backlogged::try_from).transpose()?;
        match after {
            Some(listed) => found.push(listed),
            None => break,
        }
    }
    Ok(found)
}
