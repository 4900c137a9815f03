//! SQL of the roll-up for PostgreSQL.

use diesel::prelude::*;
use diesel::sql_types::{BigInt, Integer, Text};

use crate::backend::ROWS;
use crate::backend::postgres::Conn;
use crate::backend::postgres::unnest::UnnestRows;
use crate::error::StoreError;
use crate::rollup::{Tallies, TallyKey};

pub(crate) fn add(conn: &mut Conn, tallies: &Tallies<'_>, shard: i32) -> Result<(), StoreError> {
    let rows: Vec<(&TallyKey<'_>, i64)> = tallies.rows().collect();
    for rows in rows.chunks(ROWS) {
        let keys = || rows.iter().map(|(key, _)| key);
        UnnestRows::default()
            .column::<Text, _>("organization_id", keys().map(|key| key.organization_id))
            .column::<BigInt, _>("subscription_id", keys().map(|key| key.subscription_id))
            .column::<Integer, _>("width", keys().map(|_| 60))
            .column::<BigInt, _>("at", keys().map(|key| key.at))
            .column::<Text, _>("event_type", keys().map(|key| key.event_type))
            .column::<Integer, _>("cell", keys().map(|key| key.cell))
            .column::<Integer, _>("shard", keys().map(|_| shard))
            .column::<BigInt, _>("count", rows.iter().map(|(_, count)| *count))
            .inserted_into(
                "attempt_stats AS s",
                // As in `recording`, and as the tallies are divided.
                "ORDER BY organization_id COLLATE \"C\", subscription_id, at, event_type COLLATE \"C\", cell
                 ON CONFLICT (organization_id, subscription_id, width, at, event_type, cell, shard)
                 DO UPDATE SET count = s.count + excluded.count",
            )
            .execute(conn)?;
    }
    Ok(())
}

/// Moves some of the oldest minutes before `cutoff` into their hours. Answers with the number of rows that it removed.
/// DELETE returns a row as it is when it is deleted, so a count that a writer adds meanwhile is moved, too. A row that another
/// process writes or moves now comes with a later slice.
pub(crate) fn fold(conn: &mut Conn, cutoff: i64, slice: i64) -> Result<usize, StoreError> {
    #[derive(QueryableByName)]
    struct Removed {
        #[diesel(sql_type = BigInt)]
        removed: i64,
    }
    let Removed { removed } = diesel::sql_query(
        "WITH old AS (
             DELETE FROM attempt_stats WHERE ctid = ANY (ARRAY(
                 SELECT ctid FROM attempt_stats WHERE width = 60 AND at < $1 ORDER BY at LIMIT $2
                    FOR UPDATE SKIP LOCKED))
             RETURNING *
         ), hours AS (
             INSERT INTO attempt_stats AS s
                 (organization_id, subscription_id, width, at, event_type, cell, shard, count)
             SELECT organization_id, subscription_id, 3600, at - at % 3600000000, event_type, cell, 0, sum(count)
               FROM old GROUP BY 1, 2, 4, 5, 6 ORDER BY 1, 2, 4, 5, 6
             ON CONFLICT (organization_id, subscription_id, width, at, event_type, cell, shard)
             DO UPDATE SET count = s.count + excluded.count
         )
         SELECT count(*) AS removed FROM old",
    )
    .bind::<BigInt, _>(cutoff)
    .bind::<BigInt, _>(slice)
    .get_result(conn)?;
    Ok(usize::try_from(removed).unwrap_or_default())
}

/// Deletes some rows that begin before `cutoff`, and answers with their number.
pub(crate) fn forget(conn: &mut Conn, cutoff: i64, slice: i64) -> Result<usize, StoreError> {
    let deleted = diesel::sql_query(
        "DELETE FROM attempt_stats WHERE ctid = ANY (ARRAY(
             SELECT ctid FROM attempt_stats WHERE width IN (60, 3600) AND at < $1 LIMIT $2
                FOR UPDATE SKIP LOCKED))",
    )
    .bind::<BigInt, _>(cutoff)
    .bind::<BigInt, _>(slice)
    .execute(conn)?;
    Ok(deleted)
}
