//! Replays and their progress.

use actix_web::{HttpRequest, HttpResponse, web};
use hookline_core::cursor::CursorKind;
use hookline_core::event_type::EventType;
use hookline_core::ids::SubscriptionId;
use hookline_core::replay::ReplayFilter;
use hookline_core::timestamp::Timestamp;
use hookline_store::{Replay, ReplayQuery, ReplayState, ReplayTarget};
use serde::Serialize;
use utoipa::ToSchema;
use uuid::Uuid;

use crate::error::ApiError;
use crate::extract::caller::Caller;
use crate::extract::filter::subscription_id;
use crate::extract::path_id::PathReplay;
use crate::extract::query::Query;
use crate::routes::page::Page;
use crate::state::AppState;

/// A replay and its progress.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Replay)]
pub(crate) struct ReplayResponse {
    #[schema(value_type = String, format = "uuid")]
    id: Uuid,
    /// `deliveries`, or `missing` for events that had no delivery.
    #[schema(example = "deliveries")]
    kind: &'static str,
    /// Null for all subscriptions of the organization.
    #[schema(required = true, example = 7)]
    subscription_id: Option<i64>,
    /// `running`, `finished` or `cancelled`.
    #[schema(example = "running")]
    status: &'static str,
    /// Why it was cancelled: `requested`, `subscription_inactive` or `subscription_deleted`.
    #[schema(required = true, example = json!(null))]
    cancelled_because: Option<&'static str>,
    /// Deliveries that matched when it was created.
    #[schema(example = 1_250)]
    count: u64,
    /// Deliveries restarted, brought forward or made so far. A finished replay may have fewer than `count`, if some were
    /// retried manually meanwhile.
    #[schema(example = 300)]
    replayed: u64,
    /// The filter of the request.
    filter: ReplayFilterResponse,
    #[schema(format = DateTime, example = "2025-12-21T10:30:00Z")]
    created_at: String,
    #[schema(format = DateTime, required = true, example = json!(null))]
    finished_at: Option<String>,
}

/// The filter of a replay. A condition that is null excludes nothing.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = ReplayFilter)]
pub(crate) struct ReplayFilterResponse {
    /// Only deliveries created at this time or later.
    #[schema(format = DateTime, required = true, example = "2025-12-21T10:30:00Z")]
    since: Option<String>,
    /// Only deliveries created before this time.
    #[schema(format = DateTime, required = true, example = json!(null))]
    until: Option<String>,
    /// Only this status, or these; null for `exhausted` and `skipped`.
    #[schema(schema_with = crate::schemas::replay::shown_status)]
    status: Option<ShownStatus>,
    /// Only these event types; null for all.
    #[schema(required = true, example = json!(null))]
    event_types: Option<Vec<&'static str>>,
    #[schema(required = true, example = json!(null))]
    event_type: Option<&'static str>,
    #[schema(required = true, example = json!(null))]
    event_id: Option<String>,
    #[schema(required = true, example = json!(null))]
    workflow_id: Option<String>,
    #[schema(required = true, example = "5xx")]
    response_status: Option<String>,
    #[schema(required = true, example = json!(null))]
    error_kind: Option<&'static str>,
    #[schema(required = true, example = json!(null))]
    attempt: Option<u32>,
    #[schema(required = true, example = json!(null))]
    min_duration_ms: Option<u32>,
}

#[derive(Debug, Serialize)]
#[serde(untagged)]
pub(crate) enum ShownStatus {
    One(&'static str),
    Several(Vec<&'static str>),
}

impl From<ReplayFilter> for ReplayFilterResponse {
    fn from(filter: ReplayFilter) -> Self {
        let text = |time: Timestamp| time.to_string();
        let status = filter.named_statuses().map(|names| match names[..] {
            [one] => ShownStatus::One(one),
            _ => ShownStatus::Several(names),
        });
        let conditions = filter.conditions;
        let event_types = filter.event_types;
        Self {
            since: conditions.since.map(text),
            until: conditions.until.map(text),
            status,
            event_types: event_types.map(|types| types.iter().map(EventType::as_str).collect()),
            event_type: conditions.event_type.map(EventType::as_str),
            event_id: conditions.event.map(|id| id.as_str().to_owned()),
            workflow_id: conditions.workflow.map(|id| id.as_str().to_owned()),
            response_status: conditions.response_status.map(|codes| codes.to_string()),
            error_kind: conditions.error_kind.map(|kind| kind.as_str()),
            attempt: conditions.attempt,
            min_duration_ms: conditions.min_duration_ms,
        }
    }
}

impl From<Replay> for ReplayResponse {
    fn from(replay: Replay) -> Self {
        let text = |time: Timestamp| time.to_string();
        let (status, cancelled_because, finished) = match replay.state {
            ReplayState::Running => ("running", None, None),
            ReplayState::Finished { at } => ("finished", None, Some(at)),
            ReplayState::Cancelled { at, why } => ("cancelled", Some(why.as_str()), Some(at)),
        };
        Self {
            id: replay.id.0,
            kind: match replay.target {
                ReplayTarget::Organization | ReplayTarget::Subscription(_) => "deliveries",
                ReplayTarget::Missing(_) => "missing",
            },
            subscription_id: replay.target.subscription().map(|id| id.0),
            status,
            cancelled_because,
            count: replay.expected,
            replayed: replay.replayed,
            filter: replay.filter.into(),
            created_at: text(replay.created_at),
            finished_at: finished.map(text),
        }
    }
}

/// A page of replays.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Replays {
    /// Newest first.
    replays: Vec<ReplayResponse>,
    /// Rows of all pages; null above 10,000.
    #[schema(required = true)]
    total: Option<u64>,
    /// Rows of a page: the given value, or 50.
    limit: u32,
    /// The given value; 0 with a cursor.
    offset: u64,
    /// The `cursor` of the next page; null on the last page.
    #[schema(required = true)]
    next_cursor: Option<String>,
}

/// List the replays of an organization.
///
/// Replays are kept as long as events.
#[utoipa::path(
    get, path = "/replays", tag = "Logs", operation_id = "listReplays",
    params(crate::schemas::parameters::ReplayParameters),
    responses((status = 200, description = "A page of replays", body = Replays)),
    security(("api_key" = ["read"]))
)]
pub(crate) async fn list(
    caller: Caller,
    state: web::Data<AppState>,
    request: HttpRequest,
) -> Result<HttpResponse, ApiError> {
    let list = CursorKind::Replays.of(&caller.organization, "");
    let mut query = Query::read(request.query_string());
    let subscription: Option<SubscriptionId> = query.take("subscription_id", subscription_id);
    let page = Page::parse(&mut query, list);
    query.finish()?;
    let asked = ReplayQuery {
        organization: caller.organization,
        subscription,
        limit: page.to_read(),
        start: page.start,
    };
    let mut found = state.api.store.replays(asked).await?;
    let next_cursor = page.cut(&mut found, Replay::cursor);
    Ok(HttpResponse::Ok().json(Replays {
        replays: found.rows.into_iter().map(ReplayResponse::from).collect(),
        total: found.total,
        limit: page.limit,
        offset: page.offset(),
        next_cursor,
    }))
}

/// Show a replay and its progress.
///
/// Replays are kept as long as events.
#[utoipa::path(
    get, path = "/replays/{id}", tag = "Logs", operation_id = "getReplay",
    params(("id" = String, Path, description = "The replay", format = "uuid")),
    responses((status = 200, description = "The replay", body = ReplayResponse)),
    security(("api_key" = ["read"]))
)]
pub(crate) async fn show(
    caller: Caller,
    state: web::Data<AppState>,
    PathReplay(id): PathReplay,
) -> Result<HttpResponse, ApiError> {
    let replay = state.api.store.replay(caller.organization, id).await?;
    let replay = replay.ok_or(ApiError::NotFound)?;
    Ok(HttpResponse::Ok().json(ReplayResponse::from(replay)))
}

/// Cancel a replay.
///
/// No more deliveries restart; those that have restarted continue. A replay that has ended does not change.
#[utoipa::path(
    delete, path = "/replays/{id}", tag = "Logs", operation_id = "cancelReplay",
    params(("id" = String, Path, description = "The replay", format = "uuid")),
    responses((status = 204, description = "The replay is not running")),
    security(("api_key" = ["write"]))
)]
pub(crate) async fn cancel(
    caller: Caller,
    state: web::Data<AppState>,
    PathReplay(id): PathReplay,
) -> Result<HttpResponse, ApiError> {
    let now = hookline_clock::now();
    let store = &state.api.store;
    match store.cancel_replay(caller.organization, id, now).await? {
        true => Ok(HttpResponse::NoContent().finish()),
        false => Err(ApiError::NotFound),
    }
}
