//! The log of attempts, with retries and tests, newest first.

use actix_web::{HttpRequest, HttpResponse, web};
use hookline_core::cursor::{CursorKind, CursorScope};
use hookline_core::filter::Filter;
use hookline_core::http_log::HeaderLog;
use hookline_core::ids::SubscriptionId;
use hookline_store::{AttemptStatus, LogEntry, LogQuery, LoggedAttempt, ResultPage};
use serde::Serialize;
use serde_json::value::RawValue;
use utoipa::ToSchema;
use uuid::Uuid;

use crate::error::ApiError;
use crate::extract::caller::Caller;
use crate::extract::filter::{Include, filter, include};
use crate::extract::path_id::PathSubscription;
use crate::extract::query::Query;
use crate::routes::body_text::{BodyText, is_cut};
use crate::routes::http_log_json::{self, HeaderResponse, TimingsResponse};
use crate::routes::page::Page;
use crate::routes::response_size::{MAX_BYTES, Truncate, prefix};
use crate::state::AppState;

/// Bytes of headers that are left of an entry for each byte of a cut body: 2 KiB, or none. Usual headers have fewer.
const HEADERS_PER_BODY: usize = 8;

/// An attempt to send an event to a receiver.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Attempt)]
pub(crate) struct AttemptResponse {
    #[schema(value_type = String, format = "uuid")]
    id: Uuid,
    /// The receiver gets it as the header `webhook-id`.
    #[schema(value_type = String, format = "uuid")]
    delivery_id: Uuid,
    subscription_id: i64,
    #[schema(example = "evt_abc123")]
    event_id: String,
    #[schema(example = "workflow.completed")]
    event_type: &'static str,
    /// The number of the attempt, from 1.
    #[schema(minimum = 1)]
    attempt: u32,
    /// The reason for the attempt: `event`, `retry`, `test` or `replay`.
    #[schema(value_type = String, example = "event")]
    trigger: hookline_core::delivery::Trigger,
    /// `success` or `failed`.
    #[schema(example = "success")]
    status: &'static str,
    /// The URL of the request.
    url: String,
    /// The status of the receiver's response; null without a response.
    #[schema(required = true)]
    response_status: Option<u16>,
    /// The first 16 KiB of the receiver's response; null without a response. Bytes that are not UTF-8, and NUL, are shown as
    /// U+FFFD. Absent with `include=none`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    response_body: Option<Option<String>>,
    /// The error; null for a success.
    #[schema(required = true)]
    error: Option<LogError>,
    /// The duration in milliseconds; for the errors `dns` and `blocked_address` in whole seconds.
    duration_ms: u64,
    #[schema(format = DateTime)]
    created_at: String,
    /// The time of the next attempt, if there is one.
    #[schema(format = DateTime, required = true)]
    next_attempt_at: Option<String>,
    /// The headers of the request, as sent and in that order. Signatures and the values that the subscription configures are
    /// masked. Null if no request was sent.
    #[serde(serialize_with = "http_log_json::headers")]
    #[schema(value_type = Option<Vec<HeaderResponse>>, required = true)]
    request_headers: Option<HeaderLog>,
    /// The first 8 KiB of the headers of the receiver's response. Credentials such as `set-cookie`, and values of masked
    /// request headers, are masked; `location` has no query. Bytes that are not UTF-8 are shown as U+FFFD. Null without a
    /// response.
    #[serde(serialize_with = "http_log_json::headers")]
    #[schema(value_type = Option<Vec<HeaderResponse>>, required = true)]
    response_headers: Option<HeaderLog>,
    /// The address that was called; without a connection, the first one that was tried. Null unless it is public.
    #[schema(required = true, example = "93.184.215.14")]
    remote_address: Option<String>,
    /// Null if the name did not resolve or the address must not be called.
    #[schema(required = true)]
    timings: Option<TimingsResponse>,
}

/// An attempt and the body of its request.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = LogEntry)]
pub(crate) struct LogResponse {
    #[serde(flatten)]
    attempt: AttemptResponse,
    /// The body that was signed and sent. If `truncated` is true, only its prefix. Absent with `include=none`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = String)]
    request_body: Option<BodyText>,
    /// True if bodies and headers are cut, because the page would exceed 1 MiB. `GET /deliveries/{id}` has all of them.
    truncated: bool,
}

/// Why an attempt failed.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct LogError {
    /// `timeout`, `dns`, `connect`, `tls`, `blocked_address`, `http_status` or `response`.
    #[schema(value_type = String, example = "timeout")]
    kind: hookline_core::outcome::FailureKind,
    /// A description of the error.
    message: String,
}

impl From<LoggedAttempt> for AttemptResponse {
    fn from(entry: LoggedAttempt) -> Self {
        let http = entry.http;
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
            response_body: Some(entry.response_body),
            error: entry.error.map(|error| LogError {
                kind: error.kind,
                message: error.message,
            }),
            duration_ms: entry.duration_ms,
            created_at: entry.created_at.to_string(),
            next_attempt_at: entry.next_attempt_at.map(|time| time.to_string()),
            request_headers: http.request_headers,
            response_headers: http.response_headers,
            remote_address: http.remote_address.map(|address| address.to_string()),
            timings: http
                .times
                .map(|times| TimingsResponse::new(times, entry.duration_ms)),
        }
    }
}

impl AttemptResponse {
    /// As a list with `include=none` shows it.
    pub(crate) fn without_body(entry: LoggedAttempt) -> Self {
        Self {
            response_body: None,
            ..Self::from(entry)
        }
    }
}

impl From<LogEntry> for LogResponse {
    fn from(
        LogEntry {
            attempt,
            request_body,
        }: LogEntry,
    ) -> Self {
        let mut attempt = AttemptResponse::from(attempt);
        if request_body.is_none() {
            attempt.response_body = None;
        }
        Self {
            attempt,
            truncated: is_cut(request_body.as_ref()).unwrap_or_default(),
            request_body: request_body.map(BodyText::from),
        }
    }
}

impl Truncate for AttemptResponse {
    fn is_truncated(&self) -> bool {
        false
    }

    fn truncate(&mut self, bytes: usize) {
        if let Some(Some(body)) = &mut self.response_body {
            body.truncate(prefix(body, bytes).len());
        }
        let headers = self.request_headers.iter_mut();
        for headers in headers.chain(&mut self.response_headers) {
            headers.truncate(HEADERS_PER_BODY * bytes);
        }
    }
}

impl Truncate for LogResponse {
    fn is_truncated(&self) -> bool {
        self.truncated
    }

    fn truncate(&mut self, bytes: usize) {
        let Some(body) = &mut self.request_body else {
            return;
        };
        body.truncate(bytes);
        self.truncated = true;
        self.attempt.truncate(bytes);
    }
}

/// A page of the log.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Logs {
    /// Newest first. With a cursor, a page may have fewer rows than `limit`, because it is at most 1 MiB. With filters, it may
    /// have fewer rows in any case, also none: then it has `searched_until`.
    #[schema(value_type = Vec<LogResponse>)]
    logs: Vec<Box<RawValue>>,
    /// Rows of all pages. Null with a filter other than `event_type`, `status` and `subscription_id`.
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

/// List the attempts of a subscription.
#[utoipa::path(
    get, path = "/webhooks/{id}/logs", tag = "Logs", operation_id = "listWebhookLogs",
    params(
        ("id" = i64, Path, description = "The subscription"),
        crate::schemas::parameters::LogParameters,
        crate::schemas::parameters::FilterParameters,
        crate::schemas::parameters::IncludeParameter,
    ),
    responses((status = 200, description = "A page of attempts", body = Logs)),
    security(("api_key" = ["read"]))
)]
pub(crate) async fn of_subscription(
    caller: Caller,
    state: web::Data<AppState>,
    PathSubscription(id): PathSubscription,
    request: HttpRequest,
) -> Result<HttpResponse, ApiError> {
    let list = CursorKind::Attempts.of(&caller.organization, &id.to_string());
    let log = LogRequest::parse(&request, list)?;
    let known = state
        .api
        .store
        .subscription(caller.organization.clone(), id)
        .await?;
    if known.is_none() {
        return Err(ApiError::NotFound);
    }
    log.respond(&state, caller, Some(id)).await
}

/// List the attempts of an organization, with those of deleted subscriptions.
#[utoipa::path(
    get, path = "/webhooks/logs/all", tag = "Logs", operation_id = "listAllLogs",
    params(
        crate::schemas::parameters::LogParameters,
        crate::schemas::parameters::FilterParameters,
        crate::schemas::parameters::IncludeParameter,
    ),
    responses((status = 200, description = "A page of attempts", body = Logs)),
    security(("api_key" = ["read"]))
)]
pub(crate) async fn of_organization(
    caller: Caller,
    state: web::Data<AppState>,
    request: HttpRequest,
) -> Result<HttpResponse, ApiError> {
    let list = CursorKind::Attempts.of(&caller.organization, "");
    LogRequest::parse(&request, list)?
        .respond(&state, caller, None)
        .await
}

/// The filter and the page of a request.
struct LogRequest {
    filter: Filter<AttemptStatus>,
    include: Include,
    page: Page,
}

impl LogRequest {
    fn parse(request: &HttpRequest, list: CursorScope) -> Result<Self, ApiError> {
        let mut query = Query::read(request.query_string());
        let filter = filter(&mut query, |name| {
            AttemptStatus::parse(name).ok_or("must be success or failed")
        });
        let include = include(&mut query, Include::Bodies);
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
                let query = LogQuery {
                    organization: caller.organization,
                    filter,
                    limit: page.to_read(),
                    start: page.start,
                    body_bytes: (self.include == Include::Bodies).then_some(MAX_BYTES),
                };
                state.api.store.log(query).await?
            }
            None => ResultPage::empty(Some(0)),
        };
        let cursor = |entry: &LogEntry| entry.attempt.cursor();
        let next_cursor = page.cut(&mut found, cursor);
        let rows = found.rows.into_iter();
        let rows = rows.map(|entry| (cursor(&entry), LogResponse::from(entry)));
        let (logs, next_cursor) = page.show(rows, next_cursor);
        Ok(HttpResponse::Ok().json(Logs {
            logs,
            total: found.total,
            limit: page.limit,
            offset: page.offset(),
            next_cursor,
            searched_until: found.searched.map(|end| end.created_at.to_string()),
        }))
    }
}

#[cfg(test)]
mod tests;
