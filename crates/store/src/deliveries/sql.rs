//! Queries of deliveries as their owner sees them. A pending delivery that its subscription no longer receives has the
//! status that the store will give it.

use std::cmp::Reverse;

use diesel::dsl::{auto_type, exists};
use diesel::prelude::*;
use diesel::sql_types::{BigInt, Text};
use hookline_core::cursor::Cursor;
use hookline_core::delivery::{DeliveryKind, DeliveryState};
use hookline_core::event_type::EventType;
use hookline_core::filter::Filter;
use hookline_core::ids::{DeliveryId, EventId, OrganizationId, SubscriptionId};
use hookline_core::timestamp::Timestamp;

use crate::backend::backends;
use crate::columns::{UuidColumn, UuidKey};
use crate::deliveries::due::{Eligibility, EligibilityFacts};
use crate::deliveries::{Delivery, DeliveryEntry, DeliveryQuery, DeliveryStatus, WaitingFor};
use crate::error::StoreError;
use crate::paging::{COUNTED, RowPosition, Stretch, WINDOW, WindowCount, stretched};
use crate::rows::{corrupt, read_event_type, read_name, read_state};
use crate::schema::{circuit_breakers, deliveries, events, subscriptions};
use crate::search::conditions::Conditions;
use crate::search::statement::RawQuery;
use crate::search::{FoundRow, SearchPlan, SearchRange, SearchStep, StreamKey, StreamKeys};

#[derive(Queryable, Selectable)]
#[diesel(table_name = deliveries)]
pub(crate) struct DeliveryColumns {
    pub(crate) id: UuidKey,
    pub(crate) event_key: UuidKey,
    subscription_id: i64,
    origin: String,
    activation: i64,
    attempts: i32,
    state: String,
    due: Option<i64>,
    finished_at: Option<i64>,
    exhausted_reason: Option<String>,
    created_at: i64,
    backlog: Option<i16>,
}

#[derive(Clone, Queryable, Selectable)]
#[diesel(table_name = subscriptions)]
pub(crate) struct SubscriptionColumns {
    pub(crate) name: String,
    is_active: bool,
    activation: i64,
    deleted_at: Option<i64>,
    #[diesel(select_expression = has_breaker())]
    #[diesel(select_expression_type = has_breaker)]
    has_breaker: bool,
}

/// Whether the circuit breaker of a subscription is not closed.
#[auto_type]
fn has_breaker() -> _ {
    let breaker =
        circuit_breakers::table.filter(circuit_breakers::subscription_id.eq(subscriptions::id));
    exists(breaker)
}

#[derive(Queryable, Selectable)]
#[diesel(table_name = events)]
pub(crate) struct EventColumns {
    pub(crate) event_id: String,
    event_type: String,
}

pub(crate) type DeliveryRow = (DeliveryColumns, SubscriptionColumns, EventColumns);

enum SubscriptionState {
    Active,
    Inactive,
    Deleted,
}

impl SubscriptionColumns {
    fn state(&self) -> SubscriptionState {
        match (self.deleted_at, self.is_active) {
            (Some(_), _) => SubscriptionState::Deleted,
            (None, false) => SubscriptionState::Inactive,
            (None, true) => SubscriptionState::Active,
        }
    }
}

fn status_of(state: DeliveryState, eligibility: Eligibility) -> DeliveryStatus {
    match (state, eligibility) {
        (DeliveryState::Pending { .. }, Eligibility::Active) => DeliveryStatus::Pending,
        (DeliveryState::Pending { .. }, Eligibility::Inactive)
        | (DeliveryState::Skipped { .. }, _) => DeliveryStatus::Skipped,
        (DeliveryState::Pending { .. }, Eligibility::Deleted)
        | (DeliveryState::Cancelled { .. }, _) => DeliveryStatus::Cancelled,
        (DeliveryState::Delivered { .. }, _) => DeliveryStatus::Delivered,
        (DeliveryState::Exhausted { .. }, _) => DeliveryStatus::Exhausted,
    }
}

fn waiting_for(
    delivery: &DeliveryColumns,
    subscription: &SubscriptionColumns,
    due: Timestamp,
) -> Option<WaitingFor> {
    if due > hookline_clock::now() {
        Some(WaitingFor::Retry)
    } else if subscription.has_breaker {
        Some(WaitingFor::Breaker)
    } else {
        delivery.backlog.map(|_| WaitingFor::Concurrency)
    }
}

pub(crate) fn read((delivery, subscription, event): DeliveryRow) -> Result<Delivery, StoreError> {
    let kind = read_name("origin", &delivery.origin)?;
    let exhausted_reason = delivery.exhausted_reason.as_deref();
    let state = read_state(
        &delivery.state,
        delivery.due,
        delivery.finished_at,
        exhausted_reason,
    )?;
    let facts = EligibilityFacts {
        kind,
        made_in: delivery.activation,
        activation: subscription.activation,
        is_active: subscription.is_active,
        is_deleted: subscription.deleted_at.is_some(),
    };
    let status = status_of(state, facts.into());
    let (next_attempt_at, finished_at, exhausted_reason) = match state {
        DeliveryState::Pending { due } if status == DeliveryStatus::Pending => {
            (Some(due), None, None)
        }
        DeliveryState::Pending { .. } => (None, None, None),
        DeliveryState::Exhausted { at, reason } => (None, Some(at), Some(reason)),
        DeliveryState::Delivered { at }
        | DeliveryState::Skipped { at }
        | DeliveryState::Cancelled { at } => (None, Some(at), None),
    };
    let waiting_for = next_attempt_at.and_then(|due| waiting_for(&delivery, &subscription, due));
    Ok(Delivery {
        id: DeliveryId(delivery.id.0),
        subscription: SubscriptionId(delivery.subscription_id),
        event_id: EventId::parse(event.event_id).map_err(|why| corrupt("event_id", why))?,
        event_type: read_event_type(&event.event_type)?,
        kind,
        status,
        attempts_made: delivery.attempts.unsigned_abs(),
        next_attempt_at,
        waiting_for,
        created_at: Timestamp::from_unix_micros(delivery.created_at),
        finished_at,
        exhausted_reason,
    })
}

/// Narrows a query over the deliveries of a subscription to a stretch and to the filters, except the event type, which is
/// in another table. It decides on a status as [`status_of`] does, in SQL.
macro_rules! narrowed {
    ($rows:expr, $query:expr, $id:expr, $subscription:expr, $stretch:expr) => {{
        let (query, subscription): (&DeliveryQuery, &SubscriptionColumns) = ($query, $subscription);
        let id: SubscriptionId = $id;
        let rows = $rows
            .filter(deliveries::subscription_id.eq(id.0))
            .into_boxed();
        let rows = stretched!(rows, deliveries, $stretch);
        match query.filter.status {
            None => rows,
            Some(status) => {
                let stored = deliveries::state.eq(status.as_str());
                let pending = deliveries::state.eq(DeliveryStatus::Pending.as_str());
                let test = deliveries::origin.eq(DeliveryKind::Test.as_str());
                let event = deliveries::origin.ne(DeliveryKind::Test.as_str());
                let of_now = deliveries::activation.eq(subscription.activation);
                let of_before = deliveries::activation.ne(subscription.activation);
                match (status, subscription.state()) {
                    (DeliveryStatus::Pending, SubscriptionState::Active) => {
                        rows.filter(stored.and(test.or(of_now)))
                    }
                    (DeliveryStatus::Pending, SubscriptionState::Inactive) => {
                        rows.filter(stored.and(test))
                    }
                    (DeliveryStatus::Pending, SubscriptionState::Deleted) => {
                        rows.filter(deliveries::id.is_null())
                    }
                    (DeliveryStatus::Skipped, SubscriptionState::Active) => {
                        rows.filter(stored.or(pending.and(event).and(of_before)))
                    }
                    (DeliveryStatus::Skipped, SubscriptionState::Inactive) => {
                        rows.filter(stored.or(pending.and(event)))
                    }
                    (DeliveryStatus::Cancelled, SubscriptionState::Deleted) => {
                        rows.filter(stored.or(pending))
                    }
                    _ => rows.filter(stored),
                }
            }
        }
    }};
}

/// A search for deliveries.
#[derive(Debug, Clone)]
pub(crate) struct DeliveryPlan {
    query: DeliveryQuery,
    pub(crate) keys: StreamKeys,
}

impl DeliveryPlan {
    fn conditions(&self) -> Conditions<'_, DeliveryStatus> {
        Conditions {
            organization: &self.query.organization,
            filter: &self.query.filter,
            status: self.query.filter.status.map(DeliveryStatus::as_str),
        }
    }
}

/// The stored states of deliveries that may have this status.
fn states_of(status: Option<DeliveryStatus>) -> &'static [&'static str] {
    match status {
        None => &["pending", "delivered", "exhausted", "skipped", "cancelled"],
        Some(DeliveryStatus::Pending) => &["pending"],
        Some(DeliveryStatus::Delivered) => &["delivered"],
        Some(DeliveryStatus::Exhausted) => &["exhausted"],
        Some(DeliveryStatus::Skipped) => &["skipped", "pending"],
        Some(DeliveryStatus::Cancelled) => &["cancelled", "pending"],
    }
}

/// The streams of an organization: event types and states. A service of the version before writes no type.
fn streams(filter: &Filter<DeliveryStatus>) -> Vec<(&'static str, &'static str)> {
    let of_type = |one: &EventType| {
        filter
            .event_type
            .is_none_or(|event_type| event_type == *one)
    };
    let types = EventType::ALL.iter().filter(|one| of_type(one));
    let types = types.map(|one| one.as_str()).chain([""]);
    types
        .flat_map(|name| {
            states_of(filter.status)
                .iter()
                .map(move |state| (name, *state))
        })
        .collect()
}

backends!(
    with {
        conditions: crate::search::conditions,
        sources: crate::search::sources,
        excerpts: crate::search::excerpts,
        searching: crate::search,
    }

    use backend::{Conn, Db};

    impl SearchPlan<Db> for DeliveryPlan {
        const TABLE: &'static str = "deliveries";
        const ORDER: (&'static str, &'static str) = ("created_at", "id");

        fn keys(&self) -> &StreamKeys {
            &self.keys
        }

        fn write_source<'a>(&'a self, out: &mut RawQuery<'a, Db>, key: StreamKey) {
            let subscription = self.query.filter.subscription;
            write_source(out, key, &self.keys, &self.query.organization, subscription);
        }

        fn write_rest<'a>(&'a self, out: &mut RawQuery<'a, Db>) {
            conditions::of_deliveries(out, &self.conditions(), "t");
        }
    }

    /// Writes the condition that an index answers. A single stream is that of the subscription, which has been checked to
    /// belong to the organization.
    pub(crate) fn write_source<'a>(
        out: &mut RawQuery<'a, Db>,
        key: StreamKey,
        keys: &StreamKeys,
        organization: &'a OrganizationId,
        subscription: Option<SubscriptionId>,
    ) {
        match (key, keys) {
            (StreamKey::Delivery(span), _) => {
                out.sql("t.id = ").bind::<UuidColumn, _>(span.id);
            }
            (_, StreamKeys::Deliveries(_)) => {
                out.sql("t.id = k.id");
            }
            (StreamKey::Names(event_type, state), _) => {
                out.sql("t.organization_id = ")
                    .bind::<Text, _>(organization.as_str());
                out.sql(" AND t.event_type = ").bind::<Text, _>(event_type);
                out.sql(" AND t.state = ").bind::<Text, _>(state);
            }
            (StreamKey::Columns, StreamKeys::Names(_)) => {
                out.sql("t.organization_id = ")
                    .bind::<Text, _>(organization.as_str());
                out.sql(" AND t.event_type = k.a AND t.state = k.b");
            }
            (StreamKey::Columns, StreamKeys::One) => {
                out.sql("t.subscription_id = ")
                    .bind::<BigInt, _>(subscription.map_or(0, |one| one.0));
            }
        }
    }

    /// None where the subscription does not belong to the organization.
    pub(crate) fn plan(
        conn: &mut Conn,
        query: DeliveryQuery,
    ) -> Result<Option<DeliveryPlan>, StoreError> {
        let (organization, filter) = (&query.organization, &query.filter);
        if !sources::owns(conn, organization, filter.subscription)? {
            return Ok(None);
        }
        let keys = match sources::deliveries(conn, organization, filter)? {
            Some(spans) => StreamKeys::Deliveries(spans),
            None if filter.subscription.is_some() => StreamKeys::One,
            None => StreamKeys::Names(streams(filter)),
        };
        Ok(Some(DeliveryPlan { query, keys }))
    }

    pub(crate) fn step(
        conn: &mut Conn,
        plan: &DeliveryPlan,
        range: SearchRange,
        share: i64,
    ) -> Result<SearchStep, StoreError> {
        searching::step(conn, plan, range, share)
    }

    /// The deliveries at these places; with their events, whole ones up to `room` bytes in all.
    pub(crate) fn entries(
        conn: &mut Conn,
        found: &[FoundRow],
        room: Option<usize>,
    ) -> Result<Vec<DeliveryEntry>, StoreError> {
        if found.is_empty() {
            return Ok(Vec::new());
        }
        let ids: Vec<UuidKey> = found.iter().map(|row| row.id).collect();
        let mut rows: Vec<DeliveryRow> = deliveries::table
            .inner_join(subscriptions::table)
            .inner_join(events::table)
            .filter(deliveries::id.eq_any(ids))
            .select(DeliveryRow::as_select())
            .load(conn)?;
        rows.sort_unstable_by_key(|(row, _, _)| Reverse((row.created_at, row.id)));
        let keys: Vec<UuidKey> = rows.iter().map(|(row, _, _)| row.event_key).collect();
        let bodies = match room {
            Some(room) => excerpts::read(conn, &keys, room)?,
            None => Default::default(),
        };
        let entry = |row: DeliveryRow| {
            Ok(DeliveryEntry {
                request_body: bodies.get(&row.0.event_key).cloned(),
                delivery: read(row)?,
            })
        };
        rows.into_iter().map(entry).collect()
    }

    /// None where the subscription does not belong to the query's organization.
    fn subscription_of(
        conn: &mut Conn,
        query: &DeliveryQuery,
        subscription: SubscriptionId,
    ) -> Result<Option<SubscriptionColumns>, StoreError> {
        Ok(subscriptions::table
            .filter(subscriptions::id.eq(subscription.0))
            .filter(subscriptions::organization_id.eq(query.organization.as_str()))
            .select(SubscriptionColumns::as_select())
            .first(conn)
            .optional()?)
    }

    /// The place of the `n`th delivery of a stretch, from 1, read from the index alone.
    pub(crate) fn nth(
        conn: &mut Conn,
        subscription: SubscriptionId,
        stretch: Stretch,
        n: i64,
    ) -> Result<Option<RowPosition>, StoreError> {
        let rows = deliveries::table
            .filter(deliveries::subscription_id.eq(subscription.0))
            .into_boxed();
        Ok(stretched!(rows, deliveries, stretch)
            .order((deliveries::created_at.desc(), deliveries::id.desc()))
            .offset(n - 1)
            .limit(1)
            .select((deliveries::created_at, deliveries::id))
            .get_result(conn)
            .optional()?)
    }

    /// Counts the matching deliveries of a subscription after `after`, in one window.
    pub(crate) fn count(
        conn: &mut Conn,
        query: &DeliveryQuery,
        id: SubscriptionId,
        after: Option<Cursor>,
    ) -> Result<WindowCount, StoreError> {
        let Some(subscription) = subscription_of(conn, query, id)? else {
            return Ok(WindowCount {
                matching: 0,
                end: None,
            });
        };
        let window = match query.is_filtered() {
            true => WINDOW,
            false => COUNTED,
        };
        let stretch = Stretch::of(after, query.filter.since, query.filter.until);
        let end = nth(conn, id, stretch, window)?;
        let stretch = stretch.down_to(end);
        // Joins events only for a filter by type: the join reads one more row for each delivery.
        let matching: i64 = match query.filter.event_type {
            None => narrowed!(deliveries::table, query, id, &subscription, stretch)
                .count()
                .get_result(conn)?,
            Some(event_type) => {
                let joined = deliveries::table.inner_join(events::table);
                narrowed!(joined, query, id, &subscription, stretch)
                    .filter(events::event_type.eq(event_type.as_str()))
                    .count()
                    .get_result(conn)?
            }
        };
        let matching = matching.unsigned_abs();
        Ok(WindowCount { matching, end })
    }
);
