//! What a dispatcher asks and says: what is owed, what it carries, and what came of it.

use std::collections::{BTreeMap, HashMap};

use diesel::dsl::case_when;
use diesel::prelude::*;
use diesel::sql_types::Bool;
use hookline_core::delivery::{DeliveryState, OwedAttempt};
use hookline_core::ids::{DeliveryId, EventKey, SubscriptionId};
use hookline_core::target::TargetUrl;
use hookline_core::trace::TraceParent;

use super::super::{Conn, bulk};
use super::ROWS;
use crate::columns::Key;
use crate::credentials::SealedCredentials;
use crate::error::StoreError;
use crate::records::{BacklogClass, Body, Loaded, Owed, Source, Standings};
use crate::rows::{StateColumns, organization, read_event_type, read_origin, read_run, read_state};
use crate::schema::{deliveries, events, subscriptions};

#[derive(Queryable)]
struct OwedRow {
    id: Key,
    organization_id: String,
    subscription_id: i64,
    event_key: Key,
    event_type: String,
    origin: String,
    made_in: i64,
    generation: i32,
    attempts: i32,
    attempts_before: i32,
    cause: String,
    backlog: Option<i16>,
    state: String,
    due: Option<i64>,
    finished_at: Option<i64>,
    gave_up: Option<String>,
    url: String,
    secret: Option<Vec<u8>>,
    previous_secret: Option<Vec<u8>>,
    previous_until: Option<i64>,
    headers: Vec<u8>,
    is_active: bool,
    activation: i64,
    deleted_at: Option<i64>,
}

/// So few are loaded with their bodies at once, whoever knows them already.
const FEW: usize = 8;

#[derive(Clone, Copy)]
enum Bodies {
    ComeAlong,
    StayBehind,
}

/// A body that has come along, and its publisher's trace.
type BodyRow = (Option<Vec<u8>>, Option<String>);

fn body(bytes: Vec<u8>, traceparent: Option<&str>) -> Body {
    Body {
        bytes: bytes.into(),
        trace: traceparent.and_then(TraceParent::parse),
    }
}

pub(crate) fn load(
    conn: &mut Conn,
    ids: &[DeliveryId],
) -> Result<HashMap<DeliveryId, Owed>, StoreError> {
    Ok(load_and(conn, ids, Bodies::StayBehind)?.owed)
}

fn load_and(conn: &mut Conn, ids: &[DeliveryId], bodies: Bodies) -> Result<Loaded, StoreError> {
    let come_along = matches!(bodies, Bodies::ComeAlong);
    let mut loaded = Loaded {
        owed: HashMap::with_capacity(ids.len()),
        bodies: HashMap::new(),
    };
    let keys: Vec<Key> = ids.iter().map(|id| Key(id.0)).collect();
    for among in bulk::deliveries_among(&keys) {
        let rows: Vec<(OwedRow, BodyRow)> = deliveries::table
            .inner_join(subscriptions::table)
            .inner_join(events::table)
            .filter(among)
            .select((
                (
                    deliveries::id,
                    deliveries::organization_id,
                    deliveries::subscription_id,
                    deliveries::event_key,
                    events::event_type,
                    deliveries::origin,
                    deliveries::activation,
                    deliveries::generation,
                    deliveries::attempts,
                    deliveries::attempts_before,
                    deliveries::cause,
                    deliveries::backlog,
                    deliveries::state,
                    deliveries::due,
                    deliveries::finished_at,
                    deliveries::gave_up,
                    subscriptions::url,
                    subscriptions::secret,
                    subscriptions::previous_secret,
                    subscriptions::previous_until,
                    subscriptions::headers,
                    subscriptions::is_active,
                    subscriptions::activation,
                    subscriptions::deleted_at,
                ),
                (
                    case_when(come_along.into_sql::<Bool>(), events::body),
                    events::traceparent,
                ),
            ))
            .load(conn)?;
        for (row, (bytes, traceparent)) in rows {
            if let Some(bytes) = bytes {
                let event = EventKey(row.event_key.0);
                loaded
                    .bodies
                    .insert(event, body(bytes, traceparent.as_deref()));
            }
            loaded.owed.insert(DeliveryId(row.id.0), row.try_into()?);
        }
    }
    Ok(loaded)
}

impl TryFrom<OwedRow> for Owed {
    type Error = StoreError;

    fn try_from(row: OwedRow) -> Result<Self, StoreError> {
        let origin = read_origin(&row.origin)?;
        let standings = Standings {
            origin,
            made_in: row.made_in,
            activation: row.activation,
            is_active: row.is_active,
            is_deleted: row.deleted_at.is_some(),
        };
        Ok(Owed {
            generation: row.generation.unsigned_abs(),
            attempts: row.attempts.unsigned_abs(),
            run: read_run(&row.cause, row.attempts_before)?,
            state: read_state(&row.state, row.due, row.finished_at, row.gave_up.as_deref())?,
            origin,
            backlog: row.backlog.map(BacklogClass::try_from).transpose()?,
            event: EventKey(row.event_key.0),
            event_type: read_event_type(&row.event_type)?,
            organization: organization(&row.organization_id)?,
            subscription: SubscriptionId(row.subscription_id),
            standing: standings.into(),
            activation: row.activation,
            url: TargetUrl::from_store(row.url),
            sealed: SealedCredentials {
                subscription: row.subscription_id,
                secret: row.secret,
                previous: row.previous_secret.zip(row.previous_until),
                headers: row.headers,
            },
        })
    }
}

pub(crate) fn load_with_bodies(
    conn: &mut Conn,
    ids: &[DeliveryId],
    wants_body: impl Fn(&Owed) -> bool,
) -> Result<Loaded, StoreError> {
    if ids.len() <= FEW {
        return load_and(conn, ids, Bodies::ComeAlong);
    }
    bulk::in_one_view(conn, |conn| {
        let owed = load(conn, ids)?;
        let wanted = owed.values().filter(|owed| wants_body(owed));
        let mut events: Vec<EventKey> = wanted.map(|owed| owed.event).collect();
        events.sort_unstable();
        events.dedup();
        let bodies = bodies(conn, &events)?;
        Ok(Loaded { owed, bodies })
    })
}

pub(crate) fn bodies(
    conn: &mut Conn,
    keys: &[EventKey],
) -> Result<HashMap<EventKey, Body>, StoreError> {
    let mut found = HashMap::with_capacity(keys.len());
    let keys: Vec<Key> = keys.iter().map(|key| Key(key.0)).collect();
    for among in bulk::events_among(&keys) {
        let rows: Vec<(Key, Vec<u8>, Option<String>)> = events::table
            .filter(among)
            .select((events::key, events::body, events::traceparent))
            .load(conn)?;
        for (key, bytes, traceparent) in rows {
            found.insert(EventKey(key.0), body(bytes, traceparent.as_deref()));
        }
    }
    Ok(found)
}

/// Where these deliveries come from.
pub(crate) fn sources(
    conn: &mut Conn,
    ids: &[DeliveryId],
) -> Result<HashMap<DeliveryId, Source>, StoreError> {
    let mut found = HashMap::with_capacity(ids.len());
    let keys: Vec<Key> = ids.iter().map(|id| Key(id.0)).collect();
    for among in bulk::deliveries_among(&keys) {
        let rows: Vec<(Key, String, i64, Option<String>)> = deliveries::table
            .left_join(events::table)
            .filter(among)
            .select((
                deliveries::id,
                deliveries::organization_id,
                deliveries::subscription_id,
                events::event_id.nullable(),
            ))
            .load(conn)?;
        for (id, organization, subscription, event) in rows {
            found.insert(
                DeliveryId(id.0),
                Source {
                    organization,
                    subscription: SubscriptionId(subscription),
                    event,
                },
            );
        }
    }
    Ok(found)
}

/// Ends deliveries without an attempt, where they are still pending and nobody has started them
/// again since; answers with how many it ended.
pub(crate) fn end(
    conn: &mut Conn,
    owed: &[OwedAttempt],
    end: DeliveryState,
) -> Result<usize, StoreError> {
    let mut by_generation: BTreeMap<i32, Vec<Key>> = BTreeMap::new();
    for one in owed {
        let keys = by_generation.entry(signed(one.generation)).or_default();
        keys.push(Key(one.delivery.0));
    }
    let StateColumns {
        state,
        due,
        finished_at,
        gave_up,
    } = end.into();
    let mut ended = 0;
    for (generation, keys) in by_generation {
        for chunk in keys.chunks(ROWS) {
            ended += diesel::update(deliveries::table)
                .filter(deliveries::id.eq_any(chunk))
                .filter(deliveries::state.eq("pending"))
                .filter(deliveries::generation.eq(generation))
                .set((
                    deliveries::state.eq(state),
                    deliveries::due.eq(due),
                    deliveries::finished_at.eq(finished_at),
                    deliveries::gave_up.eq(gave_up),
                ))
                .execute(conn)?;
        }
    }
    Ok(ended)
}

pub(in super::super) fn signed(number: u32) -> i32 {
    i32::try_from(number).unwrap_or(i32::MAX)
}
