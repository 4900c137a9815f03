//! Queries of deliveries as their owner sees them. A pending delivery that its subscription no longer receives has the
//! status that the store will give it.

use diesel::dsl::{auto_type, exists};
use diesel::prelude::*;
use hookline_core::cursor::Cursor;
use hookline_core::delivery::{DeliveryKind, DeliveryState};
use hookline_core::ids::{DeliveryId, EventId, SubscriptionId};
use hookline_core::timestamp::Timestamp;

use crate::backend::backends;
use crate::columns::UuidKey;
use crate::deliveries::due::{Eligibility, EligibilityFacts};
use crate::deliveries::{Delivery, DeliveryQuery, DeliveryStatus, WaitingFor};
use crate::error::StoreError;
use crate::paging::{
    COUNTED, RowPosition, StepBounds, StepResult, Stretch, WINDOW, WindowCount, stretched,
};
use crate::rows::{corrupt, read_event_type, read_name, read_state};
use crate::schema::{circuit_breakers, deliveries, events, subscriptions};

#[derive(Queryable, Selectable)]
#[diesel(table_name = deliveries)]
pub(crate) struct DeliveryColumns {
    id: UuidKey,
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

fn signed(rows: u64) -> i64 {
    i64::try_from(rows).unwrap_or(i64::MAX)
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
    ($rows:expr, $query:expr, $subscription:expr, $stretch:expr) => {{
        let (query, subscription): (&DeliveryQuery, &SubscriptionColumns) = ($query, $subscription);
        let rows = $rows
            .filter(deliveries::subscription_id.eq(query.subscription.0))
            .into_boxed();
        let rows = stretched!(rows, deliveries, $stretch);
        match query.status {
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

backends!(
    use backend::Conn;

    /// None where the subscription does not belong to the query's organization.
    fn subscription_of(
        conn: &mut Conn,
        query: &DeliveryQuery,
    ) -> Result<Option<SubscriptionColumns>, StoreError> {
        Ok(subscriptions::table
            .filter(subscriptions::id.eq(query.subscription.0))
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

    /// A step of a search, newest first.
    pub(crate) fn page(
        conn: &mut Conn,
        query: &DeliveryQuery,
        reach: StepBounds,
    ) -> Result<StepResult<Delivery>, StoreError> {
        let Some(subscription) = subscription_of(conn, query)? else {
            return Ok(StepResult::nothing());
        };
        let mut stretch = Stretch::of(reach.after, query.since, query.until);
        let (mut skip, mut passed, mut end) = (reach.skip, 0, None);
        if query.is_filtered() {
            end = nth(conn, query.subscription, stretch, WINDOW)?;
            stretch = stretch.down_to(end);
            if skip > 0 && end.is_some() {
                passed = skip.min(matching(conn, query, &subscription, stretch)?);
            }
        } else if skip > 0 {
            let last = nth(conn, query.subscription, stretch, signed(skip))?;
            let Some(last) = last else {
                return Ok(StepResult::nothing());
            };
            stretch = stretch.behind(last);
            skip = 0;
        }
        let joined = deliveries::table.inner_join(events::table);
        let mut rows = narrowed!(joined, query, &subscription, stretch)
            .order((deliveries::created_at.desc(), deliveries::id.desc()))
            .offset(signed(skip))
            .limit(i64::from(reach.limit));
        if let Some(event_type) = query.event_type {
            rows = rows.filter(events::event_type.eq(event_type.as_str()));
        }
        let rows: Vec<(DeliveryColumns, EventColumns)> = rows
            .select((DeliveryColumns::as_select(), EventColumns::as_select()))
            .load(conn)?;
        let rows = rows
            .into_iter()
            .map(|(delivery, event)| read((delivery, subscription.clone(), event)));
        Ok(StepResult {
            rows: rows.collect::<Result<_, _>>()?,
            passed,
            end,
        })
    }

    /// Counts the matching deliveries after `after`, in one window.
    pub(crate) fn count(
        conn: &mut Conn,
        query: &DeliveryQuery,
        after: Option<Cursor>,
    ) -> Result<WindowCount, StoreError> {
        let Some(subscription) = subscription_of(conn, query)? else {
            return Ok(WindowCount {
                matching: 0,
                end: None,
            });
        };
        let window = match query.is_filtered() {
            true => WINDOW,
            false => COUNTED,
        };
        let stretch = Stretch::of(after, query.since, query.until);
        let end = nth(conn, query.subscription, stretch, window)?;
        let matching = matching(conn, query, &subscription, stretch.down_to(end))?;
        Ok(WindowCount { matching, end })
    }

    /// Joins events only for a filter by type: the join reads one more row for each delivery.
    fn matching(
        conn: &mut Conn,
        query: &DeliveryQuery,
        subscription: &SubscriptionColumns,
        stretch: Stretch,
    ) -> Result<u64, StoreError> {
        let count: i64 = match query.event_type {
            None => narrowed!(deliveries::table, query, subscription, stretch)
                .count()
                .get_result(conn)?,
            Some(event_type) => {
                let joined = deliveries::table.inner_join(events::table);
                narrowed!(joined, query, subscription, stretch)
                    .filter(events::event_type.eq(event_type.as_str()))
                    .count()
                    .get_result(conn)?
            }
        };
        Ok(count.unsigned_abs())
    }
);
