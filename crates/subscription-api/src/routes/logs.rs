//! The log: every attempt, retries and tests included, newest first.

use std::sync::Arc;

use actix_web::{HttpRequest, HttpResponse, web};
use hookline_core::cursor::{List, Rows};
use hookline_core::event_type::EventType;
use hookline_core::ids::SubscriptionId;
use hookline_store::{AttemptStatus, LogEntry, LogQuery, LoggedAttempt};
use serde::{Serialize, Serializer};
use serde_json::value::RawValue;
use utoipa::ToSchema;
use uuid::Uuid;

use crate::error::ApiError;
use crate::extract::caller::Caller;
use crate::extract::path_id::PathId;
use crate::extract::query::Query;
use crate::routes::page::Page;
use crate::routes::response_size::{MAX_BYTES, Shorten, beginning};
use crate::state::AppState;

/// One attempt.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Attempt)]
pub(crate) struct AttemptAnswer {
    /// The attempt.
    #[schema(value_type = String, format = "uuid")]
    id: Uuid,
    /// The delivery that it belongs to; the receiver sees it as `webhook-id`.
    #[schema(value_type = String, format = "uuid")]
    delivery_id: Uuid,
    /// The subscription.
    subscription_id: i64,
    /// The event.
    #[schema(example = "evt_abc123")]
    event_id: String,
    /// What happened.
    #[schema(example = "workflow.completed")]
    event_type: &'static str,
    /// The number of the attempt, from 1.
    #[schema(minimum = 1)]
    attempt: u32,
    /// Why it was made: `event`, `retry`, `test` or `replay`.
    #[schema(value_type = String, example = "event")]
    trigger: hookline_core::delivery::Trigger,
    /// `success` or `failed`.
    #[schema(example = "success")]
    status: &'static str,
    /// Where it was sent.
    url: String,
    /// The HTTP status of the receiver, where one came.
    #[schema(required = true)]
    response_status: Option<u16>,
    /// The first 16 KiB of the receiver's answer.
    #[schema(required = true)]
    response_body: Option<String>,
    /// Why it failed.
    #[schema(required = true)]
    error: Option<LogError>,
    /// How long it took.
    duration_ms: u64,
    /// When it was made.
    #[schema(format = DateTime)]
    created_at: String,
    /// When the next one is due, if there is one.
    #[schema(format = DateTime, required = true)]
    next_attempt_at: Option<String>,
}

/// One attempt and what it sent.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = LogEntry)]
pub(crate) struct LogAnswer {
    #[serde(flatten)]
    attempt: AttemptAnswer,
    /// The bytes that were signed and sent, or their beginning where `truncated` is true.
    #[serde(serialize_with = "text")]
    #[schema(value_type = String)]
    request_body: Arc<str>,
    /// Whether only the beginnings of `request_body` and `response_body` are shown, because the page would exceed
    /// 1 MiB. `GET /deliveries/{id}` has them whole.
    truncated: bool,
}

/// Why an attempt failed.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct LogError {
    /// For programs: `timeout`, `dns`, `connect`, `tls`, `blocked_address`, `http_status` or
    /// `response`.
    #[schema(value_type = String, example = "timeout")]
    kind: hookline_core::outcome::FailureKind,
    /// The same in words.
    message: String,
}

/// Many attempts may be of one event.
fn text<S: Serializer>(text: &Arc<str>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(text)
}

impl From<LoggedAttempt> for AttemptAnswer {
    fn from(entry: LoggedAttempt) -> Self {
        Self {
            id: entry.id.0,
            delivery_id: entry.delivery_id.0,
            subscription_id: entry.subscription_id.0,
            event_id: entry.event_id.as_str().to_owned(),
            event_type: entry.event_type.as_str(),
            attempt: entry.number,
            trigger: entry.trigger,
            status: entry.status.as_str(),
            url: entry.url,
            response_status: entry.response_status,
            response_body: entry.response_body,
            error: entry.error.map(|error| LogError {
                kind: error.kind,
                message: error.message,
            }),
            duration_ms: entry.duration_ms,
            created_at: entry.created_at.to_string(),
            next_attempt_at: entry.next_attempt_at.map(|time| time.to_string()),
        }
    }
}

impl From<LogEntry> for LogAnswer {
    fn from(
        LogEntry {
            attempt,
            request_body,
        }: LogEntry,
    ) -> Self {
        Self {
            attempt: attempt.into(),
            request_body: request_body.text,
            truncated: !request_body.is_whole,
        }
    }
}

impl Shorten for AttemptAnswer {
    fn is_short(&self) -> bool {
        false
    }

    fn shorten(&mut self, bytes: usize) {
        if let Some(body) = &mut self.response_body {
            body.truncate(beginning(body, bytes).len());
        }
    }
}

impl Shorten for LogAnswer {
    fn is_short(&self) -> bool {
        self.truncated
    }

    fn shorten(&mut self, bytes: usize) {
        self.truncated = true;
        self.request_body = beginning(&self.request_body, bytes).into();
        self.attempt.shorten(bytes);
    }
}

/// A page of the log.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Logs {
    /// Newest first. With a cursor there may be fewer than `limit`: a page is at most 1 MiB. With several filters, or
    /// with `status=success`, also without one: a request looks at no more than 50,000 attempts.
    #[schema(value_type = Vec<LogAnswer>)]
    logs: Vec<Box<RawValue>>,
    /// How many there are in all.
    total: u64,
    /// The given one, or 50.
    limit: u32,
    /// The given one; 0 with a cursor.
    offset: u64,
    /// Asks for the next page; null on the last one.
    #[schema(required = true)]
    next_cursor: Option<String>,
}

/// List the attempts of a subscription.
#[utoipa::path(
    get, path = "/webhooks/{id}/logs", tag = "Logs", operation_id = "listWebhookLogs",
    params(("id" = i64, Path, description = "The subscription"), crate::schemas::LogParameters),
    responses((status = 200, description = "A page", body = Logs)),
    security(("api_key" = ["read"]))
)]
pub(crate) async fn of_subscription(
    caller: Caller,
    service: web::Data<AppState>,
    PathId(id): PathId,
    request: HttpRequest,
) -> Result<HttpResponse, ApiError> {
    let list = Rows::Attempts.of(&caller.organization, &id.to_string());
    let wanted = Wanted::read(&request, list)?;
    let known = service
        .api
        .store
        .subscription(caller.organization.clone(), id)
        .await?;
    if known.is_none() {
        return Err(ApiError::NotFound);
    }
    wanted.answer(&service, caller, Some(id)).await
}

/// List the attempts of an organization, those of deleted subscriptions included.
#[utoipa::path(
    get, path = "/webhooks/logs/all", tag = "Logs", operation_id = "listAllLogs",
    params(crate::schemas::LogParameters),
    responses((status = 200, description = "A page", body = Logs)),
    security(("api_key" = ["read"]))
)]
pub(crate) async fn of_organization(
    caller: Caller,
    service: web::Data<AppState>,
    request: HttpRequest,
) -> Result<HttpResponse, ApiError> {
    let list = Rows::Attempts.of(&caller.organization, "");
    Wanted::read(&request, list)?
        .answer(&service, caller, None)
        .await
}

/// The rows that a request asks for.
struct Wanted {
    event_type: Option<EventType>,
    status: Option<AttemptStatus>,
    page: Page,
}

impl Wanted {
    fn read(request: &HttpRequest, list: List) -> Result<Self, ApiError> {
        let mut query = Query::read(request.query_string());
        let event_type = query.take("event_type", EventType::parse);
        let status = query.take("status", |name| {
            AttemptStatus::parse(name).ok_or("must be success or failed")
        });
        let page = Page::take(&mut query, list);
        query.finish()?;
        Ok(Self {
            event_type,
            status,
            page,
        })
    }

    async fn answer(
        self,
        service: &AppState,
        caller: Caller,
        subscription: Option<SubscriptionId>,
    ) -> Result<HttpResponse, ApiError> {
        let page = self.page;
        let mut found = service
            .api
            .store
            .log(LogQuery {
                organization: caller.organization,
                subscription,
                event_type: self.event_type,
                status: self.status,
                limit: page.to_read(),
                start: page.start,
                body_bytes: MAX_BYTES,
            })
            .await?;
        let place = |entry: &LogEntry| entry.attempt.cursor();
        let next_cursor = page.cut(&mut found, place);
        let rows = found.rows.into_iter();
        let rows = rows.map(|entry| (place(&entry), LogAnswer::from(entry)));
        let (logs, next_cursor) = page.show(rows, next_cursor);
        Ok(HttpResponse::Ok().json(Logs {
            logs,
            total: found.total,
            limit: page.limit,
            offset: page.offset(),
            next_cursor,
        }))
    }
}
