//! Deliveries as their owner sees them: a pending delivery that its subscription will no
//! longer get reads as what it will be noted as when its turn comes.

use diesel::prelude::*;
use hookline_core::cursor::Cursor;
use hookline_core::delivery::{DeliveryState, Origin};
use hookline_core::ids::{DeliveryId, EventId, OrganizationId, SubscriptionId};
use hookline_core::timestamp::Timestamp;

use super::super::Conn;
use crate::columns::Key;
use crate::error::StoreError;
use crate::records::{
    Delivery, DeliveryQuery, DeliveryStatus, DeliveryStory, Listing, PageStart, Standing, Standings,
};
use crate::rows::{AttemptRow, corrupt, read_event_type, read_origin, read_state};
use crate::schema::{attempts, deliveries, events, subscriptions};

#[derive(Queryable, Selectable)]
#[diesel(table_name = deliveries)]
pub(super) struct DeliveryColumns {
    id: Key,
    subscription_id: i64,
    origin: String,
    activation: i64,
    attempts: i32,
    state: String,
    due: Option<i64>,
    finished_at: Option<i64>,
    gave_up: Option<String>,
    created_at: i64,
}

#[derive(Queryable, Selectable)]
#[diesel(table_name = subscriptions)]
pub(super) struct SubscriptionColumns {
    pub(super) name: String,
    is_active: bool,
    activation: i64,
    deleted_at: Option<i64>,
}

#[derive(Queryable, Selectable)]
#[diesel(table_name = events)]
pub(super) struct EventColumns {
    event_id: String,
    event_type: String,
}

pub(super) type Row = (DeliveryColumns, SubscriptionColumns, EventColumns);

/// Narrows a query over deliveries and subscriptions to what was asked for, apart from the type,
/// which only events know. Its decision on a status is that of [`status_of`], in SQL.
macro_rules! narrowed {
    ($rows:expr, $query:expr) => {{
        let query: &DeliveryQuery = $query;
        let mut rows = $rows
            .filter(deliveries::organization_id.eq(query.organization.as_str()))
            .filter(deliveries::subscription_id.eq(query.subscription.0))
            .into_boxed();
        if let Some(since) = query.since {
            rows = rows.filter(deliveries::created_at.ge(since.unix_micros()));
        }
        if let Some(until) = query.until {
            rows = rows.filter(deliveries::created_at.lt(until.unix_micros()));
        }
        if let Some(status) = query.status {
            let stored = deliveries::state.eq(status.as_str());
            let pending = deliveries::state.eq(DeliveryStatus::Pending.as_str());
            let deleted = subscriptions::deleted_at.is_not_null();
            let there = subscriptions::deleted_at.is_null();
            let test = deliveries::origin.eq(Origin::Test.as_str());
            let event = deliveries::origin.ne(Origin::Test.as_str());
            let on = subscriptions::is_active.eq(true);
            let off = subscriptions::is_active.eq(false);
            let same = subscriptions::activation.eq(deliveries::activation);
            let other = subscriptions::activation.ne(deliveries::activation);
            rows = match status {
                DeliveryStatus::Pending => {
                    rows.filter(stored.and(there).and(test.or(on.and(same))))
                }
                DeliveryStatus::Skipped => {
                    rows.filter(stored.or(pending.and(there).and(event).and(off.or(other))))
                }
                DeliveryStatus::Cancelled => rows.filter(stored.or(pending.and(deleted))),
                DeliveryStatus::Delivered | DeliveryStatus::Exhausted => rows.filter(stored),
            };
        }
        rows
    }};
}

pub(crate) fn page(
    conn: &mut Conn,
    query: &DeliveryQuery,
) -> Result<Listing<Delivery>, StoreError> {
    let joined = deliveries::table
        .inner_join(subscriptions::table)
        .inner_join(events::table);
    let mut rows = narrowed!(joined, query)
        .order((deliveries::created_at.desc(), deliveries::id.desc()))
        .limit(i64::from(query.limit));
    if let Some(event_type) = query.event_type {
        rows = rows.filter(events::event_type.eq(event_type.as_str()));
    }
    rows = match query.start {
        PageStart::Offset(offset) => rows.offset(i64::try_from(offset).unwrap_or(i64::MAX)),
        PageStart::Cursor(cursor) => {
            let (at, id) = (cursor.created_at.unix_micros(), Key(cursor.id));
            // The first condition lets the index begin at the cursor.
            rows.filter(deliveries::created_at.le(at))
                .filter(deliveries::created_at.lt(at).or(deliveries::id.lt(id)))
        }
    };
    let rows: Vec<Row> = rows.select(Row::as_select()).load(conn)?;
    Ok(Listing {
        rows: rows.into_iter().map(read).collect::<Result<_, _>>()?,
        total: total(conn, query)?,
    })
}

/// Looks at events only when it must: that would be one more row for each that is counted.
fn total(conn: &mut Conn, query: &DeliveryQuery) -> Result<u64, StoreError> {
    let joined = deliveries::table.inner_join(subscriptions::table);
    let total: i64 = match query.event_type {
        None => narrowed!(joined, query).count().get_result(conn)?,
        Some(event_type) => narrowed!(joined.inner_join(events::table), query)
            .filter(events::event_type.eq(event_type.as_str()))
            .count()
            .get_result(conn)?,
    };
    Ok(u64::try_from(total).unwrap_or_default())
}

fn status_of(state: DeliveryState, standing: Standing) -> DeliveryStatus {
    match (state, standing) {
        (DeliveryState::Pending { .. }, Standing::Active) => DeliveryStatus::Pending,
        (DeliveryState::Pending { .. }, Standing::Inactive)
        | (DeliveryState::Skipped { .. }, _) => DeliveryStatus::Skipped,
        (DeliveryState::Pending { .. }, Standing::Deleted)
        | (DeliveryState::Cancelled { .. }, _) => DeliveryStatus::Cancelled,
        (DeliveryState::Delivered { .. }, _) => DeliveryStatus::Delivered,
        (DeliveryState::Exhausted { .. }, _) => DeliveryStatus::Exhausted,
    }
}

pub(super) fn read((delivery, subscription, event): Row) -> Result<Delivery, StoreError> {
    let origin = read_origin(&delivery.origin)?;
    let gave_up = delivery.gave_up.as_deref();
    let state = read_state(&delivery.state, delivery.due, delivery.finished_at, gave_up)?;
    let standings = Standings {
        origin,
        made_in: delivery.activation,
        activation: subscription.activation,
        is_active: subscription.is_active,
        is_deleted: subscription.deleted_at.is_some(),
    };
    let status = status_of(state, standings.into());
    let (next_attempt_at, finished_at, gave_up) = match state {
        DeliveryState::Pending { due } if status == DeliveryStatus::Pending => {
            (Some(due), None, None)
        }
        DeliveryState::Pending { .. } => (None, None, None),
        DeliveryState::Exhausted { at, why } => (None, Some(at), Some(why)),
        DeliveryState::Delivered { at }
        | DeliveryState::Skipped { at }
        | DeliveryState::Cancelled { at } => (None, Some(at), None),
    };
    Ok(Delivery {
        id: DeliveryId(delivery.id.0),
        subscription: SubscriptionId(delivery.subscription_id),
        event_id: EventId::parse(event.event_id).map_err(|why| corrupt("event_id", why))?,
        event_type: read_event_type(&event.event_type)?,
        origin,
        status,
        attempts_made: delivery.attempts.unsigned_abs(),
        next_attempt_at,
        created_at: Timestamp::from_unix_micros(delivery.created_at),
        finished_at,
        gave_up,
    })
}

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
