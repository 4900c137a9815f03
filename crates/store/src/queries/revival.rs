//! Putting a delivery back that was given up as poison: it goes on where it stopped.

use diesel::prelude::*;
use hookline_core::delivery::{DeliveryState, GaveUp, OwedAttempt};
use hookline_core::ids::{DeliveryId, SubscriptionId};
use hookline_core::timestamp::Timestamp;

use super::super::{Conn, bulk};
use super::trials;
use crate::columns::Key;
use crate::error::StoreError;
use crate::records::Revival;
use crate::rows::read_state;
use crate::schema::deliveries;

type Row = (
    i32,
    i32,
    i64,
    String,
    Option<i64>,
    Option<i64>,
    Option<String>,
);

/// Owes a delivery's next attempt at once if it ended as poison, with no charges against it. No
/// attempt was recorded when it ended, so generation and number are what they were. One that is
/// still pending is left as it is.
pub(crate) fn revive(
    conn: &mut Conn,
    id: DeliveryId,
    now: Timestamp,
) -> Result<Revival, StoreError> {
    let key = Key(id.0);
    conn.transaction(|conn| {
        bulk::revive_delivery(conn, key, now)?;
        let row: Option<Row> = deliveries::table
            .filter(deliveries::id.eq(key))
            .select((
                deliveries::generation,
                deliveries::attempts,
                deliveries::subscription_id,
                deliveries::state,
                deliveries::due,
                deliveries::finished_at,
                deliveries::gave_up,
            ))
            .first(conn)
            .optional()?;
        let Some((generation, attempts, to, state, due, finished_at, gave_up)) = row else {
            return Ok(Revival::Unknown);
        };
        let state = read_state(&state, due, finished_at, gave_up.as_deref())?;
        match state {
            DeliveryState::Pending { .. } => {
                trials::end(conn, &[id.into()])?;
                Ok(Revival::Owed(OwedAttempt {
                    delivery: id,
                    generation: generation.unsigned_abs(),
                    attempt: attempts.unsigned_abs() + 1,
                    subscription: SubscriptionId(to),
                }))
            }
            finished => Ok(Revival::Finished(finished)),
        }
    })
}

/// What stands in the row of a delivery that [`revive`] brings back.
pub(crate) const POISON: &str = GaveUp::Poison.as_str();
