//! Quarantine: crash counts of published events and deliveries. See `hookline_core::quarantine`.

use std::collections::HashMap;

use diesel::prelude::*;
use hookline_core::ids::QuarantineKey;
use hookline_core::timestamp::Timestamp;

use crate::backend::{ROWS, backends};
use crate::columns::UuidKey;
use crate::error::StoreError;
use crate::schema::crash_counts;

#[derive(Insertable)]
#[diesel(table_name = crash_counts, treat_none_as_default_value = false)]
struct CrashCount {
    key: UuidKey,
    crashes: i32,
    counted_at: i64,
}

/// Each once and in one order: rows are locked in it.
fn sorted(keys: &[QuarantineKey]) -> Vec<UuidKey> {
    let mut keys: Vec<UuidKey> = keys.iter().map(|key| UuidKey(key.0)).collect();
    keys.sort_unstable();
    keys.dedup();
    keys
}

backends!(
    use backend::Conn;

    /// A count of 0 is not in the answer.
    pub(crate) fn crash_counts(
        conn: &mut Conn,
        keys: &[QuarantineKey],
    ) -> Result<HashMap<QuarantineKey, u32>, StoreError> {
        let mut found = HashMap::new();
        for chunk in sorted(keys).chunks(ROWS) {
            let rows: Vec<(UuidKey, i32)> = crash_counts::table
                .filter(crash_counts::key.eq_any(chunk))
                .select((crash_counts::key, crash_counts::crashes))
                .load(conn)?;
            let read =
                |(key, crashes): (UuidKey, i32)| (QuarantineKey(key.0), crashes.unsigned_abs());
            found.extend(rows.into_iter().map(read));
        }
        Ok(found)
    }

    pub(crate) fn raise(
        conn: &mut Conn,
        keys: &[QuarantineKey],
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let rows: Vec<CrashCount> = sorted(keys)
            .into_iter()
            .map(|key| CrashCount {
                key,
                crashes: 1,
                counted_at: now.unix_micros(),
            })
            .collect();
        conn.transaction(|conn| {
            for chunk in rows.chunks(ROWS) {
                diesel::insert_into(crash_counts::table)
                    .values(chunk)
                    .on_conflict(crash_counts::key)
                    .do_update()
                    .set((
                        crash_counts::crashes.eq(crash_counts::crashes + 1),
                        crash_counts::counted_at.eq(now.unix_micros()),
                    ))
                    .execute(conn)?;
            }
            Ok(())
        })
    }

    pub(crate) fn clear(conn: &mut Conn, keys: &[QuarantineKey]) -> Result<(), StoreError> {
        for chunk in sorted(keys).chunks(ROWS) {
            diesel::delete(crash_counts::table.filter(crash_counts::key.eq_any(chunk)))
                .execute(conn)?;
        }
        Ok(())
    }

    /// A count that stays this long is of a process that crashed after it had handled the message.
    pub(crate) fn forget(conn: &mut Conn, cutoff: Timestamp) -> Result<(), StoreError> {
        diesel::delete(
            crash_counts::table.filter(crash_counts::counted_at.lt(cutoff.unix_micros())),
        )
        .execute(conn)?;
        Ok(())
    }
);
