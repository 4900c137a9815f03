//! Due deliveries, as a dispatcher loads and ends them.

use std::collections::HashMap;

use bytes::Bytes;
use diesel::dsl::case_when;
use diesel::prelude::*;
use diesel::sql_types::Bool;
use hookline_core::delivery::{DeliveryKind, DeliveryState, RetryRun};
use hookline_core::event_type::EventType;
use hookline_core::ids::{DeliveryId, EventKey, OrganizationId, SubscriptionId};
use hookline_core::target::TargetUrl;
use hookline_core::trace::TraceParent;

use crate::backend::backends;
use crate::backlog::BacklogClass;
use crate::columns::UuidKey;
use crate::crypto::credentials::SealedCredentials;
use crate::deliveries::locks;
use crate::error::StoreError;
use crate::rows::{organization, read_event_type, read_name, read_run, read_state};
use crate::schema::{deliveries, events, subscriptions};
use crate::store::{Backend, Store, run};

/// A delivery with the data for an attempt, except the body.
#[derive(Debug, Clone)]
pub struct DueDelivery {
    pub generation: u32,
    pub attempts: u32,
    pub run: RetryRun,
    pub state: DeliveryState,
    pub kind: DeliveryKind,
    /// None where it is not in the backlog.
    pub backlog: Option<BacklogClass>,
    pub event: EventKey,
    pub event_type: EventType,
    pub organization: OrganizationId,
    pub subscription: SubscriptionId,
    pub eligibility: Eligibility,
    /// The subscription's, as it is now.
    pub activation: i64,
    /// The subscription's, as it is now.
    pub url: TargetUrl,
    /// Secrets and headers, for [`Store::open`](crate::Store::open).
    pub sealed: SealedCredentials,
}

/// Whether a subscription still receives a delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Eligibility {
    Active,
    /// The subscription is inactive, or was since the delivery was made.
    Inactive,
    Deleted,
}

/// The input of [`Eligibility`].
#[derive(Debug, Clone, Copy)]
pub(crate) struct EligibilityFacts {
    pub(crate) kind: DeliveryKind,
    /// The subscription's, when the delivery was made.
    pub(crate) made_in: i64,
    /// The subscription's, now.
    pub(crate) activation: i64,
    pub(crate) is_active: bool,
    pub(crate) is_deleted: bool,
}

impl From<EligibilityFacts> for Eligibility {
    fn from(now: EligibilityFacts) -> Self {
        match now.kind {
            _ if now.is_deleted => Eligibility::Deleted,
            DeliveryKind::Test => Eligibility::Active,
            DeliveryKind::Event if now.is_active && now.activation == now.made_in => {
                Eligibility::Active
            }
            DeliveryKind::Event => Eligibility::Inactive,
        }
    }
}

/// The body of every request of an event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventPayload {
    /// The bytes that are signed and sent.
    pub bytes: Bytes,
    pub trace: Option<TraceParent>,
}

/// Deliveries, and the bodies of some of their events.
#[derive(Debug, Default)]
pub struct LoadedDeliveries {
    pub deliveries: HashMap<DeliveryId, DueDelivery>,
    pub bodies: HashMap<EventKey, EventPayload>,
}

/// The event of a delivery for a log line, as stored and not validated.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeliverySource {
    pub organization: String,
    pub subscription: SubscriptionId,
    /// None where the event was deleted.
    pub event: Option<String>,
}

impl Store {
    /// A delivery that does not exist is not in the answer.
    pub async fn due_deliveries(
        &self,
        ids: Vec<DeliveryId>,
    ) -> Result<HashMap<DeliveryId, DueDelivery>, StoreError> {
        run!(self, read, |conn, q: self| q::load(conn, &ids))
    }

    /// The same, with the bodies of events of deliveries for which `wants_body` is true.
    pub async fn due_deliveries_with_bodies(
        &self,
        ids: Vec<DeliveryId>,
        wants_body: impl Fn(&DueDelivery) -> bool + Send + 'static,
    ) -> Result<LoadedDeliveries, StoreError> {
        run!(self, read, |conn, q: self| q::load_with_bodies(
            conn, &ids, wants_body
        ))
    }

    pub async fn bodies(
        &self,
        keys: Vec<EventKey>,
    ) -> Result<HashMap<EventKey, EventPayload>, StoreError> {
        run!(self, read, |conn, q: self| q::bodies(conn, &keys))
    }

    /// A delivery that does not exist is not in the answer.
    pub async fn sources(
        &self,
        ids: Vec<DeliveryId>,
    ) -> Result<HashMap<DeliveryId, DeliverySource>, StoreError> {
        run!(self, read, |conn, q: self| q::sources(conn, &ids))
    }

    /// Waits until no other session locks a row that `record` writes or refers to. An error says nothing about the store: a
    /// session may hold its lock for long. SQLite has no row locks.
    pub async fn wait_for_lock(&self, delivery: DeliveryId) -> Result<(), StoreError> {
        match &self.backend {
            Backend::Postgres(backend) => {
                backend
                    .run_unobserved(move |conn| locks::wait_for(conn, delivery))
                    .await
            }
            Backend::Sqlite(_) => Ok(()),
        }
    }
}

#[derive(Queryable)]
struct DueDeliveryRow {
    id: UuidKey,
    organization_id: String,
    subscription_id: i64,
    event_key: UuidKey,
    event_type: String,
    origin: String,
    made_in: i64,
    generation: i32,
    attempts: i32,
    attempts_before: i32,
    started_by: String,
    backlog: Option<i16>,
    state: String,
    due: Option<i64>,
    finished_at: Option<i64>,
    exhausted_reason: Option<String>,
    url: String,
    secret: Option<Vec<u8>>,
    previous_secret: Option<Vec<u8>>,
    previous_secret_until: Option<i64>,
    headers: Vec<u8>,
    is_active: bool,
    activation: i64,
    deleted_at: Option<i64>,
}

/// Up to this number, deliveries are loaded with their bodies in one query, even if some bodies are cached.
const FEW: usize = 8;

#[derive(Clone, Copy)]
enum BodyLoading {
    Include,
    Omit,
}

/// A body, if it was asked for, and the publisher's trace.
type BodyRow = (Option<Vec<u8>>, Option<String>);

fn body(bytes: Vec<u8>, traceparent: Option<&str>) -> EventPayload {
    EventPayload {
        bytes: bytes.into(),
        trace: traceparent.and_then(TraceParent::parse),
    }
}

impl TryFrom<DueDeliveryRow> for DueDelivery {
    type Error = StoreError;

    fn try_from(row: DueDeliveryRow) -> Result<Self, StoreError> {
        let kind = read_name("origin", &row.origin)?;
        let facts = EligibilityFacts {
            kind,
            made_in: row.made_in,
            activation: row.activation,
            is_active: row.is_active,
            is_deleted: row.deleted_at.is_some(),
        };
        Ok(DueDelivery {
            generation: row.generation.unsigned_abs(),
            attempts: row.attempts.unsigned_abs(),
            run: read_run(&row.started_by, row.attempts_before)?,
            state: read_state(
                &row.state,
                row.due,
                row.finished_at,
                row.exhausted_reason.as_deref(),
            )?,
            kind,
            backlog: row.backlog.map(BacklogClass::try_from).transpose()?,
            event: EventKey(row.event_key.0),
            event_type: read_event_type(&row.event_type)?,
            organization: organization(&row.organization_id)?,
            subscription: SubscriptionId(row.subscription_id),
            eligibility: facts.into(),
            activation: row.activation,
            url: TargetUrl::from_store(row.url),
            sealed: SealedCredentials {
                subscription: row.subscription_id,
                secret: row.secret,
                previous: row.previous_secret.zip(row.previous_secret_until),
                headers: row.headers,
            },
        })
    }
}

backends!(
    with {
        own: crate::deliveries,
    }

    use backend::Conn;

    pub(crate) fn load(
        conn: &mut Conn,
        ids: &[DeliveryId],
    ) -> Result<HashMap<DeliveryId, DueDelivery>, StoreError> {
        Ok(load_and(conn, ids, BodyLoading::Omit)?.deliveries)
    }

    fn load_and(
        conn: &mut Conn,
        ids: &[DeliveryId],
        bodies: BodyLoading,
    ) -> Result<LoadedDeliveries, StoreError> {
        let with_body = matches!(bodies, BodyLoading::Include);
        let mut loaded = LoadedDeliveries {
            deliveries: HashMap::with_capacity(ids.len()),
            bodies: HashMap::new(),
        };
        let keys: Vec<UuidKey> = ids.iter().map(|id| UuidKey(id.0)).collect();
        for among in own::deliveries_among(&keys) {
            let rows: Vec<(DueDeliveryRow, BodyRow)> = deliveries::table
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
                        deliveries::started_by,
                        deliveries::backlog,
                        deliveries::state,
                        deliveries::due,
                        deliveries::finished_at,
                        deliveries::exhausted_reason,
                        subscriptions::url,
                        subscriptions::secret,
                        subscriptions::previous_secret,
                        subscriptions::previous_secret_until,
                        subscriptions::headers,
                        subscriptions::is_active,
                        subscriptions::activation,
                        subscriptions::deleted_at,
                    ),
                    (
                        case_when(with_body.into_sql::<Bool>(), events::body),
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
                loaded.deliveries.insert(DeliveryId(row.id.0), row.try_into()?);
            }
        }
        Ok(loaded)
    }

    pub(crate) fn load_with_bodies(
        conn: &mut Conn,
        ids: &[DeliveryId],
        wants_body: impl Fn(&DueDelivery) -> bool,
    ) -> Result<LoadedDeliveries, StoreError> {
        if ids.len() <= FEW {
            return load_and(conn, ids, BodyLoading::Include);
        }
        own::in_one_view(conn, |conn| {
            let deliveries = load(conn, ids)?;
            let wanted = deliveries.values().filter(|delivery| wants_body(delivery));
            let mut events: Vec<EventKey> = wanted.map(|delivery| delivery.event).collect();
            events.sort_unstable();
            events.dedup();
            let bodies = bodies(conn, &events)?;
            Ok(LoadedDeliveries { deliveries, bodies })
        })
    }

    pub(crate) fn bodies(
        conn: &mut Conn,
        keys: &[EventKey],
    ) -> Result<HashMap<EventKey, EventPayload>, StoreError> {
        let mut found = HashMap::with_capacity(keys.len());
        let keys: Vec<UuidKey> = keys.iter().map(|key| UuidKey(key.0)).collect();
        for among in own::events_among(&keys) {
            let rows: Vec<(UuidKey, Vec<u8>, Option<String>)> = events::table
                .filter(among)
                .select((events::key, events::body, events::traceparent))
                .load(conn)?;
            for (key, bytes, traceparent) in rows {
                found.insert(EventKey(key.0), body(bytes, traceparent.as_deref()));
            }
        }
        Ok(found)
    }

    pub(crate) fn sources(
        conn: &mut Conn,
        ids: &[DeliveryId],
    ) -> Result<HashMap<DeliveryId, DeliverySource>, StoreError> {
        let mut found = HashMap::with_capacity(ids.len());
        let keys: Vec<UuidKey> = ids.iter().map(|id| UuidKey(id.0)).collect();
        for among in own::deliveries_among(&keys) {
            let rows: Vec<(UuidKey, String, i64, Option<String>)> = deliveries::table
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
                    DeliverySource {
                        organization,
                        subscription: SubscriptionId(subscription),
                        event,
                    },
                );
            }
        }
        Ok(found)
    }
);
