//! Forgetting what is older than the retention, in steps that hold nobody up.

use diesel::dsl::sql;
use diesel::prelude::*;
use diesel::sql_types::BigInt;
use hookline_core::timestamp::Timestamp;

use super::super::{Conn, bulk};
use super::stored::Change;
use crate::columns::Key;
use crate::error::StoreError;
use crate::schema::{attempt_counts, deliveries, events};

/// How many events go in one step.
const STEP: i64 = 1_000;

/// Forgets attempts of days before `day` (days since 1970), with their totals.
pub(crate) fn forget_attempts(conn: &mut Conn, day: i64) -> Result<(), StoreError> {
    conn.transaction(|conn| {
        bulk::drop_attempts_before(conn, day)?;
        diesel::delete(attempt_counts::table.filter(attempt_counts::day.lt(day))).execute(conn)?;
        Ok(())
    })
}

/// Forgets some events received before `cutoff` with their deliveries, unless one is still
/// pending. Answers with how many; 0 means that there are no more.
pub(crate) fn forget_events(conn: &mut Conn, cutoff: Timestamp) -> Result<usize, StoreError> {
    conn.transaction(|conn| {
        let pending = deliveries::table
            .filter(deliveries::event_key.eq(events::key))
            .filter(deliveries::state.eq("pending"));
        let rows: Vec<(Key, String, i64)> = events::table
            .filter(events::received_at.lt(cutoff.unix_micros()))
            .filter(diesel::dsl::not(diesel::dsl::exists(pending)))
            .order(events::received_at)
            .limit(STEP)
            .select((
                events::key,
                events::organization_id,
                sql::<BigInt>("CAST(length(body) AS BIGINT)"),
            ))
            .load(conn)?;
        let keys: Vec<Key> = rows.iter().map(|(key, ..)| *key).collect();
        diesel::delete(deliveries::table.filter(deliveries::event_key.eq_any(&keys)))
            .execute(conn)?;
        diesel::delete(events::table.filter(events::key.eq_any(&keys))).execute(conn)?;
        let mut stored = Change::default();
        for (_, owner, bytes) in &rows {
            stored.add(owner, -bytes);
        }
        bulk::add_stored(conn, &stored.into_parts(0))?;
        Ok(keys.len())
    })
}
