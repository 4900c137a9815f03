//! Deliveries: where each event stands on its way to a subscription.

use actix_web::{HttpRequest, HttpResponse, web};
use hookline_core::cursor::Rows;
use hookline_core::event_type::EventType;
use hookline_core::timestamp::Timestamp;
use hookline_store::{Delivery, DeliveryQuery, DeliveryStatus, LoggedAttempt};
use serde::Serialize;
use serde_json::value::RawValue;
use utoipa::ToSchema;
use uuid::Uuid;

use crate::error::ApiError;
use crate::extract::caller::Caller;
use crate::extract::path_id::{PathDelivery, PathId};
use crate::extract::query::Query;
use crate::routes::logs::AttemptAnswer;
use crate::routes::page::{DEFAULT_LIMIT, Page, cut};
use crate::routes::response_size::Room;
use crate::state::AppState;

/// One event on its way to one subscription.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Delivery)]
pub(crate) struct DeliveryAnswer {
    /// The delivery; the receiver sees it as `webhook-id`.
    #[schema(value_type = String, format = "uuid")]
    id: Uuid,
    /// The subscription.
    #[schema(example = 7)]
    subscription_id: i64,
    /// The event.
    #[schema(example = "evt_abc123")]
    event_id: String,
    /// What happened.
    #[schema(example = "workflow.completed")]
    event_type: &'static str,
    /// Why it exists: `event` or `test`.
    #[schema(example = "event")]
    origin: &'static str,
    /// `pending`, `delivered`, `exhausted` (no further attempt is made), `skipped` (the
    /// subscription was inactive) or `cancelled` (it was deleted).
    #[schema(example = "pending")]
    status: &'static str,
    /// How many attempts were made.
    #[schema(example = 2)]
    attempts_made: u32,
    /// When the next one is due, while it is pending.
    #[schema(format = DateTime, required = true, example = "2025-12-21T10:35:00Z")]
    next_attempt_at: Option<String>,
    /// What a pending delivery waits for: `retry` (the moment of its next attempt), `breaker` (its receiver has failed
    /// again and again, and gets one request now and then until one succeeds) or `concurrency` (a request to its receiver
    /// has to end first). Null where its attempt is about to be made. Other values may be added.
    #[schema(required = true, example = "retry")]
    waiting_for: Option<&'static str>,
    /// Since when there is one.
    #[schema(format = DateTime, example = "2025-12-21T10:30:00Z")]
    created_at: String,
    /// When it was delivered or given up. What is void because of its subscription is noted only
    /// when its turn would have come.
    #[schema(format = DateTime, required = true, example = json!(null))]
    finished_at: Option<String>,
    /// Why it is exhausted: `out_of_attempts`, `gone` (the receiver answered 410) or `poison`.
    #[schema(required = true, example = json!(null))]
    gave_up: Option<&'static str>,
}

impl From<Delivery> for DeliveryAnswer {
    fn from(delivery: Delivery) -> Self {
        let text = |time: Timestamp| time.to_string();
        Self {
            id: delivery.id.0,
            subscription_id: delivery.subscription.0,
            event_id: delivery.event_id.as_str().to_owned(),
            event_type: delivery.event_type.as_str(),
            origin: delivery.origin.as_str(),
            status: delivery.status.as_str(),
            attempts_made: delivery.attempts_made,
            next_attempt_at: delivery.next_attempt_at.map(text),
            waiting_for: delivery.waiting_for.map(|what| what.as_str()),
            created_at: text(delivery.created_at),
            finished_at: delivery.finished_at.map(text),
            gave_up: delivery.gave_up.map(|why| why.as_str()),
        }
    }
}

/// A page of deliveries.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Deliveries {
    /// Newest first. With `status` or `event_type` there may be fewer than `limit`, also none, and a `next_cursor`: a
    /// request looks at no more than 50,000 deliveries.
    deliveries: Vec<DeliveryAnswer>,
    /// How many there are in all; null where a filter of `status` or `event_type` would have more than 100,000
    /// deliveries looked at. Pages by `cursor` go on all the same.
    #[schema(required = true)]
    total: Option<u64>,
    /// The given one, or 50.
    limit: u32,
    /// The given one; 0 with a cursor.
    offset: u64,
    /// Asks for the next page; null on the last one.
    #[schema(required = true)]
    next_cursor: Option<String>,
}

/// List the deliveries of a subscription, tests included.
#[utoipa::path(
    get, path = "/webhooks/{id}/deliveries", tag = "Logs", operation_id = "listWebhookDeliveries",
    params(("id" = i64, Path, description = "The subscription"), crate::schemas::DeliveryParameters),
    responses((status = 200, description = "A page", body = Deliveries)),
    security(("api_key" = ["read"]))
)]
pub(crate) async fn of_subscription(
    caller: Caller,
    service: web::Data<AppState>,
    PathId(id): PathId,
    request: HttpRequest,
) -> Result<HttpResponse, ApiError> {
    let mut query = Query::read(request.query_string());
    let event_type = query.take("event_type", EventType::parse);
    let status = query.take("status", |name| {
        DeliveryStatus::parse(name)
            .ok_or("must be pending, delivered, exhausted, skipped or cancelled")
    });
    let since = query.take("since", Timestamp::parse);
    let until = query.take("until", Timestamp::parse);
    if since.zip(until).is_some_and(|(since, until)| since > until) {
        query.violations.add("until", "must not be before since");
    }
    let page = Page::take(
        &mut query,
        Rows::Deliveries.of(&caller.organization, &id.to_string()),
    );
    query.finish()?;
    let store = &service.api.store;
    let organization = caller.organization;
    let known = store.subscription(organization.clone(), id).await?;
    if known.is_none() {
        return Err(ApiError::NotFound);
    }
    let query = DeliveryQuery {
        organization,
        subscription: id,
        status,
        event_type,
        since,
        until,
        limit: page.to_read(),
        start: page.start,
    };
    let mut found = store.deliveries(query).await?;
    let next_cursor = page.cut(&mut found, Delivery::cursor);
    Ok(HttpResponse::Ok().json(Deliveries {
        deliveries: found.rows.into_iter().map(DeliveryAnswer::from).collect(),
        total: found.total,
        limit: page.limit,
        offset: page.offset(),
        next_cursor,
    }))
}

/// A delivery and its attempts.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct DeliveryWithAttempts {
    #[serde(flatten)]
    delivery: DeliveryAnswer,
    /// The bytes that are signed and sent with each attempt.
    request_body: String,
    /// Its part of the log, newest first: at most `attempts_limit`, and fewer where the answer would exceed 1 MiB.
    /// Retention may have taken the oldest ones.
    #[schema(value_type = Vec<AttemptAnswer>)]
    attempts: Vec<Box<RawValue>>,
    /// Asks for the attempts before these; null where there are none.
    #[schema(required = true)]
    next_attempts_cursor: Option<String>,
}

/// Show a delivery and its attempts.
#[utoipa::path(
    get, path = "/deliveries/{id}", tag = "Logs", operation_id = "getDelivery",
    params(
        ("id" = String, Path, description = "The delivery", format = "uuid"),
        crate::schemas::AttemptParameters,
    ),
    responses((status = 200, description = "The delivery", body = DeliveryWithAttempts)),
    security(("api_key" = ["read"]))
)]
pub(crate) async fn show(
    caller: Caller,
    service: web::Data<AppState>,
    PathDelivery(id): PathDelivery,
    request: HttpRequest,
) -> Result<HttpResponse, ApiError> {
    let list = Rows::Attempts.of(&caller.organization, &id.to_string());
    let mut query = Query::read(request.query_string());
    let limit = query.limit("attempts_limit").unwrap_or(DEFAULT_LIMIT);
    let after = query.take("attempts_cursor", |text| list.parse(text));
    query.finish()?;
    let store = &service.api.store;
    // One more tells whether there are others.
    let found = store.delivery(caller.organization, id, limit + 1, after);
    let mut story = found.await?.ok_or(ApiError::NotFound)?;
    let last = cut(&mut story.attempts, limit, LoggedAttempt::cursor);
    let mut room = Room::default();
    room.take(&story.request_body);
    let made = story.attempts.into_iter();
    let (attempts, filled) = room.fill(made.map(|one| (one.cursor(), AttemptAnswer::from(one))));
    Ok(HttpResponse::Ok().json(DeliveryWithAttempts {
        delivery: story.delivery.into(),
        request_body: story.request_body,
        attempts,
        next_attempts_cursor: filled.or(last).map(|at| list.text(at)),
    }))
}
