//! SQL of retention for SQLite.

use diesel::prelude::*;
use diesel::sql_types::{BigInt, Text};
use hookline_core::timestamp::Timestamp;

use crate::backend::sqlite::Conn;
use crate::backend::sqlite::prepared::prepared;
use crate::error::StoreError;
use crate::schema::attempt_counts;

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
