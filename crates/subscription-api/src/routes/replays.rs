//! Replays: restart many ended deliveries of a subscription.

use actix_web::http::StatusCode;
use actix_web::{HttpResponse, web};
use hookline_core::event_type::EventType;
use hookline_core::ids::ReplayId;
use hookline_core::replay::{ReplayMode, ReplayRequest, ReplayStatus};
use hookline_core::timestamp::Timestamp;
use hookline_store::{NewReplay, Replay, ReplayOutcome, ReplayScope, ReplayState};
use serde::Serialize;
use utoipa::ToSchema;
use uuid::Uuid;

use crate::error::ApiError;
use crate::extract::body::{Body, MAX_BODY};
use crate::extract::caller::Caller;
use crate::extract::idempotency::{IdempotencyKey, StoredResponse, create_once};
use crate::extract::path_id::{PathReplay, PathSubscription};
use crate::state::AppState;

/// The size of a replay with `dry_run`.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ReplayCount {
    /// Deliveries that the replay would restart.
    #[schema(example = 1_250)]
    count: u64,
}

/// A replay that has started.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ReplayStarted {
    /// The id for `GET /replays/{id}`.
    #[schema(value_type = String, format = "uuid")]
    replay_id: Uuid,
    /// Deliveries that match now.
    #[schema(example = 1_250)]
    count: u64,
}

/// Replay deliveries of a subscription that have ended.
///
/// They restart in the background, oldest first, at a limited rate (by default 100 a second), and use the subscription as
/// it is at that time. Each starts the retry schedule again. The `webhook-id` stays the same, so a receiver that ignores
/// duplicates ignores replays of deliveries that it has. Test events are not replayed. 409 while the subscription is
/// inactive, and beyond the limit of running replays of an organization (by default 5).
#[utoipa::path(
    post, path = "/webhooks/{id}/replay", tag = "Logs", operation_id = "replayWebhook",
    params(
        ("id" = i64, Path, description = "The subscription"),
        crate::schemas::parameters::IdempotencyParameter,
    ),
    request_body = crate::schemas::bodies::ReplayBody,
    responses(
        (status = 202, description = "The replay has started", body = ReplayStarted),
        (status = 200, description = "The count, with `dry_run`", body = ReplayCount),
        (status = 409, description = "Not possible in its current state, or the first request with this Idempotency-Key is still running"),
    ),
    security(("api_key" = ["write"]))
)]
pub(crate) async fn start(
    caller: Caller,
    state: web::Data<AppState>,
    PathSubscription(subscription): PathSubscription,
    key: IdempotencyKey,
    body: Body<MAX_BODY>,
) -> Result<HttpResponse, ApiError> {
    let request = body.parse(ReplayRequest::from_json)?;
    let now = hookline_clock::now();
    let scope = ReplayScope {
        organization: caller.organization,
        subscription,
        filter: request.filter,
    };
    let store = &state.api.store;
    if request.mode == ReplayMode::Dry {
        let count = count_of(store.count_replay(scope, now).await?)?;
        return Ok(HttpResponse::Ok().json(ReplayCount { count }));
    }
    key.once(&state, body.bytes(), async |claim| {
        let count = count_of(store.count_replay(scope.clone(), now).await?)?;
        let id = ReplayId(Uuid::new_v4());
        let new = NewReplay {
            id,
            scope,
            expected: count,
            max_running: state.api.config.max_running_replays,
        };
        let making = create_once(claim, now, move |made: &ReplayOutcome| match made {
            ReplayOutcome::Deliveries(count) => Some(started(id, *count)),
            _ => None,
        });
        let count = count_of(store.start_replay(new, making).await?)?;
        Ok(started(id, count).into())
    })
    .await
}

fn started(id: ReplayId, count: u64) -> StoredResponse {
    let started = ReplayStarted {
        replay_id: id.0,
        count,
    };
    StoredResponse::new(StatusCode::ACCEPTED, &started)
}

fn count_of(result: ReplayOutcome) -> Result<u64, ApiError> {
    match result {
        ReplayOutcome::Deliveries(count) => Ok(count),
        ReplayOutcome::Unknown => Err(ApiError::NotFound),
        ReplayOutcome::Inactive => Err(ApiError::Conflict("the subscription is inactive")),
        ReplayOutcome::TooMany => Err(ApiError::Conflict(
            "the organization has reached its limit of running replays; wait until one ends, or cancel one",
        )),
    }
}

/// A replay and its progress.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Replay)]
pub(crate) struct ReplayResponse {
    #[schema(value_type = String, format = "uuid")]
    id: Uuid,
    #[schema(example = 7)]
    subscription_id: i64,
    /// `running`, `finished` or `cancelled`.
    #[schema(example = "running")]
    status: &'static str,
    /// Why it was cancelled: `requested`, `subscription_inactive` or `subscription_deleted`.
    #[schema(required = true, example = json!(null))]
    cancelled_because: Option<&'static str>,
    /// Deliveries that matched when it was created.
    #[schema(example = 1_250)]
    count: u64,
    /// Deliveries restarted so far. A finished replay may have fewer than `count`, if some were retried manually
    /// meanwhile.
    #[schema(example = 300)]
    replayed: u64,
    /// The filter of the request.
    filter: ReplayFilterResponse,
    #[schema(format = DateTime, example = "2025-12-21T10:30:00Z")]
    created_at: String,
    #[schema(format = DateTime, required = true, example = json!(null))]
    finished_at: Option<String>,
}

/// The filter of a replay.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = ReplayFilter)]
pub(crate) struct ReplayFilterResponse {
    /// Only deliveries created at this time or later.
    #[schema(format = DateTime, required = true, example = "2025-12-21T10:30:00Z")]
    since: Option<String>,
    /// Only deliveries created before this time.
    #[schema(format = DateTime, required = true, example = json!(null))]
    until: Option<String>,
    /// Only this status; null for `exhausted` and `skipped`.
    #[schema(required = true, example = "exhausted")]
    status: Option<&'static str>,
    /// Only these event types; null for all.
    #[schema(required = true, example = json!(null))]
    event_types: Option<Vec<&'static str>>,
}

impl From<Replay> for ReplayResponse {
    fn from(replay: Replay) -> Self {
        let text = |time: Timestamp| time.to_string();
        let (status, cancelled_because, finished) = match replay.state {
            ReplayState::Running => ("running", None, None),
            ReplayState::Finished { at } => ("finished", None, Some(at)),
            ReplayState::Cancelled { at, why } => ("cancelled", Some(why.as_str()), Some(at)),
        };
        let filter = replay.filter;
        Self {
            id: replay.id.0,
            subscription_id: replay.subscription.0,
            status,
            cancelled_because,
            count: replay.expected,
            replayed: replay.replayed,
            filter: ReplayFilterResponse {
                since: filter.since.map(text),
                until: filter.until.map(text),
                status: match filter.wanted {
                    ReplayStatus::Undelivered => None,
                    wanted => Some(wanted.as_str()),
                },
                event_types: filter
                    .event_types
                    .map(|types| types.iter().map(EventType::as_str).collect()),
            },
            created_at: text(replay.created_at),
            finished_at: finished.map(text),
        }
    }
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
