//! Taking events in: one transaction for the events and the deliveries that they make. What an
//! inactive subscription misses is a delivery, too: a skipped one, which can be replayed.

use std::collections::{BTreeMap, HashSet};

use diesel::prelude::*;
use hookline_core::delivery::{DeliveryState, Origin, OwedAttempt};
use hookline_core::fanout::{Ear, SubscriptionIndex};
use hookline_core::ids::{DeliveryId, EventKey, OrganizationId, SubscriptionId};
use hookline_core::timestamp::Timestamp;

use super::super::{Conn, bulk};
use super::stored::{Change, part_at};
use super::subscriptions::{find_row, news_since};
use crate::columns::Key;
use crate::error::StoreError;
use crate::fanout_index::{FanoutIndex, News, Version};
use crate::records::{Bounds, Given, IncomingEvent};
use crate::rows::StateColumns;
use crate::schema::events;

#[derive(Insertable)]
#[diesel(table_name = events, treat_none_as_default_value = false)]
pub(crate) struct NewEvent<'a> {
    pub(crate) key: Key,
    pub(crate) organization_id: &'a str,
    pub(crate) event_id: &'a str,
    pub(crate) event_type: &'a str,
    pub(crate) body: &'a [u8],
    pub(crate) traceparent: Option<String>,
    pub(crate) received_at: i64,
}

pub(crate) struct NewDelivery<'a> {
    pub(crate) id: Key,
    pub(crate) organization_id: &'a str,
    pub(crate) subscription_id: i64,
    pub(crate) event_key: Key,
    pub(crate) origin: &'a str,
    pub(crate) activation: i64,
    pub(crate) generation: i32,
    pub(crate) attempts: i32,
    pub(crate) state: &'a str,
    pub(crate) due: Option<i64>,
    pub(crate) finished_at: Option<i64>,
    pub(crate) created_at: i64,
}

/// Takes events in, and answers with the first attempts of new deliveries. An event that was here before needs nothing:
/// its deliveries are rows, and the owners of their partitions find them.
///
/// None where several events would make more deliveries than `most`: nothing is written then, and the
/// index knows better how many each of them makes.
pub(crate) fn take_in(
    conn: &mut Conn,
    index: &FanoutIndex,
    incoming: &[IncomingEvent],
    bounds: Bounds,
) -> Result<Option<Given>, StoreError> {
    let Bounds { now, most } = bounds;
    let by_key = by_key(incoming);
    let taken_in = conn.transaction(|conn| {
        let (new, seen) = insert_events(conn, &by_key, now)?;
        let fresh = by_key.iter().filter(|(key, _)| new.contains(key));
        let rows = index.with(
            |known| match seen {
                Some(newest) if newest == known => Ok(News::Nothing),
                _ => news_since(conn, known),
            },
            |index| fan_out(index, fresh, now),
        )?;
        if rows.len() > most && by_key.len() > 1 {
            return Err(Undone::TooMany);
        }
        let mut stored = Change::default();
        for (_, event) in by_key.iter().filter(|(key, _)| new.contains(key)) {
            stored.add(event.event.organization.as_str(), size_of(event));
        }
        bulk::insert_fan_out(conn, &rows, &stored.into_parts(part_at(now)))?;
        Ok(Given {
            new_events: new.len(),
            owed: first_attempts(&rows),
        })
    });
    match taken_in {
        Ok(given) => Ok(Some(given)),
        Err(Undone::TooMany) => Ok(None),
        Err(Undone::Failed(why)) => Err(why),
    }
}

/// Why a transaction is taken back.
enum Undone {
    TooMany,
    Failed(StoreError),
}

impl From<StoreError> for Undone {
    fn from(why: StoreError) -> Self {
        Undone::Failed(why)
    }
}

impl From<diesel::result::Error> for Undone {
    fn from(why: diesel::result::Error) -> Self {
        Undone::Failed(why.into())
    }
}

/// In the order of their keys, so that two of us never wait for each other in a circle. Of two of one
/// key the first counts.
pub(crate) fn by_key(incoming: &[IncomingEvent]) -> BTreeMap<EventKey, &IncomingEvent> {
    let mut by_key: BTreeMap<EventKey, &IncomingEvent> = BTreeMap::new();
    for event in incoming {
        by_key.entry(event.event.key()).or_insert(event);
    }
    by_key
}

/// The deliveries that events make.
pub(crate) fn fan_out<'a>(
    index: &SubscriptionIndex,
    events: impl Iterator<Item = (&'a EventKey, &'a &'a IncomingEvent)>,
    now: Timestamp,
) -> Vec<NewDelivery<'a>> {
    let mut rows = Vec::new();
    for (key, incoming) in events {
        let event = &incoming.event;
        let owner = &event.organization;
        for listener in index.wanting(owner, event.event_type) {
            let to = listener.subscription;
            let purpose = Purpose {
                owner,
                to,
                origin: Origin::Event,
                activation: listener.activation,
                state: match listener.ear {
                    Ear::Open => DeliveryState::Pending { due: now },
                    Ear::Closed => DeliveryState::Skipped { at: now },
                },
            };
            let id = DeliveryId::of(owner, &event.id, to);
            rows.push(new_delivery(id, *key, purpose, now));
        }
    }
    rows
}

/// Those that are owed now.
pub(crate) fn first_attempts<'a>(
    rows: impl IntoIterator<Item = &'a NewDelivery<'a>>,
) -> Vec<OwedAttempt> {
    let owed = rows.into_iter().filter(|row| row.due.is_some());
    owed.map(|row| first_attempt(row.id, row.subscription_id))
        .collect()
}

/// The events that are new, and the newest version of a subscription that was seen on the way, if any
/// was.
fn insert_events(
    conn: &mut Conn,
    by_key: &BTreeMap<EventKey, &IncomingEvent>,
    now: Timestamp,
) -> Result<(HashSet<EventKey>, Option<Version>), StoreError> {
    let rows: Vec<NewEvent<'_>> = by_key
        .iter()
        .map(|(key, event)| new_event(*key, event, now))
        .collect();
    let (inserted, seen) = bulk::insert_events(conn, &rows)?;
    let new = inserted.into_iter().map(|key| EventKey(key.0)).collect();
    Ok((new, seen))
}

/// Makes a test event and its delivery to one subscription; none when there is no such one.
pub(crate) fn create_test(
    conn: &mut Conn,
    id: SubscriptionId,
    incoming: &IncomingEvent,
    now: Timestamp,
) -> Result<Option<OwedAttempt>, StoreError> {
    conn.transaction(|conn| {
        let event = &incoming.event;
        let Some(subscription) = find_row(conn, &event.organization, id)? else {
            return Ok(None);
        };
        let key = event.key();
        diesel::insert_into(events::table)
            .values(new_event(key, incoming, now))
            .execute(conn)?;
        let delivery = DeliveryId::of(&event.organization, &event.id, id);
        let purpose = Purpose {
            owner: &event.organization,
            to: id,
            origin: Origin::Test,
            activation: subscription.activation,
            state: DeliveryState::Pending { due: now },
        };
        let row = new_delivery(delivery, key, purpose, now);
        let mut stored = Change::default();
        stored.add(event.organization.as_str(), size_of(incoming));
        bulk::insert_fan_out(conn, &[row], &stored.into_parts(part_at(now)))?;
        Ok(Some(first_attempt(Key(delivery.0), id.0)))
    })
}

fn size_of(event: &IncomingEvent) -> i64 {
    i64::try_from(event.event.body.len()).unwrap_or(i64::MAX)
}

pub(crate) fn new_event<'a>(
    key: EventKey,
    incoming: &'a IncomingEvent,
    now: Timestamp,
) -> NewEvent<'a> {
    let event = &incoming.event;
    NewEvent {
        key: Key(key.0),
        organization_id: event.organization.as_str(),
        event_id: event.id.as_str(),
        event_type: event.event_type.as_str(),
        body: &event.body,
        traceparent: incoming.trace.map(|trace| trace.to_string()),
        received_at: now.unix_micros(),
    }
}

struct Purpose<'a> {
    owner: &'a OrganizationId,
    to: SubscriptionId,
    origin: Origin,
    activation: i64,
    state: DeliveryState,
}

fn new_delivery(
    id: DeliveryId,
    event: EventKey,
    purpose: Purpose<'_>,
    now: Timestamp,
) -> NewDelivery<'_> {
    let StateColumns {
        state,
        due,
        finished_at,
        gave_up: _,
    } = purpose.state.into();
    NewDelivery {
        id: Key(id.0),
        organization_id: purpose.owner.as_str(),
        subscription_id: purpose.to.0,
        event_key: Key(event.0),
        origin: purpose.origin.as_str(),
        activation: purpose.activation,
        generation: 0,
        attempts: 0,
        state,
        due,
        finished_at,
        created_at: now.unix_micros(),
    }
}

fn first_attempt(id: Key, subscription: i64) -> OwedAttempt {
    OwedAttempt {
        delivery: DeliveryId(id.0),
        generation: 0,
        attempt: 1,
        subscription: SubscriptionId(subscription),
    }
}
