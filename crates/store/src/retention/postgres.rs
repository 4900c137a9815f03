//! Daily partitions of the log. They belong to the owner of the tables. The functions that create and drop them run with the
//! owner's rights, so services only need the right to write rows.

use diesel::prelude::*;
use diesel::sql_types::{BigInt, Bool, Integer};
use hookline_core::timestamp::Timestamp;

use crate::backend::postgres::Conn;
use crate::error::StoreError;

/// Days after today with a partition.
const DAYS_AHEAD: i64 = 3;

/// The advisory lock of retention: without it, slices of several dispatchers would wait for each other.
const LOCK: i64 = 0x686f_6f6b_6b65_6570;

#[derive(QueryableByName)]
struct LockedRow {
    #[diesel(sql_type = Bool)]
    locked: bool,
}

#[derive(QueryableByName)]
struct DroppedRow {
    #[diesel(sql_type = Integer)]
    dropped: i32,
}

#[derive(QueryableByName)]
struct RowCount {
    #[diesel(sql_type = BigInt)]
    rows: i64,
}

/// Creates the partitions of today and the next days. Rows without a partition, for example because no dispatcher ran for
/// days, go to the default one.
pub(crate) fn prepare_days(conn: &mut Conn, now: Timestamp) -> Result<(), StoreError> {
    let today = now.unix_day();
    diesel::sql_query("SELECT prepare_attempt_days($1, $2)")
        .bind::<BigInt, _>(today)
        .bind::<BigInt, _>(today + DAYS_AHEAD)
        .execute(conn)?;
    Ok(())
}

/// Rows of the default partition, counted up to `most`.
pub(crate) fn unpartitioned(conn: &mut Conn, most: i64) -> Result<u64, StoreError> {
    let counted: RowCount = diesel::sql_query(
        "SELECT count(*) AS rows FROM (SELECT FROM attempts_other LIMIT $1) AS counted",
    )
    .bind::<BigInt, _>(most)
    .get_result(conn)?;
    Ok(counted.rows.unsigned_abs())
}

/// False while another transaction deletes.
pub(crate) fn try_lock_retention(conn: &mut Conn) -> Result<bool, StoreError> {
    let locked: LockedRow = diesel::sql_query("SELECT pg_try_advisory_xact_lock($1) AS locked")
        .bind::<BigInt, _>(LOCK)
        .get_result(conn)?;
    Ok(locked.locked)
}

/// Drops the oldest partition of a day before `day`. If there is none, deletes such rows of the default partition.
pub(crate) fn forget_attempts(
    conn: &mut Conn,
    day: i64,
    slice: usize,
) -> Result<usize, StoreError> {
    let DroppedRow { dropped } = diesel::sql_query("SELECT drop_attempt_day($1) AS dropped")
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
