//! What became of an event for each subscription: its delivery, or why there is none.

use std::collections::BTreeMap;

use diesel::prelude::*;
use hookline_core::delivery::Origin;
use hookline_core::event_type::EventType;
use hookline_core::ids::{EventId, EventKey, OrganizationId, SubscriptionId};
use hookline_core::subscription::{Subscription, SubscriptionName};
use hookline_core::timestamp::Timestamp;

use super::super::Conn;
use super::deliveries::{Row, read};
use super::subscriptions::after;
use crate::columns::Key;
use crate::error::StoreError;
use crate::records::{EventStory, Fate, FatePage, SubscriptionFate};
use crate::rows::{corrupt, read_event_type};
use crate::schema::{deliveries, events, subscriptions};

pub(crate) fn find(
    conn: &mut Conn,
    owner: &OrganizationId,
    id: &EventId,
    page: FatePage,
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
        subscriptions: fates(
            conn,
            owner,
            Told {
                key,
                event_type,
                received_at,
            },
            page,
        )?,
    }))
}

/// The event that a story is told of.
#[derive(Clone, Copy)]
struct Told {
    key: Key,
    event_type: EventType,
    received_at: Timestamp,
}

/// A page of the subscriptions with a delivery and of the present ones, in the order of their ids. Each of the two is
/// read by its index from the page's beginning on, and no further than the page can reach.
fn fates(
    conn: &mut Conn,
    owner: &OrganizationId,
    told: Told,
    page: FatePage,
) -> Result<Vec<SubscriptionFate>, StoreError> {
    let beginning = page.after.map_or(0, |after| after.0);
    let rows: Vec<Row> = deliveries::table
        .inner_join(subscriptions::table)
        .inner_join(events::table)
        .filter(deliveries::event_key.eq(told.key))
        .filter(deliveries::subscription_id.gt(beginning))
        .order(deliveries::subscription_id)
        .limit(i64::from(page.limit))
        .select(Row::as_select())
        .load(conn)?;
    let mut fates = BTreeMap::new();
    for row in rows {
        let name = SubscriptionName::from_store(row.1.name.clone());
        let delivery = read(row)?;
        let fate = SubscriptionFate {
            subscription: delivery.subscription,
            name,
            fate: Fate::Delivery(delivery),
        };
        fates.insert(fate.subscription, fate);
    }
    if !is_test(conn, told.key)? {
        for other in after(conn, owner, SubscriptionId(beginning), page.limit)? {
            fates.entry(other.id).or_insert_with(|| SubscriptionFate {
                subscription: other.id,
                fate: without_delivery(&other, told),
                name: other.name,
            });
        }
    }
    let length = usize::try_from(page.limit).unwrap_or(usize::MAX);
    Ok(fates.into_values().take(length).collect())
}

/// A test is for one subscription, and says nothing about the others.
fn is_test(conn: &mut Conn, event: Key) -> Result<bool, StoreError> {
    let origin: Option<String> = deliveries::table
        .filter(deliveries::event_key.eq(event))
        .order(deliveries::subscription_id)
        .select(deliveries::origin)
        .first(conn)
        .optional()?;
    Ok(origin.is_some_and(|origin| origin == Origin::Test.as_str()))
}

fn without_delivery(subscription: &Subscription, told: Told) -> Fate {
    if subscription.created_at > told.received_at {
        Fate::CreatedLater
    } else if !subscription.events.to_set().contains(told.event_type) {
        Fate::Filtered
    } else {
        Fate::ChangedSince
    }
}
