//! Deliveries: the progress of each event to each subscription.

use actix_web::{HttpRequest, HttpResponse, web};
use hookline_core::cursor::{CursorKind, CursorScope};
use hookline_core::filter::Filter;
use hookline_core::ids::SubscriptionId;
use hookline_core::timestamp::Timestamp;
use hookline_store::{
    Delivery, DeliveryEntry, DeliveryQuery, DeliveryStatus, LoggedAttempt, ResultPage,
};
use serde::Serialize;
use serde_json::value::RawValue;
use utoipa::ToSchema;
use uuid::Uuid;

use crate::error::ApiError;
use crate::extract::caller::Caller;
use crate::extract::filter::{Include, filter, include};
use crate::extract::path_id::{PathDelivery, PathSubscription};
use crate::extract::query::Query;
use crate::routes::body_text::{BodyText, is_cut};
use crate::routes::logs::AttemptResponse;
use crate::routes::page::{DEFAULT_LIMIT, Page, cut};
use crate::routes::response_size::{MAX_BYTES, ResponseBudget, Truncate};
use crate::state::AppState;

/// The delivery of one event to one subscription.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Delivery)]
pub(crate) struct DeliveryResponse {
    /// The receiver gets it as the header `webhook-id`.
    #[schema(value_type = String, format = "uuid")]
    id: Uuid,
    #[schema(example = 7)]
    subscription_id: i64,
    #[schema(example = "evt_abc123")]
    event_id: String,
    #[schema(example = "workflow.completed")]
    event_type: &'static str,
    /// `event` or `test`.
    #[schema(example = "event")]
    origin: &'static str,
    /// `pending`, `delivered`, `exhausted` (no more attempts), `skipped` (the subscription was inactive) or `cancelled`
    /// (by a call, or the subscription was deleted).
    #[schema(example = "pending")]
    status: &'static str,
    /// The number of attempts so far.
    #[schema(example = 2)]
    attempts_made: u32,
    /// The time of the next attempt, while the delivery is pending.
    #[schema(format = DateTime, required = true, example = "2025-12-21T10:35:00Z")]
    next_attempt_at: Option<String>,
    /// What a pending delivery waits for: `retry` (the time of its next attempt), `breaker` (the circuit breaker is open
    /// after repeated failures, and lets single requests through until one succeeds) or `concurrency` (the limit of
    /// simultaneous requests to the receiver). Null if the attempt is about to start. Later versions may add values.
    #[schema(required = true, example = "retry")]
    waiting_for: Option<&'static str>,
    #[schema(format = DateTime, example = "2025-12-21T10:30:00Z")]
    created_at: String,
    /// The end of the delivery. A skipped or cancelled delivery may end only when its next attempt would have been due.
    #[schema(format = DateTime, required = true, example = json!(null))]
    finished_at: Option<String>,
    /// Why it is exhausted: `out_of_attempts`, `gone` (the receiver answered 410) or `poison` (the attempt crashed the
    /// service repeatedly).
    #[schema(required = true, example = json!(null))]
    exhausted_reason: Option<&'static str>,
}

impl From<Delivery> for DeliveryResponse {
    fn from(delivery: Delivery) -> Self {
        let text = |time: Timestamp| time.to_string();
        Self {
            id: delivery.id.0,
            subscription_id: delivery.subscription.0,
            event_id: delivery.event_id.as_str().to_owned(),
            event_type: delivery.event_type.as_str(),
            origin: delivery.kind.as_str(),
            status: delivery.status.as_str(),
            attempts_made: delivery.attempts_made,
            next_attempt_at: delivery.next_attempt_at.map(text),
            waiting_for: delivery.waiting_for.map(|what| what.as_str()),
            created_at: text(delivery.created_at),
            finished_at: delivery.finished_at.map(text),
            exhausted_reason: delivery.exhausted_reason.map(|why| why.as_str()),
        }
    }
}

/// A delivery in a list.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = ListedDelivery)]
pub(crate) struct ListedDelivery {
    #[serde(flatten)]
    delivery: DeliveryResponse,
    /// With `include=bodies`, the bytes that are signed and sent with each attempt. If `truncated` is true, only their prefix.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = String)]
    request_body: Option<BodyText>,
    /// With `include=bodies`, true if `request_body` is cut, because the page would exceed 1 MiB. `GET
    /// /deliveries/{id}` has the whole body.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = bool)]
    truncated: Option<bool>,
}

impl From<DeliveryEntry> for ListedDelivery {
    fn from(entry: DeliveryEntry) -> Self {
        Self {
            delivery: entry.delivery.into(),
            truncated: is_cut(entry.request_body.as_ref()),
            request_body: entry.request_body.map(BodyText::from),
        }
    }
}

impl Truncate for ListedDelivery {
    fn is_truncated(&self) -> bool {
        self.truncated == Some(true)
    }

    fn truncate(&mut self, bytes: usize) {
        if let Some(body) = &mut self.request_body {
            body.truncate(bytes);
            self.truncated = Some(true);
        }
    }
}

/// A page of deliveries.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Deliveries {
    /// Newest first. With filters, a page may have fewer rows than `limit`, or none: then it has `searched_until`. With
    /// bodies and a cursor, also because a page is at most 1 MiB.
    #[schema(value_type = Vec<ListedDelivery>)]
    deliveries: Vec<Box<RawValue>>,
    /// Rows of all pages. Null for the list of the organization, and with a filter other than `event_type`, `status`, `since`
    /// and `until`; also if a count with `status` or `event_type` would search more than 100,000 deliveries. The pages are
    /// complete nevertheless.
    #[schema(required = true)]
    total: Option<u64>,
    /// Rows of a page: the given value, or 50.
    limit: u32,
    /// The given value; 0 with a cursor.
    offset: u64,
    /// The `cursor` of the next page; null on the last page.
    #[schema(required = true)]
    next_cursor: Option<String>,
    /// The time down to which a page was searched that ended early; the next page goes on there. Null on other pages.
    #[schema(format = DateTime, required = true)]
    searched_until: Option<String>,
}

/// List the deliveries of a subscription, tests included.
#[utoipa::path(
    get, path = "/webhooks/{id}/deliveries", tag = "Logs", operation_id = "listWebhookDeliveries",
    params(
        ("id" = i64, Path, description = "The subscription"),
        crate::schemas::parameters::DeliveryParameters,
        crate::schemas::parameters::FilterParameters,
        crate::schemas::parameters::IncludeParameter,
    ),
    responses((status = 200, description = "A page of deliveries", body = Deliveries)),
    security(("api_key" = ["read"]))
)]
pub(crate) async fn of_subscription(
    caller: Caller,
    state: web::Data<AppState>,
    PathSubscription(id): PathSubscription,
    request: HttpRequest,
) -> Result<HttpResponse, ApiError> {
    let list = CursorKind::Deliveries.of(&caller.organization, &id.to_string());
    let deliveries = DeliveryRequest::parse(&request, list)?;
    let store = &state.api.store;
    let known = store.subscription(caller.organization.clone(), id).await?;
    if known.is_none() {
        return Err(ApiError::NotFound);
    }
    deliveries.respond(&state, caller, Some(id)).await
}

/// List the deliveries of an organization, with those of deleted subscriptions.
#[utoipa::path(
    get, path = "/deliveries", tag = "Logs", operation_id = "listDeliveries",
    params(
        crate::schemas::parameters::DeliveryParameters,
        crate::schemas::parameters::FilterParameters,
        crate::schemas::parameters::IncludeParameter,
    ),
    responses((status = 200, description = "A page of deliveries", body = Deliveries)),
    security(("api_key" = ["read"]))
)]
pub(crate) async fn of_organization(
    caller: Caller,
    state: web::Data<AppState>,
    request: HttpRequest,
) -> Result<HttpResponse, ApiError> {
    let list = CursorKind::Deliveries.of(&caller.organization, "");
    DeliveryRequest::parse(&request, list)?
        .respond(&state, caller, None)
        .await
}

/// The filter and the page of a request.
struct DeliveryRequest {
    filter: Filter<DeliveryStatus>,
    include: Include,
    page: Page,
}

/// Reads the name of a delivery's status.
pub(crate) fn delivery_status(name: &str) -> Result<DeliveryStatus, &'static str> {
    DeliveryStatus::parse(name).ok_or("must be pending, delivered, exhausted, skipped or cancelled")
}

impl DeliveryRequest {
    fn parse(request: &HttpRequest, list: CursorScope) -> Result<Self, ApiError> {
        let mut query = Query::read(request.query_string());
        let filter = filter(&mut query, delivery_status);
        let include = include(&mut query, Include::Nothing);
        let page = Page::parse(&mut query, list);
        query.finish()?;
        Ok(Self {
            filter,
            include,
            page,
        })
    }

    async fn respond(
        self,
        state: &AppState,
        caller: Caller,
        subscription: Option<SubscriptionId>,
    ) -> Result<HttpResponse, ApiError> {
        let page = self.page;
        let filter = match subscription {
            Some(subscription) => self.filter.within(subscription),
            None => Some(self.filter),
        };
        let mut found = match filter {
            Some(filter) => {
                let query = DeliveryQuery {
                    organization: caller.organization,
                    filter,
                    limit: page.to_read(),
                    start: page.start,
                    body_bytes: (self.include == Include::Bodies).then_some(MAX_BYTES),
                };
                state.api.store.deliveries(query).await?
            }
            None => ResultPage::empty(Some(0)),
        };
        let cursor = |entry: &DeliveryEntry| entry.delivery.cursor();
        let next_cursor = page.cut(&mut found, cursor);
        let rows = found.rows.into_iter();
        let rows = rows.map(|entry| (cursor(&entry), ListedDelivery::from(entry)));
        let (deliveries, next_cursor) = page.show(rows, next_cursor);
        Ok(HttpResponse::Ok().json(Deliveries {
            deliveries,
            total: found.total,
            limit: page.limit,
            offset: page.offset(),
            next_cursor,
            searched_until: found.searched.map(|end| end.created_at.to_string()),
        }))
    }
}

/// A delivery and its attempts.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct DeliveryWithAttempts {
    #[serde(flatten)]
    delivery: DeliveryResponse,
    /// The bytes that are signed and sent with each attempt.
    request_body: String,
    /// Newest first: at most `attempts_limit`, and fewer if the response would exceed 1 MiB. Retention may have deleted the
    /// oldest ones.
    #[schema(value_type = Vec<AttemptResponse>)]
    attempts: Vec<Box<RawValue>>,
    /// The `attempts_cursor` of the next older attempts; null if there are none.
    #[schema(required = true)]
    next_attempts_cursor: Option<String>,
}

/// Show a delivery and its attempts.
#[utoipa::path(
    get, path = "/deliveries/{id}", tag = "Logs", operation_id = "getDelivery",
    params(
        ("id" = String, Path, description = "The delivery", format = "uuid"),
        crate::schemas::parameters::AttemptParameters,
    ),
    responses((status = 200, description = "The delivery", body = DeliveryWithAttempts)),
    security(("api_key" = ["read"]))
)]
pub(crate) async fn show(
    caller: Caller,
    state: web::Data<AppState>,
    PathDelivery(id): PathDelivery,
    request: HttpRequest,
) -> Result<HttpResponse, ApiError> {
    let list = CursorKind::Attempts.of(&caller.organization, &id.to_string());
    let mut query = Query::read(request.query_string());
    let limit = query.limit("attempts_limit").unwrap_or(DEFAULT_LIMIT);
    let after = query.take("attempts_cursor", |text| list.parse(text));
    query.finish()?;
    let store = &state.api.store;
    // One more row shows whether there is a next page.
    let found = store.delivery(caller.organization, id, limit + 1, after);
    let mut found = found.await?.ok_or(ApiError::NotFound)?;
    let last = cut(&mut found.attempts, limit, LoggedAttempt::cursor);
    let mut budget = ResponseBudget::default();
    budget.reserve(&found.request_body);
    let made = found.attempts.into_iter();
    let (attempts, filled) =
        budget.fill(made.map(|one| (one.cursor(), AttemptResponse::from(one))));
    Ok(HttpResponse::Ok().json(DeliveryWithAttempts {
        delivery: found.delivery.into(),
        request_body: found.request_body,
        attempts,
        next_attempts_cursor: filled.or(last).map(|at| list.text(at)),
    }))
}
