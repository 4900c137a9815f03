//! The daily partitions of the log. They belong to the owner of the tables; the functions that make
//! and drop them run with the owner's rights, so that the services need the right to write rows and
//! no other (migration `000110_retention`).

use diesel::prelude::*;
use diesel::sql_types::{BigInt, Bool, Integer};
use hookline_core::timestamp::Timestamp;

use super::Conn;
use crate::error::StoreError;

/// How many days ahead of now have a partition.
const DAYS_AHEAD: i64 = 3;

/// The advisory lock of retention: slices of several dispatchers would wait for one another.
const LOCK: i64 = 0x686f_6f6b_6b65_6570;

#[derive(QueryableByName)]
struct Locked {
    #[diesel(sql_type = Bool)]
    locked: bool,
}

#[derive(QueryableByName)]
struct Dropped {
    #[diesel(sql_type = Integer)]
    dropped: i32,
}

#[derive(QueryableByName)]
struct Rows {
    #[diesel(sql_type = BigInt)]
    rows: i64,
}

/// Makes the partitions of today and the days to come. What no partition takes, say because
/// no dispatcher ran for days, goes to the default one.
pub(crate) fn prepare_days(conn: &mut Conn, now: Timestamp) -> Result<(), StoreError> {
    let today = now.unix_day();
    diesel::sql_query("SELECT prepare_attempt_days($1, $2)")
        .bind::<BigInt, _>(today)
        .bind::<BigInt, _>(today + DAYS_AHEAD)
        .execute(conn)?;
    Ok(())
}

/// How many rows the default partition has, up to `most`.
pub(crate) fn unpartitioned(conn: &mut Conn, most: i64) -> Result<u64, StoreError> {
    let counted: Rows = diesel::sql_query(
        "SELECT count(*) AS rows FROM (SELECT FROM attempts_other LIMIT $1) AS counted",
    )
    .bind::<BigInt, _>(most)
    .get_result(conn)?;
    Ok(counted.rows.unsigned_abs())
}

/// Whether this transaction alone forgets.
pub(crate) fn retention_alone(conn: &mut Conn) -> Result<bool, StoreError> {
    let locked: Locked = diesel::sql_query("SELECT pg_try_advisory_xact_lock($1) AS locked")
        .bind::<BigInt, _>(LOCK)
        .get_result(conn)?;
    Ok(locked.locked)
}

/// Drops the oldest partition of a day before `day`; where there is none, deletes such rows of the
/// default one.
pub(crate) fn forget_attempts(
    conn: &mut Conn,
    day: i64,
    slice: usize,
) -> Result<usize, StoreError> {
    let Dropped { dropped } = diesel::sql_query("SELECT drop_attempt_day($1) AS dropped")
        .bind::<BigInt, _>(day)
        .get_result(conn)?;
    if dropped > 0 {
        return Ok(1);
    }
    let deleted = diesel::sql_query(
        "DELETE FROM attempts_other WHERE ctid = ANY (ARRAY(
             SELECT ctid FROM attempts_other WHERE created_at < $1 LIMIT $2))",
    )
    .bind::<BigInt, _>(Timestamp::of_unix_day(day).unix_micros())
    .bind::<BigInt, _>(i64::try_from(slice).unwrap_or(i64::MAX))
    .execute(conn)?;
    Ok(deleted)
}
