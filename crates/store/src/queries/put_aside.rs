//! Deliveries that were put aside. A row is there while its delivery is exhausted as poison: the transaction that
//! ends the delivery writes it, and the one that starts the delivery again or forgets it removes it.

use diesel::prelude::*;
use hookline_core::delivery::{DeliveryState, GaveUp, OwedAttempt};
use hookline_core::ids::DeliveryId;
use hookline_core::timestamp::Timestamp;

use super::super::Conn;
use super::{ROWS, progress};
use crate::columns::Key;
use crate::error::StoreError;
use crate::records::PutAside;
use crate::schema::put_aside;

/// How many bytes of a reason are kept.
const REASON_BYTES: usize = 4096;

type Row = (Key, String, i64);

/// Ends the delivery as poison and notes why, where it is still pending in that generation.
pub(crate) fn put(
    conn: &mut Conn,
    owed: OwedAttempt,
    reason: &str,
    now: Timestamp,
) -> Result<(), StoreError> {
    let poison = DeliveryState::Exhausted {
        at: now,
        why: GaveUp::Poison,
    };
    // PostgreSQL has no NUL in a text.
    let reason = reason[..reason.floor_char_boundary(REASON_BYTES)].replace('\0', "\u{fffd}");
    conn.transaction(|conn| {
        if progress::end(conn, &[owed], poison)? == 0 {
            return Ok(());
        }
        let noted = (
            put_aside::reason.eq(reason),
            put_aside::at.eq(now.unix_micros()),
        );
        diesel::insert_into(put_aside::table)
            .values((
                put_aside::delivery_id.eq(Key(owed.delivery.0)),
                noted.clone(),
            ))
            .on_conflict(put_aside::delivery_id)
            .do_update()
            .set(noted)
            .execute(conn)?;
        Ok(())
    })
}

/// Some after this one, oldest first.
pub(crate) fn page(
    conn: &mut Conn,
    after: Option<(Timestamp, DeliveryId)>,
    max: u32,
) -> Result<Vec<PutAside>, StoreError> {
    let mut rows = put_aside::table
        .order((put_aside::at, put_aside::delivery_id))
        .limit(max.into())
        .into_boxed();
    if let Some((at, id)) = after {
        let (at, id) = (at.unix_micros(), Key(id.0));
        rows = rows
            .filter(put_aside::at.ge(at))
            .filter(put_aside::at.gt(at).or(put_aside::delivery_id.gt(id)));
    }
    let rows: Vec<Row> = rows.load(conn)?;
    Ok(rows.into_iter().map(read).collect())
}

pub(crate) fn find(conn: &mut Conn, id: DeliveryId) -> Result<Option<PutAside>, StoreError> {
    let row: Option<Row> = put_aside::table.find(Key(id.0)).first(conn).optional()?;
    Ok(row.map(read))
}

pub(crate) fn count(conn: &mut Conn) -> Result<u64, StoreError> {
    let count: i64 = put_aside::table.count().get_result(conn)?;
    Ok(count.unsigned_abs())
}

/// Removes the rows of these deliveries; answers with how many there were.
pub(crate) fn remove(conn: &mut Conn, keys: &[Key]) -> Result<usize, StoreError> {
    let mut removed = 0;
    for chunk in keys.chunks(ROWS) {
        removed += diesel::delete(put_aside::table.filter(put_aside::delivery_id.eq_any(chunk)))
            .execute(conn)?;
    }
    Ok(removed)
}

fn read((id, reason, at): Row) -> PutAside {
    PutAside {
        delivery: DeliveryId(id.0),
        reason,
        since: Timestamp::from_unix_micros(at),
    }
}
