//! Locks of single rows, which an embedded store does not have.

use diesel::prelude::*;
use hookline_core::ids::DeliveryId;

use super::Conn;
use crate::columns::Key;
use crate::error::StoreError;
use crate::schema::deliveries;

/// Takes the lock that an update of this delivery takes, and gives it back at once.
pub(crate) fn wait_for(conn: &mut Conn, delivery: DeliveryId) -> Result<(), StoreError> {
    let row = deliveries::table.filter(deliveries::id.eq(Key(delivery.0)));
    row.select(deliveries::id)
        .for_no_key_update()
        .load::<Key>(conn)?;
    Ok(())
}
