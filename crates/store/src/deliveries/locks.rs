//! Row locks, which SQLite does not have.
//!
//! The record of an attempt writes the row of its delivery and a counter of its subscription, and references the rows of its
//! subscription and event. Another session may hold a lock on any of these.

use diesel::prelude::*;
use hookline_core::ids::DeliveryId;

use crate::backend::postgres::Conn;
use crate::columns::UuidKey;
use crate::error::StoreError;
use crate::schema::{attempt_counts, deliveries, events, subscriptions};

/// Takes the locks that `record` needs for this delivery, and releases them at once.
pub(crate) fn wait_for(conn: &mut Conn, delivery: DeliveryId) -> Result<(), StoreError> {
    conn.transaction(|conn| {
        let found: Option<(i64, UuidKey)> = deliveries::table
            .filter(deliveries::id.eq(UuidKey(delivery.0)))
            .select((deliveries::subscription_id, deliveries::event_key))
            .for_no_key_update()
            .first(conn)
            .optional()?;
        let Some((subscription, event)) = found else {
            return Ok(());
        };
        attempt_counts::table
            .filter(attempt_counts::subscription_id.eq(subscription))
            .select(attempt_counts::count)
            .for_no_key_update()
            .load::<i64>(conn)?;
        subscriptions::table
            .filter(subscriptions::id.eq(subscription))
            .select(subscriptions::id)
            .for_key_share()
            .load::<i64>(conn)?;
        events::table
            .filter(events::key.eq(event))
            .select(events::key)
            .for_key_share()
            .load::<UuidKey>(conn)?;
        Ok(())
    })
}
