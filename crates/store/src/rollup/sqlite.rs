//! SQL of the roll-up for SQLite.

use diesel::prelude::*;
use diesel::sql_types::{BigInt, Integer, Text};

use crate::backend::sqlite::Conn;
use crate::backend::sqlite::prepared::prepared;
use crate::error::StoreError;
use crate::rollup::Tallies;

pub(crate) fn add(conn: &mut Conn, tallies: &Tallies<'_>, shard: i32) -> Result<(), StoreError> {
    for (key, count) in tallies.rows() {
        prepared(
            "INSERT INTO attempt_stats
                 (organization_id, subscription_id, width, at, event_type, cell, shard, count)
             VALUES (?, ?, 60, ?, ?, ?, ?, ?)
             ON CONFLICT (organization_id, subscription_id, width, at, event_type, cell, shard)
             DO UPDATE SET count = count + excluded.count",
            &[
                &key.organization_id.into_sql::<Text>(),
                &key.subscription_id.into_sql::<BigInt>(),
                &key.at.into_sql::<BigInt>(),
                &key.event_type.into_sql::<Text>(),
                &key.cell.into_sql::<Integer>(),
                &shard.into_sql::<Integer>(),
                &count.into_sql::<BigInt>(),
            ],
        )
        .execute(conn)?;
    }
    Ok(())
}

/// Moves some of the oldest minutes before `cutoff` into their hours. Answers with the number of rows that it removed. No
/// other transaction writes between the two statements, so both choose the same rows.
pub(crate) fn fold(conn: &mut Conn, cutoff: i64, slice: i64) -> Result<usize, StoreError> {
    let (cutoff, slice) = (cutoff.into_sql::<BigInt>(), slice.into_sql::<BigInt>());
    prepared(
        "INSERT INTO attempt_stats
             (organization_id, subscription_id, width, at, event_type, cell, shard, count)
         SELECT organization_id, subscription_id, 3600, at - at % 3600000000, event_type, cell, 0, sum(count)
           FROM (SELECT * FROM attempt_stats WHERE width = 60 AND at < ? ORDER BY at, rowid LIMIT ?) counted
          GROUP BY 1, 2, 4, 5, 6
         ON CONFLICT (organization_id, subscription_id, width, at, event_type, cell, shard)
         DO UPDATE SET count = count + excluded.count",
        &[&cutoff, &slice],
    )
    .execute(conn)?;
    let deleted = prepared(
        "DELETE FROM attempt_stats WHERE rowid IN (
             SELECT rowid FROM attempt_stats WHERE width = 60 AND at < ? ORDER BY at, rowid LIMIT ?)",
        &[&cutoff, &slice],
    )
    .execute(conn)?;
    Ok(deleted)
}

/// Deletes some rows that begin before `cutoff`, and answers with their number.
pub(crate) fn forget(conn: &mut Conn, cutoff: i64, slice: i64) -> Result<usize, StoreError> {
    let deleted = prepared(
        "DELETE FROM attempt_stats WHERE rowid IN (
             SELECT rowid FROM attempt_stats WHERE width IN (60, 3600) AND at < ? LIMIT ?)",
        &[&cutoff.into_sql::<BigInt>(), &slice.into_sql::<BigInt>()],
    )
    .execute(conn)?;
    Ok(deleted)
}
