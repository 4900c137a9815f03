//! Queries of dead deliveries. A row exists while its delivery is exhausted as `poison`: the transaction that ends the
//! delivery writes it, and the one that restarts or deletes the delivery removes it.

use diesel::prelude::*;
use hookline_core::delivery::{AttemptTask, DeliveryState, ExhaustedReason};
use hookline_core::ids::DeliveryId;
use hookline_core::timestamp::Timestamp;

use crate::backend::{ROWS, backends};
use crate::columns::UuidKey;
use crate::deliveries::dead_deliveries::DeadDelivery;
use crate::error::StoreError;
use crate::schema::dead_deliveries;

/// A longer reason is cut.
const REASON_BYTES: usize = 4096;

type DeadDeliveryRow = (UuidKey, String, i64);

fn read((id, reason, at): DeadDeliveryRow) -> DeadDelivery {
    DeadDelivery {
        delivery: DeliveryId(id.0),
        reason,
        since: Timestamp::from_unix_micros(at),
    }
}

backends!(
    with {
        ends: crate::deliveries::ends,
    }

    use backend::Conn;

    pub(crate) fn put(
        conn: &mut Conn,
        task: AttemptTask,
        reason: &str,
        now: Timestamp,
        shard: i32,
    ) -> Result<(), StoreError> {
        let poison = DeliveryState::Exhausted {
            at: now,
            reason: ExhaustedReason::Poison,
        };
        // PostgreSQL's text has no NUL.
        let reason = reason[..reason.floor_char_boundary(REASON_BYTES)].replace('\0', "\u{fffd}");
        conn.transaction(|conn| {
            if ends::end(conn, &[task], poison, shard)? == 0 {
                return Ok(());
            }
            let noted = (
                dead_deliveries::reason.eq(reason),
                dead_deliveries::at.eq(now.unix_micros()),
            );
            diesel::insert_into(dead_deliveries::table)
                .values((
                    dead_deliveries::delivery_id.eq(UuidKey(task.delivery.0)),
                    noted.clone(),
                ))
                .on_conflict(dead_deliveries::delivery_id)
                .do_update()
                .set(noted)
                .execute(conn)?;
            Ok(())
        })
    }

    pub(crate) fn page(
        conn: &mut Conn,
        after: Option<(Timestamp, DeliveryId)>,
        max: u32,
    ) -> Result<Vec<DeadDelivery>, StoreError> {
        let mut rows = dead_deliveries::table
            .order((dead_deliveries::at, dead_deliveries::delivery_id))
            .limit(max.into())
            .into_boxed();
        if let Some((at, id)) = after {
            let (at, id) = (at.unix_micros(), UuidKey(id.0));
            rows = rows.filter(dead_deliveries::at.ge(at)).filter(
                dead_deliveries::at
                    .gt(at)
                    .or(dead_deliveries::delivery_id.gt(id)),
            );
        }
        let rows: Vec<DeadDeliveryRow> = rows.load(conn)?;
        Ok(rows.into_iter().map(read).collect())
    }

    pub(crate) fn find(
        conn: &mut Conn,
        id: DeliveryId,
    ) -> Result<Option<DeadDelivery>, StoreError> {
        let row: Option<DeadDeliveryRow> = dead_deliveries::table
            .find(UuidKey(id.0))
            .first(conn)
            .optional()?;
        Ok(row.map(read))
    }

    pub(crate) fn count(conn: &mut Conn) -> Result<u64, StoreError> {
        let count: i64 = dead_deliveries::table.count().get_result(conn)?;
        Ok(count.unsigned_abs())
    }

    /// Answers with the number of rows that it removed.
    pub(crate) fn remove(conn: &mut Conn, keys: &[UuidKey]) -> Result<usize, StoreError> {
        let mut removed = 0;
        for chunk in keys.chunks(ROWS) {
            removed += diesel::delete(
                dead_deliveries::table.filter(dead_deliveries::delivery_id.eq_any(chunk)),
            )
            .execute(conn)?;
        }
        Ok(removed)
    }
);
