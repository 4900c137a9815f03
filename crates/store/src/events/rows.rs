//! Rows of an intake: events, and the deliveries of their fan-out.

use std::collections::BTreeMap;

use diesel::prelude::*;
use hookline_core::delivery::{AttemptTask, DeliveryKind, DeliveryState};
use hookline_core::event_type::EventType;
use hookline_core::fanout::SubscriptionIndex;
use hookline_core::ids::{DeliveryId, EventKey, OrganizationId, SubscriptionId};
use hookline_core::timestamp::Timestamp;

use crate::columns::UuidKey;
use crate::events::IncomingEvent;
use crate::rollup::cell::{Cell, StatsOutcome};
use crate::rollup::{Tallies, TallyKey, minute_of};
use crate::rows::StateColumns;
use crate::schema::events;

#[derive(Insertable)]
#[diesel(table_name = events, treat_none_as_default_value = false)]
pub(crate) struct NewEvent<'a> {
    pub(crate) key: UuidKey,
    pub(crate) organization_id: &'a str,
    pub(crate) event_id: &'a str,
    pub(crate) event_type: &'a str,
    pub(crate) body: &'a [u8],
    pub(crate) traceparent: Option<String>,
    pub(crate) received_at: i64,
    pub(crate) workflow_id: &'a str,
}

pub(crate) struct NewDelivery<'a> {
    pub(crate) id: UuidKey,
    pub(crate) organization_id: &'a str,
    pub(crate) subscription_id: i64,
    pub(crate) event_key: UuidKey,
    pub(crate) origin: &'a str,
    pub(crate) activation: i64,
    pub(crate) generation: i32,
    pub(crate) attempts: i32,
    pub(crate) state: &'a str,
    pub(crate) due: Option<i64>,
    pub(crate) finished_at: Option<i64>,
    pub(crate) created_at: i64,
    pub(crate) event_type: &'a str,
}

impl NewDelivery<'_> {
    /// Its subscription is inactive: the delivery has ended.
    pub(crate) fn is_skipped(&self) -> bool {
        self.due.is_none()
    }
}

/// The counts of the deliveries that end with the intake.
pub(crate) fn skipped_of<'a>(
    rows: &'a [NewDelivery<'_>],
    events: &'a BTreeMap<EventKey, &IncomingEvent>,
) -> Tallies<'a> {
    let cell = Cell::without_attempt(StatsOutcome::Skipped).pack();
    let mut skipped = Tallies::default();
    for row in rows.iter().filter(|row| row.is_skipped()) {
        if let Some(incoming) = events.get(&EventKey(row.event_key.0)) {
            skipped.count(TallyKey {
                organization_id: row.organization_id,
                subscription_id: row.subscription_id,
                at: minute_of(row.created_at),
                event_type: incoming.event.event_type.as_str(),
                cell,
            });
        }
    }
    skipped
}

/// In the order of keys, so that two processes never deadlock. The first of two events with the same key counts.
pub(crate) fn by_key(incoming: &[IncomingEvent]) -> BTreeMap<EventKey, &IncomingEvent> {
    let mut by_key: BTreeMap<EventKey, &IncomingEvent> = BTreeMap::new();
    for event in incoming {
        by_key.entry(event.event.key()).or_insert(event);
    }
    by_key
}

pub(crate) fn fan_out<'a>(
    index: &SubscriptionIndex,
    events: impl Iterator<Item = (&'a EventKey, &'a &'a IncomingEvent)>,
    now: Timestamp,
) -> Vec<NewDelivery<'a>> {
    let mut rows = Vec::new();
    for (key, incoming) in events {
        let event = &incoming.event;
        let owner = &event.organization;
        for subscriber in index.wanting(owner, event.event_type) {
            let to = subscriber.subscription;
            let purpose = DeliverySpec {
                owner,
                to,
                kind: DeliveryKind::Event,
                activation: subscriber.activation,
                state: match subscriber.is_active {
                    true => DeliveryState::Pending { due: now },
                    false => DeliveryState::Skipped { at: now },
                },
                event_type: event.event_type,
            };
            let id = DeliveryId::of(owner, &event.id, to);
            rows.push(new_delivery(id, *key, purpose, now));
        }
    }
    rows
}

/// The first attempts of the rows that are due.
pub(crate) fn first_attempts<'a>(
    rows: impl IntoIterator<Item = &'a NewDelivery<'a>>,
) -> Vec<AttemptTask> {
    let due = rows.into_iter().filter(|row| row.due.is_some());
    due.map(|row| first_attempt(row.id, row.subscription_id))
        .collect()
}

pub(crate) fn size_of(event: &IncomingEvent) -> i64 {
    i64::try_from(event.event.body.len()).unwrap_or(i64::MAX)
}

pub(crate) fn new_event<'a>(
    key: EventKey,
    incoming: &'a IncomingEvent,
    now: Timestamp,
) -> NewEvent<'a> {
    let event = &incoming.event;
    NewEvent {
        key: UuidKey(key.0),
        organization_id: event.organization.as_str(),
        event_id: event.id.as_str(),
        event_type: event.event_type.as_str(),
        body: &event.body,
        traceparent: incoming.trace.map(|trace| trace.to_string()),
        received_at: now.unix_micros(),
        workflow_id: event.workflow.as_str(),
    }
}

pub(crate) struct DeliverySpec<'a> {
    pub(crate) owner: &'a OrganizationId,
    pub(crate) to: SubscriptionId,
    pub(crate) kind: DeliveryKind,
    pub(crate) activation: i64,
    pub(crate) state: DeliveryState,
    pub(crate) event_type: EventType,
}

pub(crate) fn new_delivery(
    id: DeliveryId,
    event: EventKey,
    purpose: DeliverySpec<'_>,
    now: Timestamp,
) -> NewDelivery<'_> {
    let StateColumns {
        state,
        due,
        finished_at,
        exhausted_reason: _,
    } = purpose.state.into();
    NewDelivery {
        id: UuidKey(id.0),
        organization_id: purpose.owner.as_str(),
        subscription_id: purpose.to.0,
        event_key: UuidKey(event.0),
        origin: purpose.kind.as_str(),
        activation: purpose.activation,
        generation: 0,
        attempts: 0,
        state,
        due,
        finished_at,
        created_at: now.unix_micros(),
        event_type: purpose.event_type.as_str(),
    }
}

pub(crate) fn first_attempt(id: UuidKey, subscription: i64) -> AttemptTask {
    AttemptTask {
        delivery: DeliveryId(id.0),
        generation: 0,
        attempt: 1,
        subscription: SubscriptionId(subscription),
    }
}
