//! One delivery with its event and a page of its attempts.

use diesel::prelude::*;
use hookline_core::cursor::Cursor;
use hookline_core::ids::{DeliveryId, OrganizationId};

use crate::attempts::LoggedAttempt;
use crate::attempts::rows::AttemptRow;
use crate::backend::backends;
use crate::columns::UuidKey;
use crate::deliveries::Delivery;
use crate::deliveries::sql::{DeliveryRow, read};
use crate::error::StoreError;
use crate::rows::corrupt;
use crate::schema::{attempts, deliveries, events, subscriptions};
use crate::store::{Store, run};

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeliveryDetails {
    pub delivery: Delivery,
    pub request_body: String,
    /// Newest first.
    pub attempts: Vec<LoggedAttempt>,
}

impl Store {
    /// With up to `limit` attempts: the newest, or those before `after`.
    pub async fn delivery(
        &self,
        owner: OrganizationId,
        id: DeliveryId,
        limit: u32,
        after: Option<Cursor>,
    ) -> Result<Option<DeliveryDetails>, StoreError> {
        run!(self, read, |conn, q: self| q::find(
            conn, &owner, id, limit, after
        ))
    }
}

backends!(
    use backend::Conn;

    pub(crate) fn find(
        conn: &mut Conn,
        owner: &OrganizationId,
        id: DeliveryId,
        limit: u32,
        after: Option<Cursor>,
    ) -> Result<Option<DeliveryDetails>, StoreError> {
        let found: Option<(DeliveryRow, Vec<u8>)> = deliveries::table
            .inner_join(subscriptions::table)
            .inner_join(events::table)
            .filter(deliveries::id.eq(UuidKey(id.0)))
            .filter(deliveries::organization_id.eq(owner.as_str()))
            .select((DeliveryRow::as_select(), events::body))
            .first(conn)
            .optional()?;
        let Some((row, body)) = found else {
            return Ok(None);
        };
        let event_id = row.2.event_id.clone();
        let mut made = attempts::table
            .filter(attempts::delivery_id.eq(UuidKey(id.0)))
            .order((attempts::created_at.desc(), attempts::id.desc()))
            .limit(i64::from(limit))
            .select(AttemptRow::as_select())
            .into_boxed();
        if let Some(cursor) = after {
            let (at, id) = (cursor.created_at.unix_micros(), UuidKey(cursor.id));
            made = made
                .filter(attempts::created_at.le(at))
                .filter(attempts::created_at.lt(at).or(attempts::id.lt(id)));
        }
        let made: Vec<AttemptRow> = made.load(conn)?;
        Ok(Some(DeliveryDetails {
            delivery: read(row)?,
            request_body: String::from_utf8(body).map_err(|why| corrupt("body", why))?,
            attempts: made
                .into_iter()
                .map(|attempt| attempt.into_attempt(event_id.clone()))
                .collect::<Result<_, _>>()?,
        }))
    }
);
