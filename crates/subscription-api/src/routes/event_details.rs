//! An event and its outcome for each subscription.

use actix_web::{HttpRequest, HttpResponse, web};
use hookline_core::cursor::{Cursor, CursorKind};
use hookline_core::delivery::ExhaustedReason;
use hookline_core::event_type::EventType;
use hookline_core::timestamp::Timestamp;
use hookline_store::{
    Delivery, DeliveryStatus, EventSubscription, EventSubscriptionsPage, FanoutResult,
};
use serde::Serialize;
use serde_json::value::RawValue;
use utoipa::ToSchema;
use uuid::Uuid;

use crate::error::ApiError;
use crate::extract::caller::Caller;
use crate::extract::path_id::PathEvent;
use crate::extract::query::Query;
use crate::routes::page::{DEFAULT_LIMIT, cut};
use crate::routes::response_size::{ResponseBudget, Truncate};
use crate::state::AppState;

/// An event and its outcome for each subscription.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = EventStory)]
pub(crate) struct EventResponse {
    #[schema(example = "evt_abc123")]
    event_id: String,
    #[schema(example = "workflow.completed")]
    event_type: &'static str,
    /// When Hookline stored it.
    #[schema(format = DateTime, example = "2025-12-21T10:30:00Z")]
    received_at: String,
    /// The body that receivers get.
    body: String,
    /// All subscriptions, and deleted subscriptions with a delivery of the event, by ascending id: at most
    /// `deliveries_limit`, and fewer if the response would exceed 1 MiB. For a test event, only its subscription.
    #[schema(value_type = Vec<SubscriptionOutcome>)]
    subscriptions: Vec<Box<RawValue>>,
    /// The `deliveries_cursor` of the next subscriptions; null if there are none.
    #[schema(required = true)]
    next_deliveries_cursor: Option<String>,
}

/// The outcome of an event for one subscription.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = SubscriptionFate)]
pub(crate) struct SubscriptionOutcome {
    #[schema(example = 7)]
    subscription_id: i64,
    /// The name of the subscription.
    #[schema(example = "Billing")]
    name: String,
    /// The status of the delivery: `pending`, `delivered`, `exhausted`, `skipped` or `cancelled`. Without a delivery:
    /// `created_later`, `filtered` (not one of its event types) or `changed_since` (its event types or `is_active` changed
    /// after the event).
    #[schema(example = "delivered")]
    outcome: &'static str,
    /// A description of the outcome.
    #[schema(example = "attempt 1 succeeded")]
    reason: String,
    #[schema(value_type = Option<String>, format = "uuid", required = true)]
    delivery_id: Option<Uuid>,
    /// The number of attempts so far.
    #[schema(required = true, example = 1)]
    attempts_made: Option<u32>,
    /// The time of the next attempt.
    #[schema(format = DateTime, required = true, example = json!(null))]
    next_attempt_at: Option<String>,
    /// The end of the delivery.
    #[schema(format = DateTime, required = true, example = "2025-12-21T10:30:00Z")]
    finished_at: Option<String>,
    /// Why it is exhausted: `out_of_attempts`, `gone` or `poison`.
    #[schema(required = true, example = json!(null))]
    exhausted_reason: Option<&'static str>,
}

/// Show an event and its outcome for each subscription.
#[utoipa::path(
    get, path = "/events/{event_id}", tag = "Events", operation_id = "getEvent",
    params(
        ("event_id" = String, Path, description = "The id of the event, percent-encoded"),
        crate::schemas::parameters::EventDeliveryParameters,
    ),
    responses((status = 200, description = "The event", body = EventResponse)),
    security(("api_key" = ["read"]))
)]
pub(crate) async fn show(
    caller: Caller,
    state: web::Data<AppState>,
    PathEvent(id): PathEvent,
    request: HttpRequest,
) -> Result<HttpResponse, ApiError> {
    let list = CursorKind::EventSubscriptions.of(&caller.organization, id.as_str());
    let mut query = Query::read(request.query_string());
    let limit = query.limit("deliveries_limit").unwrap_or(DEFAULT_LIMIT);
    let after = query.take("deliveries_cursor", |text| list.parse(text));
    query.finish()?;
    let page = EventSubscriptionsPage {
        // One more row shows whether there is a next page.
        limit: limit + 1,
        after: after.map(Cursor::subscription),
    };
    let found = state.api.store.event(caller.organization, id, page);
    let mut event = found.await?.ok_or(ApiError::NotFound)?;
    let last = cut(&mut event.subscriptions, limit, EventSubscription::cursor);
    let mut budget = ResponseBudget::default();
    budget.reserve(&event.body);
    let outcomes = event.subscriptions.iter();
    let outcomes = outcomes.map(|entry| {
        (
            entry.cursor(),
            subscription_outcome(entry, event.event_type),
        )
    });
    let (subscriptions, filled) = budget.fill(outcomes);
    Ok(HttpResponse::Ok().json(EventResponse {
        event_id: event.event_id.as_str().to_owned(),
        event_type: event.event_type.as_str(),
        received_at: event.received_at.to_string(),
        body: event.body,
        subscriptions,
        next_deliveries_cursor: filled.or(last).map(|at| list.text(at)),
    }))
}

/// It has no body to truncate.
impl Truncate for SubscriptionOutcome {
    fn is_truncated(&self) -> bool {
        false
    }

    fn truncate(&mut self, _: usize) {}
}

fn subscription_outcome(entry: &EventSubscription, event_type: EventType) -> SubscriptionOutcome {
    let (outcome, reason) = match &entry.result {
        FanoutResult::Delivery(delivery) => (delivery.status.as_str(), delivery_reason(delivery)),
        FanoutResult::CreatedLater => (
            "created_later",
            "the subscription was created after the event had been received".to_owned(),
        ),
        FanoutResult::Filtered => (
            "filtered",
            format!("its events do not include {event_type}"),
        ),
        FanoutResult::ChangedSince => (
            "changed_since",
            "the subscription was changed after the event had been received".to_owned(),
        ),
    };
    let delivery = match &entry.result {
        FanoutResult::Delivery(delivery) => Some(delivery),
        _ => None,
    };
    let text = |time: Timestamp| time.to_string();
    SubscriptionOutcome {
        subscription_id: entry.subscription.0,
        name: entry.name.as_str().to_owned(),
        outcome,
        reason,
        delivery_id: delivery.map(|delivery| delivery.id.0),
        attempts_made: delivery.map(|delivery| delivery.attempts_made),
        next_attempt_at: delivery.and_then(|delivery| delivery.next_attempt_at.map(text)),
        finished_at: delivery.and_then(|delivery| delivery.finished_at.map(text)),
        exhausted_reason: delivery
            .and_then(|delivery| delivery.exhausted_reason.map(|why| why.as_str())),
    }
}

fn delivery_reason(delivery: &Delivery) -> String {
    let made = delivery.attempts_made;
    match (delivery.status, delivery.exhausted_reason) {
        (DeliveryStatus::Pending, _) => match delivery.next_attempt_at {
            Some(due) => format!("attempt {} is due at {due}", made + 1),
            None => format!("attempt {} is due", made + 1),
        },
        (DeliveryStatus::Delivered, _) => format!("attempt {made} succeeded"),
        (DeliveryStatus::Exhausted, Some(ExhaustedReason::Gone)) => {
            format!("the receiver answered 410 to attempt {made}")
        }
        (DeliveryStatus::Exhausted, Some(ExhaustedReason::Poison)) => {
            format!("attempt {} could not be made, again and again", made + 1)
        }
        (DeliveryStatus::Exhausted, _) => format!("attempt {made}, the last one, failed"),
        (DeliveryStatus::Skipped, _) if delivery.finished_at == Some(delivery.created_at) => {
            "the subscription was inactive when the event came".to_owned()
        }
        (DeliveryStatus::Skipped, _) => {
            "the subscription was switched off before the event was delivered".to_owned()
        }
        (DeliveryStatus::Cancelled, _) => {
            "it was cancelled, or the subscription was deleted, before the event was delivered"
                .to_owned()
        }
    }
}
