//! What became of an event, and why, for each subscription.

use actix_web::{HttpRequest, HttpResponse, web};
use hookline_core::cursor::{Cursor, Rows};
use hookline_core::delivery::GaveUp;
use hookline_core::event_type::EventType;
use hookline_core::timestamp::Timestamp;
use hookline_store::{Delivery, DeliveryStatus, Fate, FatePage, SubscriptionFate};
use serde::Serialize;
use serde_json::value::RawValue;
use utoipa::ToSchema;
use uuid::Uuid;

use crate::error::ApiError;
use crate::extract::caller::Caller;
use crate::extract::path_id::PathEvent;
use crate::extract::query::Query;
use crate::routes::page::{DEFAULT_LIMIT, cut};
use crate::routes::response_size::{Room, Shorten};
use crate::state::AppState;

/// An event, and what became of it.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = EventStory)]
pub(crate) struct EventAnswer {
    /// The event.
    #[schema(example = "evt_abc123")]
    event_id: String,
    /// What happened.
    #[schema(example = "workflow.completed")]
    event_type: &'static str,
    /// When it was taken in.
    #[schema(format = DateTime, example = "2025-12-21T10:30:00Z")]
    received_at: String,
    /// The bytes that receivers get.
    body: String,
    /// The present subscriptions, and deleted ones that have a delivery, in the order of their ids: at most
    /// `deliveries_limit`, and fewer where the answer would exceed 1 MiB. Of a test, the one that it is for.
    #[schema(value_type = Vec<FateAnswer>)]
    subscriptions: Vec<Box<RawValue>>,
    /// Asks for the subscriptions after these; null where there are none.
    #[schema(required = true)]
    next_deliveries_cursor: Option<String>,
}

/// What became of an event for one subscription.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = SubscriptionFate)]
pub(crate) struct FateAnswer {
    /// The subscription.
    #[schema(example = 7)]
    subscription_id: i64,
    /// What its owner calls it.
    #[schema(example = "Billing")]
    name: String,
    /// The status of its delivery: `pending`, `delivered`, `exhausted`, `skipped` or `cancelled`.
    /// Without one: `created_later`, `filtered` (it does not want this type) or `changed_since` (it
    /// wants such events now, and did not then).
    #[schema(example = "delivered")]
    outcome: &'static str,
    /// The same in words.
    #[schema(example = "attempt 1 succeeded")]
    reason: String,
    /// Its delivery.
    #[schema(value_type = Option<String>, format = "uuid", required = true)]
    delivery_id: Option<Uuid>,
    /// How many attempts were made.
    #[schema(required = true, example = 1)]
    attempts_made: Option<u32>,
    /// When the next one is due.
    #[schema(format = DateTime, required = true, example = json!(null))]
    next_attempt_at: Option<String>,
    /// When it was delivered or given up.
    #[schema(format = DateTime, required = true, example = "2025-12-21T10:30:00Z")]
    finished_at: Option<String>,
    /// Why it is exhausted.
    #[schema(required = true, example = json!(null))]
    gave_up: Option<&'static str>,
}

/// Show an event and what became of it for each subscription.
#[utoipa::path(
    get, path = "/events/{event_id}", tag = "Events", operation_id = "getEvent",
    params(
        ("event_id" = String, Path, description = "The event, percent-encoded"),
        crate::schemas::EventDeliveryParameters,
    ),
    responses((status = 200, description = "The event", body = EventAnswer)),
    security(("api_key" = ["read"]))
)]
pub(crate) async fn show(
    caller: Caller,
    service: web::Data<AppState>,
    PathEvent(id): PathEvent,
    request: HttpRequest,
) -> Result<HttpResponse, ApiError> {
    let list = Rows::Fates.of(&caller.organization, id.as_str());
    let mut query = Query::read(request.query_string());
    let limit = query.limit("deliveries_limit").unwrap_or(DEFAULT_LIMIT);
    let after = query.take("deliveries_cursor", |text| list.parse(text));
    query.finish()?;
    let page = FatePage {
        // One more tells whether there are others.
        limit: limit + 1,
        after: after.map(Cursor::subscription),
    };
    let found = service.api.store.event(caller.organization, id, page);
    let mut story = found.await?.ok_or(ApiError::NotFound)?;
    let last = cut(&mut story.subscriptions, limit, SubscriptionFate::cursor);
    let mut room = Room::default();
    room.take(&story.body);
    let fates = story.subscriptions.iter();
    let fates = fates.map(|fate| (fate.cursor(), fate_answer(fate, story.event_type)));
    let (subscriptions, filled) = room.fill(fates);
    Ok(HttpResponse::Ok().json(EventAnswer {
        event_id: story.event_id.as_str().to_owned(),
        event_type: story.event_type.as_str(),
        received_at: story.received_at.to_string(),
        body: story.body,
        subscriptions,
        next_deliveries_cursor: filled.or(last).map(|at| list.text(at)),
    }))
}

/// It has no body.
impl Shorten for FateAnswer {
    fn is_short(&self) -> bool {
        false
    }

    fn shorten(&mut self, _: usize) {}
}

fn fate_answer(fate: &SubscriptionFate, event_type: EventType) -> FateAnswer {
    let (outcome, reason) = match &fate.fate {
        Fate::Delivery(delivery) => (delivery.status.as_str(), course(delivery)),
        Fate::CreatedLater => (
            "created_later",
            "the subscription was created after the event had been received".to_owned(),
        ),
        Fate::Filtered => (
            "filtered",
            format!("its events do not include {event_type}"),
        ),
        Fate::ChangedSince => (
            "changed_since",
            "the subscription was changed after the event had been received".to_owned(),
        ),
    };
    let delivery = match &fate.fate {
        Fate::Delivery(delivery) => Some(delivery),
        _ => None,
    };
    let text = |time: Timestamp| time.to_string();
    FateAnswer {
        subscription_id: fate.subscription.0,
        name: fate.name.as_str().to_owned(),
        outcome,
        reason,
        delivery_id: delivery.map(|delivery| delivery.id.0),
        attempts_made: delivery.map(|delivery| delivery.attempts_made),
        next_attempt_at: delivery.and_then(|delivery| delivery.next_attempt_at.map(text)),
        finished_at: delivery.and_then(|delivery| delivery.finished_at.map(text)),
        gave_up: delivery.and_then(|delivery| delivery.gave_up.map(|why| why.as_str())),
    }
}

/// A delivery's course so far, in words.
fn course(delivery: &Delivery) -> String {
    let made = delivery.attempts_made;
    match (delivery.status, delivery.gave_up) {
        (DeliveryStatus::Pending, _) => match delivery.next_attempt_at {
            Some(due) => format!("attempt {} is due at {due}", made + 1),
            None => format!("attempt {} is due", made + 1),
        },
        (DeliveryStatus::Delivered, _) => format!("attempt {made} succeeded"),
        (DeliveryStatus::Exhausted, Some(GaveUp::Gone)) => {
            format!("the receiver answered 410 to attempt {made}")
        }
        (DeliveryStatus::Exhausted, Some(GaveUp::Poison)) => {
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
            "the subscription was deleted before the event was delivered".to_owned()
        }
    }
}
