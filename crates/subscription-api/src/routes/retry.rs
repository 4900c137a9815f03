//! The manual retry of a delivery.

use std::time::{Duration, Instant};

use actix_web::http::StatusCode;
use actix_web::{HttpResponse, web};
use hookline_core::delivery::AttemptTask;
use hookline_core::retry_request::RetryRequest;
use hookline_queue::Scheduled;
use hookline_store::{DeliveredCase, PendingCase, RestartResult, RetryCases};
use serde::Serialize;
use utoipa::ToSchema;
use uuid::Uuid;

use crate::error::{ApiError, RateLimit};
use crate::extract::body::{Body, MAX_BODY};
use crate::extract::caller::Caller;
use crate::extract::idempotency::{IdempotencyKey, StoredResponse, create_once};
use crate::extract::path_id::PathDelivery;
use crate::state::AppState;

/// The attempt that a retry starts.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct RetryStarted {
    /// The same delivery, with the same `webhook-id`.
    #[schema(value_type = String, format = "uuid")]
    delivery_id: Uuid,
    /// The number of the attempt. Retries continue the count.
    #[schema(example = 10)]
    attempt: u32,
}

/// Retry a delivery.
///
/// The attempt starts at once and uses the current subscription. If it fails, the retry schedule starts again. A
/// successful delivery can be retried, too; with `"force": false` that is 409. The `webhook-id` stays the same, so a
/// receiver that ignores duplicates ignores the retry of a delivery that it has. A test is sent once and not retried.
///
/// 409 while the delivery is pending. With `"now": true`, the next attempt of a pending delivery is made now: it keeps its
/// number, and the retry schedule continues. If its request is on its way, nothing changes.
///
/// 409 if the subscription is inactive or deleted. 429 beyond the limit of an organization, by default 600 a minute.
#[utoipa::path(
    post, path = "/deliveries/{id}/retry", tag = "Logs", operation_id = "retryDelivery",
    params(
        ("id" = String, Path, description = "The delivery", format = "uuid"),
        crate::schemas::parameters::IdempotencyParameter,
    ),
    request_body(content = crate::schemas::bodies::RetryBody, content_type = "application/json"),
    responses(
        (status = 202, description = "The attempt starts", body = RetryStarted),
        (status = 409, description = "Not possible in its current state, or the first request with this Idempotency-Key is still running"),
    ),
    security(("api_key" = ["write"]))
)]
pub(crate) async fn start(
    caller: Caller,
    state: web::Data<AppState>,
    PathDelivery(id): PathDelivery,
    key: IdempotencyKey,
    body: Body<MAX_BODY>,
) -> Result<HttpResponse, ApiError> {
    let request = body.parse_optional(RetryRequest::from_json)?;
    state
        .rate_limits
        .retries
        .try_acquire(caller.organization.clone(), Instant::now())
        .map_err(|wait| ApiError::RateLimited(RateLimit::Retries, wait))?;
    key.once(&state, body.bytes(), async |claim| {
        let now = hookline_clock::now();
        let making = create_once(claim, now, |again: &RestartResult| match again {
            RestartResult::Started(task) => Some(started(task)),
            _ => None,
        });
        let owner = caller.organization;
        let retried = state.api.store.retry(owner, id, cases(request), making);
        let task = started_or_refused(retried.await?)?;
        let scheduled = Scheduled {
            task,
            delay: Duration::ZERO,
        };
        state.api.publisher.wake(&[scheduled]);
        Ok(started(&task).into())
    })
    .await
}

fn cases(request: RetryRequest) -> RetryCases {
    RetryCases {
        pending: match request.now {
            true => PendingCase::BroughtForward,
            false => PendingCase::Refused,
        },
        delivered: match request.force {
            Some(false) => DeliveredCase::Refused,
            Some(true) | None => DeliveredCase::Restarted,
        },
    }
}

fn started_or_refused(result: RestartResult) -> Result<AttemptTask, ApiError> {
    let why = match result {
        RestartResult::Started(task) => return Ok(task),
        RestartResult::Unknown => return Err(ApiError::NotFound),
        RestartResult::Pending => {
            "the delivery is pending; `next_attempt_at` is the time of its next attempt"
        }
        RestartResult::Delivered => {
            "the receiver has this delivery; without `\"force\": false`, it is sent again"
        }
        RestartResult::Inactive => "the subscription is inactive",
        RestartResult::Deleted => "the subscription was deleted",
    };
    Err(ApiError::Conflict(why))
}

fn started(task: &AttemptTask) -> StoredResponse {
    let started = RetryStarted {
        delivery_id: task.delivery.0,
        attempt: task.attempt,
    };
    StoredResponse::new(StatusCode::ACCEPTED, &started)
}
