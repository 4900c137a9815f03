//! Replays: many finished deliveries of a subscription once more.

use actix_web::http::StatusCode;
use actix_web::{HttpResponse, web};
use hookline_core::event_type::EventType;
use hookline_core::ids::ReplayId;
use hookline_core::replay::{Mode, ReplayRequest, Wanted};
use hookline_core::timestamp::Timestamp;
use hookline_store::{NewReplay, Replay, ReplayScope, ReplayState, Replayable};
use serde::Serialize;
use utoipa::ToSchema;
use uuid::Uuid;

use crate::error::ApiError;
use crate::extract::body::{Body, SUBSCRIPTION};
use crate::extract::caller::Caller;
use crate::extract::idempotency::{IdempotencyKey, KeptAnswer, Turn, give_back, making};
use crate::extract::path_id::{PathId, PathReplay};
use crate::state::AppState;

/// What would be replayed.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ReplayCount {
    /// How many deliveries.
    #[schema(example = 1_250)]
    count: u64,
}

/// What is replayed.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ReplayStarted {
    /// Under this id there is progress to be read.
    #[schema(value_type = String, format = "uuid")]
    replay_id: Uuid,
    /// How many deliveries there are now.
    #[schema(example = 1_250)]
    count: u64,
}

/// Replay deliveries of a subscription that have ended.
///
/// They are started again in the background, oldest first and so many in a second, with the
/// subscription as it is then; each begins the retry schedule anew. Each keeps its `webhook-id`, so
/// a receiver that drops repeats by it drops replays of what it has, too. Tests are left out. 409
/// while the subscription is inactive, and while the organization has as many replays running as
/// it may.
#[utoipa::path(
    post, path = "/webhooks/{id}/replay", tag = "Logs", operation_id = "replayWebhook",
    params(
        ("id" = i64, Path, description = "The subscription"),
        crate::schemas::IdempotencyParameter,
    ),
    request_body = crate::schemas::ReplayBody,
    responses(
        (status = 202, description = "It has begun", body = ReplayStarted),
        (status = 200, description = "With `dry_run`", body = ReplayCount),
        (status = 409, description = "Not in its present state, or the first request with this key still runs"),
    ),
    security(("api_key" = ["write"]))
)]
pub(crate) async fn start(
    caller: Caller,
    service: web::Data<AppState>,
    PathId(subscription): PathId,
    key: IdempotencyKey,
    body: Body<SUBSCRIPTION>,
) -> Result<HttpResponse, ApiError> {
    let request = body.parse(ReplayRequest::from_json)?;
    let now = hookline_clock::now();
    let scope = ReplayScope {
        organization: caller.organization,
        subscription,
        filter: request.filter,
    };
    let store = &service.api.store;
    if request.mode == Mode::Dry {
        let count = deliveries(store.count_replay(scope, now).await?)?;
        return Ok(HttpResponse::Ok().json(ReplayCount { count }));
    }
    let claim = match key.begin(&service, body.bytes()).await? {
        Turn::First(claim) => claim,
        Turn::Repeat(kept) => return Ok(kept.into()),
    };
    let count = match deliveries(store.count_replay(scope.clone(), now).await?) {
        Ok(count) => count,
        Err(refused) => {
            give_back(&service, claim).await?;
            return Err(refused);
        }
    };
    let id = ReplayId(Uuid::new_v4());
    let new = NewReplay {
        id,
        scope,
        expected: count,
        max_running: service.api.settings.max_running_replays,
    };
    let making = making(claim, now, move |made: &Replayable| match made {
        Replayable::Deliveries(count) => Some(started(id, *count)),
        _ => None,
    });
    let count = deliveries(store.start_replay(new, making).await?)?;
    Ok(started(id, count).into())
}

fn started(id: ReplayId, count: u64) -> KeptAnswer {
    let started = ReplayStarted {
        replay_id: id.0,
        count,
    };
    KeptAnswer::new(StatusCode::ACCEPTED, &started)
}

fn deliveries(answer: Replayable) -> Result<u64, ApiError> {
    match answer {
        Replayable::Deliveries(count) => Ok(count),
        Replayable::Unknown => Err(ApiError::NotFound),
        Replayable::Inactive => Err(ApiError::Conflict("the subscription is inactive")),
        Replayable::TooMany => Err(ApiError::Conflict(
            "the organization has as many replays running as it may; wait for one or cancel it",
        )),
    }
}

/// A replay, and how far it is.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Replay)]
pub(crate) struct ReplayAnswer {
    /// The replay.
    #[schema(value_type = String, format = "uuid")]
    id: Uuid,
    /// The subscription.
    #[schema(example = 7)]
    subscription_id: i64,
    /// `running`, `finished` or `cancelled`.
    #[schema(example = "running")]
    status: &'static str,
    /// Why it is cancelled: `requested`, `subscription_inactive` or `subscription_deleted`.
    #[schema(required = true, example = json!(null))]
    cancelled_because: Option<&'static str>,
    /// How many deliveries there were when it was made.
    #[schema(example = 1_250)]
    count: u64,
    /// How many of them have been started again. When it is finished this may be less: some may
    /// have been retried by hand meanwhile.
    #[schema(example = 300)]
    replayed: u64,
    /// What was asked for.
    filter: ReplayFilterAnswer,
    /// When it was made.
    #[schema(format = DateTime, example = "2025-12-21T10:30:00Z")]
    created_at: String,
    /// When it was finished or cancelled.
    #[schema(format = DateTime, required = true, example = json!(null))]
    finished_at: Option<String>,
}

/// What a replay was asked for.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = ReplayFilter)]
pub(crate) struct ReplayFilterAnswer {
    /// Made then or later.
    #[schema(format = DateTime, required = true, example = "2025-12-21T10:30:00Z")]
    since: Option<String>,
    /// Made before then.
    #[schema(format = DateTime, required = true, example = json!(null))]
    until: Option<String>,
    /// Of this status alone; null for `exhausted` and `skipped`.
    #[schema(required = true, example = "exhausted")]
    status: Option<&'static str>,
    /// Of these types alone.
    #[schema(required = true, example = json!(null))]
    event_types: Option<Vec<&'static str>>,
}

impl From<Replay> for ReplayAnswer {
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
            filter: ReplayFilterAnswer {
                since: filter.since.map(text),
                until: filter.until.map(text),
                status: match filter.wanted {
                    Wanted::Undelivered => None,
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

/// Show how far a replay is.
///
/// For as long as events are kept.
#[utoipa::path(
    get, path = "/replays/{id}", tag = "Logs", operation_id = "getReplay",
    params(("id" = String, Path, description = "The replay", format = "uuid")),
    responses((status = 200, description = "The replay", body = ReplayAnswer)),
    security(("api_key" = ["read"]))
)]
pub(crate) async fn show(
    caller: Caller,
    service: web::Data<AppState>,
    PathReplay(id): PathReplay,
) -> Result<HttpResponse, ApiError> {
    let replay = service.api.store.replay(caller.organization, id).await?;
    let replay = replay.ok_or(ApiError::NotFound)?;
    Ok(HttpResponse::Ok().json(ReplayAnswer::from(replay)))
}

/// Cancel a replay.
///
/// No further delivery is started; those that were go on. Of one that has ended already nothing
/// changes.
#[utoipa::path(
    delete, path = "/replays/{id}", tag = "Logs", operation_id = "cancelReplay",
    params(("id" = String, Path, description = "The replay", format = "uuid")),
    responses((status = 204, description = "It does not run any more")),
    security(("api_key" = ["write"]))
)]
pub(crate) async fn cancel(
    caller: Caller,
    service: web::Data<AppState>,
    PathReplay(id): PathReplay,
) -> Result<HttpResponse, ApiError> {
    let now = hookline_clock::now();
    let store = &service.api.store;
    match store.cancel_replay(caller.organization, id, now).await? {
        true => Ok(HttpResponse::NoContent().finish()),
        false => Err(ApiError::NotFound),
    }
}
