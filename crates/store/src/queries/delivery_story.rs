//! One delivery, what it carries, and its attempts page by page.

use diesel::prelude::*;
use hookline_core::cursor::Cursor;
use hookline_core::ids::{DeliveryId, OrganizationId};

use super::super::Conn;
use super::deliveries::{Row, read};
use crate::columns::Key;
use crate::error::StoreError;
use crate::records::DeliveryStory;
use crate::rows::{AttemptRow, corrupt};
use crate::schema::{attempts, deliveries, events, subscriptions};

/// With so many of its attempts at most, the newest or those before `after`.
pub(crate) fn find(
    conn: &mut Conn,
    owner: &OrganizationId,
    id: DeliveryId,
    limit: u32,
    after: Option<Cursor>,
) -> Result<Option<DeliveryStory>, StoreError> {
    let found: Option<(Row, Vec<u8>)> = deliveries::table
        .inner_join(subscriptions::table)
        .inner_join(events::table)
        .filter(deliveries::id.eq(Key(id.0)))
        .filter(deliveries::organization_id.eq(owner.as_str()))
        .select((Row::as_select(), events::body))
        .first(conn)
        .optional()?;
    let Some((row, body)) = found else {
        return Ok(None);
    };
    let event_id = row.2.event_id.clone();
    let mut made = attempts::table
        .filter(attempts::delivery_id.eq(Key(id.0)))
        .order((attempts::created_at.desc(), attempts::id.desc()))
        .limit(i64::from(limit))
        .select(AttemptRow::as_select())
        .into_boxed();
    if let Some(cursor) = after {
        let (at, id) = (cursor.created_at.unix_micros(), Key(cursor.id));
        made = made
            .filter(attempts::created_at.le(at))
            .filter(attempts::created_at.lt(at).or(attempts::id.lt(id)));
    }
    let made: Vec<AttemptRow> = made.load(conn)?;
    Ok(Some(DeliveryStory {
        delivery: read(row)?,
        request_body: String::from_utf8(body).map_err(|why| corrupt("body", why))?,
        attempts: made
            .into_iter()
            .map(|attempt| attempt.into_attempt(event_id.clone()))
            .collect::<Result<_, _>>()?,
    }))
}
