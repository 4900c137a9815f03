//! One event, and for each subscription its delivery or the reason why there is none.

use std::collections::BTreeMap;

use diesel::prelude::*;
use hookline_core::cursor::Cursor;
use hookline_core::delivery::DeliveryKind;
use hookline_core::event_type::EventType;
use hookline_core::ids::{EventId, EventKey, OrganizationId, SubscriptionId};
use hookline_core::subscription::{Subscription, SubscriptionName};
use hookline_core::timestamp::Timestamp;

use crate::backend::backends;
use crate::columns::UuidKey;
use crate::deliveries::Delivery;
use crate::deliveries::sql::{DeliveryRow, read};
use crate::error::StoreError;
use crate::rows::{corrupt, read_event_type};
use crate::schema::{deliveries, events, subscriptions};
use crate::store::{Store, run};

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventDetails {
    pub event_id: EventId,
    pub event_type: EventType,
    pub received_at: Timestamp,
    /// The body of requests.
    pub body: String,
    /// A page, in the order of the subscriptions' ids.
    pub subscriptions: Vec<EventSubscription>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EventSubscriptionsPage {
    pub limit: u32,
    /// The last subscription of the page before.
    pub after: Option<SubscriptionId>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventSubscription {
    pub subscription: SubscriptionId,
    pub name: SubscriptionName,
    pub result: FanoutResult,
}

impl EventSubscription {
    pub fn cursor(&self) -> Cursor {
        Cursor::of_subscription(self.subscription)
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FanoutResult {
    Delivery(Delivery),
    /// The subscription was created after the event was received.
    CreatedLater,
    /// The subscription does not select this event type.
    Filtered,
    /// The subscription selects this event type now, and did not then.
    ChangedSince,
}

impl Store {
    pub async fn event(
        &self,
        owner: OrganizationId,
        id: EventId,
        page: EventSubscriptionsPage,
    ) -> Result<Option<EventDetails>, StoreError> {
        run!(self, read, |conn, q: self| q::find(conn, &owner, &id, page))
    }
}

#[derive(Clone, Copy)]
struct EventFacts {
    key: UuidKey,
    event_type: EventType,
    received_at: Timestamp,
}

fn without_delivery(subscription: &Subscription, facts: EventFacts) -> FanoutResult {
    if subscription.created_at > facts.received_at {
        FanoutResult::CreatedLater
    } else if !subscription.events.select(facts.event_type) {
        FanoutResult::Filtered
    } else {
        FanoutResult::ChangedSince
    }
}

backends!(
    with {
        subscription_queries: crate::subscriptions::sql,
    }

    use backend::Conn;
    use subscription_queries::after;

    pub(crate) fn find(
        conn: &mut Conn,
        owner: &OrganizationId,
        id: &EventId,
        page: EventSubscriptionsPage,
    ) -> Result<Option<EventDetails>, StoreError> {
        let key = UuidKey(EventKey::of(owner, id).0);
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
        Ok(Some(EventDetails {
            event_id: id.clone(),
            event_type,
            received_at,
            body: String::from_utf8(body).map_err(|why| corrupt("body", why))?,
            subscriptions: fanout_results(
                conn,
                owner,
                EventFacts {
                    key,
                    event_type,
                    received_at,
                },
                page,
            )?,
        }))
    }

    /// A page of the subscriptions with a delivery and of the present ones, in the order of their ids. Each of the two is
    /// read by its index from the start of the page, and at most a page of it.
    fn fanout_results(
        conn: &mut Conn,
        owner: &OrganizationId,
        facts: EventFacts,
        page: EventSubscriptionsPage,
    ) -> Result<Vec<EventSubscription>, StoreError> {
        let beginning = page.after.map_or(0, |after| after.0);
        let rows: Vec<DeliveryRow> = deliveries::table
            .inner_join(subscriptions::table)
            .inner_join(events::table)
            .filter(deliveries::event_key.eq(facts.key))
            .filter(deliveries::subscription_id.gt(beginning))
            .order(deliveries::subscription_id)
            .limit(i64::from(page.limit))
            .select(DeliveryRow::as_select())
            .load(conn)?;
        let mut fanout_results = BTreeMap::new();
        for row in rows {
            let name = SubscriptionName::from_store(row.1.name.clone());
            let delivery = read(row)?;
            let entry = EventSubscription {
                subscription: delivery.subscription,
                name,
                result: FanoutResult::Delivery(delivery),
            };
            fanout_results.insert(entry.subscription, entry);
        }
        if !is_test(conn, facts.key)? {
            for other in after(conn, owner, SubscriptionId(beginning), page.limit)? {
                fanout_results.entry(other.id).or_insert_with(|| EventSubscription {
                    subscription: other.id,
                    result: without_delivery(&other, facts),
                    name: other.name,
                });
            }
        }
        let length = usize::try_from(page.limit).unwrap_or(usize::MAX);
        Ok(fanout_results.into_values().take(length).collect())
    }

    /// A test is for one subscription only, so the others are not listed.
    fn is_test(conn: &mut Conn, event: UuidKey) -> Result<bool, StoreError> {
        let origin: Option<String> = deliveries::table
            .filter(deliveries::event_key.eq(event))
            .order(deliveries::subscription_id)
            .select(deliveries::origin)
            .first(conn)
            .optional()?;
        Ok(origin.is_some_and(|origin| origin == DeliveryKind::Test.as_str()))
    }
);
