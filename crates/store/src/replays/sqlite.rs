//! SQL of replays for SQLite.

use diesel::prelude::*;
use hookline_core::timestamp::Timestamp;

use crate::backend::sqlite::Conn;
use crate::columns::UuidKey;
use crate::error::StoreError;
use crate::schema::replays;

/// There is one writer, so no lock is needed.
pub(crate) fn lock_limit(_: &mut Conn, _of: &str) -> Result<(), StoreError> {
    Ok(())
}

/// The replay that has waited longest.
pub(crate) fn due_replay(conn: &mut Conn, now: Timestamp) -> Result<Option<UuidKey>, StoreError> {
    Ok(replays::table
        .filter(replays::next_step_at.le(now.unix_micros()))
        .order(replays::next_step_at)
        .select(replays::id)
        .first(conn)
        .optional()?)
}
