//! Replays: send many deliveries again.

use actix_web::http::StatusCode;
use actix_web::{HttpResponse, web};
use hookline_core::ids::ReplayId;
use hookline_core::replay::{ReplayMode, ReplayRequest};
use hookline_store::{NewReplay, ReplayOutcome, ReplayScope, ReplayTarget};
use serde::Serialize;
use utoipa::ToSchema;
use uuid::Uuid;

use crate::error::ApiError;
use crate::extract::body::{Body, MAX_BODY};
use crate::extract::caller::Caller;
use crate::extract::idempotency::{IdempotencyKey, StoredResponse, create_once};
use crate::extract::path_id::PathSubscription;
use crate::state::AppState;

/// The size of a replay with `dry_run`.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ReplayCount {
    /// Deliveries that the replay would send.
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

/// Replay deliveries of a subscription.
///
/// They restart in the background, oldest first, at a limited rate (by default 100 a second), and use the subscription as
/// it is at that time. Each starts the retry schedule again. With `pending` in `status`, the next attempts of waiting
/// deliveries are brought forward; their attempts and their retry schedule continue. The `webhook-id` stays the same, so a
/// receiver that ignores duplicates ignores replays of deliveries that it has. Test events are not replayed.
///
/// All conditions of the body hold at once. 409 while the subscription is inactive, and beyond the limit of running replays
/// of an organization (by default 5).
#[utoipa::path(
    post, path = "/webhooks/{id}/replay", tag = "Logs", operation_id = "replayWebhook",
    params(
        ("id" = i64, Path, description = "The subscription"),
        crate::schemas::parameters::IdempotencyParameter,
    ),
    request_body = crate::schemas::replay::ReplayBody,
    responses(
        (status = 202, description = "The replay has started", body = ReplayStarted),
        (status = 200, description = "The count, with `dry_run`", body = ReplayCount),
        (status = 409, description = "Not possible in its current state, or the first request with this Idempotency-Key is still running"),
    ),
    security(("api_key" = ["write"]))
)]
pub(crate) async fn of_subscription(
    caller: Caller,
    state: web::Data<AppState>,
    PathSubscription(subscription): PathSubscription,
    key: IdempotencyKey,
    body: Body<MAX_BODY>,
) -> Result<HttpResponse, ApiError> {
    let request = body.parse(ReplayRequest::from_json)?;
    let start = ReplayStart {
        scope: ReplayScope {
            organization: caller.organization,
            target: ReplayTarget::Subscription(subscription),
            filter: request.filter,
        },
        mode: request.mode,
    };
    start.respond(&state, &key, body.bytes()).await
}

/// Replay deliveries of an organization.
///
/// As `POST /webhooks/{id}/replay`, for the deliveries of all active subscriptions, or of the one with this
/// `subscription_id`. The rate is that of one replay. 404 if the organization has no such subscription.
#[utoipa::path(
    post, path = "/replays", tag = "Logs", operation_id = "replay",
    params(crate::schemas::parameters::IdempotencyParameter),
    request_body = crate::schemas::replay::OrganizationReplayBody,
    responses(
        (status = 202, description = "The replay has started", body = ReplayStarted),
        (status = 200, description = "The count, with `dry_run`", body = ReplayCount),
        (status = 404, description = "No such subscription"),
        (status = 409, description = "Not possible in its current state, or the first request with this Idempotency-Key is still running"),
    ),
    security(("api_key" = ["write"]))
)]
pub(crate) async fn of_organization(
    caller: Caller,
    state: web::Data<AppState>,
    key: IdempotencyKey,
    body: Body<MAX_BODY>,
) -> Result<HttpResponse, ApiError> {
    let request = body.parse(ReplayRequest::of_organization)?;
    let start = ReplayStart {
        scope: ReplayScope {
            organization: caller.organization,
            target: request
                .subscription
                .map_or(ReplayTarget::Organization, ReplayTarget::Subscription),
            filter: request.filter,
        },
        mode: request.mode,
    };
    start.respond(&state, &key, body.bytes()).await
}

/// Send the events that a subscription missed.
///
/// It makes deliveries of stored events that have none for this subscription: they came before it was created, or before
/// it selected their type. Only types that it selects now count, and events within the retention (by default 30 days). The
/// replay goes on as others do, and never makes a second delivery of an event. Test events are not sent.
///
/// 409 while the subscription is inactive, and beyond the limit of running replays of an organization (by default 5).
#[utoipa::path(
    post, path = "/webhooks/{id}/replay-missing", tag = "Logs", operation_id = "replayMissing",
    params(
        ("id" = i64, Path, description = "The subscription"),
        crate::schemas::parameters::IdempotencyParameter,
    ),
    request_body = crate::schemas::replay::MissingReplayBody,
    responses(
        (status = 202, description = "The replay has started", body = ReplayStarted),
        (status = 200, description = "The count, with `dry_run`", body = ReplayCount),
        (status = 409, description = "Not possible in its current state, or the first request with this Idempotency-Key is still running"),
    ),
    security(("api_key" = ["write"]))
)]
pub(crate) async fn of_missing(
    caller: Caller,
    state: web::Data<AppState>,
    PathSubscription(subscription): PathSubscription,
    key: IdempotencyKey,
    body: Body<MAX_BODY>,
) -> Result<HttpResponse, ApiError> {
    let request = body.parse(ReplayRequest::of_missing)?;
    let start = ReplayStart {
        scope: ReplayScope {
            organization: caller.organization,
            target: ReplayTarget::Missing(subscription),
            filter: request.filter,
        },
        mode: request.mode,
    };
    start.respond(&state, &key, body.bytes()).await
}

struct ReplayStart {
    scope: ReplayScope,
    mode: ReplayMode,
}

impl ReplayStart {
    async fn respond(
        self,
        state: &AppState,
        key: &IdempotencyKey,
        body: &[u8],
    ) -> Result<HttpResponse, ApiError> {
        let Self { scope, mode } = self;
        let now = hookline_clock::now();
        let (store, config) = (&state.api.store, &state.api.config);
        if mode == ReplayMode::Dry {
            let count = count_of(store.count_replay(scope, now, config.retention).await?)?;
            return Ok(HttpResponse::Ok().json(ReplayCount { count }));
        }
        key.once(state, body, async |claim| {
            let counted = store.count_replay(scope.clone(), now, config.retention);
            let expected = count_of(counted.await?)?;
            let id = ReplayId(Uuid::new_v4());
            let new = NewReplay {
                id,
                scope,
                expected,
                max_running: config.max_running_replays,
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
