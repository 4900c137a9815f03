//! What became of an event for each subscription: its delivery, or why there is none.

use std::collections::HashSet;

use diesel::prelude::*;
use hookline_core::delivery::Origin;
use hookline_core::event_type::EventType;
use hookline_core::ids::{EventId, EventKey, OrganizationId, SubscriptionId};
use hookline_core::subscription::{Subscription, SubscriptionName};
use hookline_core::timestamp::Timestamp;

use super::super::Conn;
use super::deliveries::{Row, read};
use super::subscriptions::list;
use crate::columns::Key;
use crate::error::StoreError;
use crate::records::{EventStory, Fate, SubscriptionFate, Window};
use crate::rows::{corrupt, read_event_type};
use crate::schema::{deliveries, events, subscriptions};

/// How many subscriptions the story of an event tells of.
const SUBSCRIPTIONS: u32 = 1_000;

pub(crate) fn find(
    conn: &mut Conn,
    owner: &OrganizationId,
    id: &EventId,
) -> Result<Option<EventStory>, StoreError> {
    let key = Key(EventKey::of(owner, id).0);
    let found: Option<(String, Vec<u8>, i64)> = events::table
        .filter(events::key.eq(key))
        .select((events::event_type, events::body, events::received_at))
        .first(conn)
        .optional()?;
    let Some((event_type, body, received_at)) = found else {
        return Ok(None);
    };
    let event_type = read_event_type(&event_type)?;
    let received_at = Timestamp::from_unix_micros(received_at);
    Ok(Some(EventStory {
        event_id: id.clone(),
        event_type,
        received_at,
        body: String::from_utf8(body).map_err(|why| corrupt("body", why))?,
        subscriptions: fates(conn, owner, key, event_type, received_at)?,
    }))
}

/// Those with a delivery first, should there be too many; then all in the order of their ids.
fn fates(
    conn: &mut Conn,
    owner: &OrganizationId,
    event: Key,
    event_type: EventType,
    received_at: Timestamp,
) -> Result<Vec<SubscriptionFate>, StoreError> {
    let rows: Vec<Row> = deliveries::table
        .inner_join(subscriptions::table)
        .inner_join(events::table)
        .filter(deliveries::event_key.eq(event))
        .order(deliveries::subscription_id)
        .limit(i64::from(SUBSCRIPTIONS))
        .select(Row::as_select())
        .load(conn)?;
    let mut fates = Vec::with_capacity(rows.len());
    for row in rows {
        let name = SubscriptionName::from_store(row.1.name.clone());
        let delivery = read(row)?;
        fates.push(SubscriptionFate {
            subscription: delivery.subscription,
            name,
            fate: Fate::Delivery(delivery),
        });
    }
    // A test is for one subscription, and says nothing about the others.
    let is_test = |fate: &SubscriptionFate| match &fate.fate {
        Fate::Delivery(delivery) => delivery.origin == Origin::Test,
        _ => false,
    };
    if fates.iter().any(is_test) {
        return Ok(fates);
    }
    let told: HashSet<SubscriptionId> = fates.iter().map(|fate| fate.subscription).collect();
    let window = Window {
        limit: Some(SUBSCRIPTIONS),
        offset: 0,
    };
    let others = list(conn, owner, window)?.rows.into_iter();
    let room = usize::try_from(SUBSCRIPTIONS).unwrap_or(usize::MAX) - fates.len();
    fates.extend(
        others
            .filter(|other| !told.contains(&other.id))
            .take(room)
            .map(|other| SubscriptionFate {
                subscription: other.id,
                fate: without_delivery(&other, event_type, received_at),
                name: other.name,
            }),
    );
    fates.sort_unstable_by_key(|fate| fate.subscription);
    Ok(fates)
}

fn without_delivery(
    subscription: &Subscription,
    event_type: EventType,
    received_at: Timestamp,
) -> Fate {
    if subscription.created_at > received_at {
        Fate::CreatedLater
    } else if !subscription.events.to_set().contains(event_type) {
        Fate::Filtered
    } else {
        Fate::ChangedSince
    }
}
