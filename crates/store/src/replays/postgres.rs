//! SQL of replays for PostgreSQL.

use diesel::prelude::*;
use diesel::sql_types::{BigInt, Text};
use hookline_core::timestamp::Timestamp;

use crate::backend::postgres::Conn;
use crate::columns::{UuidColumn, UuidKey};
use crate::error::StoreError;

#[derive(QueryableByName)]
struct FoundReplay {
    #[diesel(sql_type = UuidColumn)]
    id: UuidKey,
}

/// Takes the lock of a limit on objects of `of`, until the end of the transaction.
pub(crate) fn lock_limit(conn: &mut Conn, of: &str) -> Result<(), StoreError> {
    diesel::sql_query("SELECT pg_advisory_xact_lock(hashtextextended($1, 0))")
        .bind::<Text, _>(of)
        .execute(conn)?;
    Ok(())
}

/// The replay that has waited longest, locked. Replays that another session has locked are skipped.
pub(crate) fn due_replay(conn: &mut Conn, now: Timestamp) -> Result<Option<UuidKey>, StoreError> {
    let due: Option<FoundReplay> = diesel::sql_query(
        "SELECT id FROM replays WHERE next_step_at <= $1
          ORDER BY next_step_at LIMIT 1 FOR NO KEY UPDATE SKIP LOCKED",
    )
    .bind::<BigInt, _>(now.unix_micros())
    .get_result(conn)
    .optional()?;
    Ok(due.map(|due| due.id))
}
