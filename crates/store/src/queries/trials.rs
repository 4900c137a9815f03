//! Trials of published events and deliveries of which processes may have died: see `hookline_core::trial`.

use std::collections::HashMap;

use diesel::prelude::*;
use hookline_core::ids::TrialKey;
use hookline_core::timestamp::Timestamp;

use super::super::Conn;
use super::ROWS;
use crate::columns::Key;
use crate::error::StoreError;
use crate::schema::trials;

#[derive(Insertable)]
#[diesel(table_name = trials, treat_none_as_default_value = false)]
struct NewTrial {
    key: Key,
    charges: i32,
    begun_at: i64,
}

/// How often each was charged; one that never was is not in the answer.
pub(crate) fn charges(
    conn: &mut Conn,
    keys: &[TrialKey],
) -> Result<HashMap<TrialKey, u32>, StoreError> {
    let mut found = HashMap::new();
    for chunk in sorted(keys).chunks(ROWS) {
        let rows: Vec<(Key, i32)> = trials::table
            .filter(trials::key.eq_any(chunk))
            .select((trials::key, trials::charges))
            .load(conn)?;
        let read = |(key, charges): (Key, i32)| (TrialKey(key.0), charges.unsigned_abs());
        found.extend(rows.into_iter().map(read));
    }
    Ok(found)
}

/// Charges each once more, until its trial is over.
pub(crate) fn begin(conn: &mut Conn, keys: &[TrialKey], now: Timestamp) -> Result<(), StoreError> {
    let rows: Vec<NewTrial> = sorted(keys)
        .into_iter()
        .map(|key| NewTrial {
            key,
            charges: 1,
            begun_at: now.unix_micros(),
        })
        .collect();
    conn.transaction(|conn| {
        for chunk in rows.chunks(ROWS) {
            diesel::insert_into(trials::table)
                .values(chunk)
                .on_conflict(trials::key)
                .do_update()
                .set((
                    trials::charges.eq(trials::charges + 1),
                    trials::begun_at.eq(now.unix_micros()),
                ))
                .execute(conn)?;
        }
        Ok(())
    })
}

/// Takes all charges back.
pub(crate) fn end(conn: &mut Conn, keys: &[TrialKey]) -> Result<(), StoreError> {
    for chunk in sorted(keys).chunks(ROWS) {
        diesel::delete(trials::table.filter(trials::key.eq_any(chunk))).execute(conn)?;
    }
    Ok(())
}

/// Forgets trials begun before `cutoff`: their process died after it had handled what was on trial.
pub(crate) fn forget(conn: &mut Conn, cutoff: Timestamp) -> Result<(), StoreError> {
    diesel::delete(trials::table.filter(trials::begun_at.lt(cutoff.unix_micros())))
        .execute(conn)?;
    Ok(())
}

/// Each once and in one order, like everything that takes locks.
fn sorted(keys: &[TrialKey]) -> Vec<Key> {
    let mut keys: Vec<Key> = keys.iter().map(|key| Key(key.0)).collect();
    keys.sort_unstable();
    keys.dedup();
    keys
}
