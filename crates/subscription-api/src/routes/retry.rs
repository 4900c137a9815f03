//! The manual retry of a delivery.

use std::time::{Duration, Instant};

use actix_web::http::StatusCode;
use actix_web::{HttpResponse, web};
use hookline_core::delivery::{AttemptTask, StartedBy};
use hookline_queue::Scheduled;
use hookline_store::RestartResult;
use serde::Serialize;
use utoipa::ToSchema;
use uuid::Uuid;

use crate::error::{ApiError, RateLimit};
use crate::extract::body::NoFields;
use crate::extract::caller::Caller;
use crate::extract::idempotency::{Idempotency, IdempotencyKey, StoredResponse, create_once};
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

/// Retry a delivery that has ended.
///
/// The attempt starts at once and uses the current subscription. If it fails, the retry schedule starts again. A
/// successful delivery can be retried, too. The `webhook-id` stays the same, so a receiver that ignores duplicates ignores
/// the retry of a delivery that it has. A test is sent once and not retried. 409 while the delivery is pending, or if the
/// subscription is inactive or deleted. 429 beyond the limit of an organization, by default 600 a minute.
#[utoipa::path(
    post, path = "/deliveries/{id}/retry", tag = "Logs", operation_id = "retryDelivery",
    params(
        ("id" = String, Path, description = "The delivery", format = "uuid"),
        crate::schemas::parameters::IdempotencyParameter,
    ),
    request_body(content = crate::schemas::bodies::NoFieldsBody, content_type = "application/json"),
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
    _: NoFields,
) -> Result<HttpResponse, ApiError> {
    state
        .rate_limits
        .retries
        .try_acquire(caller.organization.clone(), Instant::now())
        .map_err(|wait| ApiError::RateLimited(RateLimit::Retries, wait))?;
    let claim = match key.begin(&state, b"").await? {
        Idempotency::First(claim) => claim,
        Idempotency::Repeat(stored) => return Ok(stored.into()),
    };
    let making = create_once(
        claim,
        hookline_clock::now(),
        |again: &RestartResult| match again {
            RestartResult::Started(task) => Some(started(task)),
            _ => None,
        },
    );
    let owner = Some(caller.organization);
    let store = &state.api.store;
    let task = match store.restart(owner, id, StartedBy::Retry, making).await? {
        RestartResult::Started(task) => task,
        RestartResult::Unknown => return Err(ApiError::NotFound),
        RestartResult::Pending => {
            return Err(ApiError::Conflict(
                "the delivery is pending; `next_attempt_at` is the time of its next attempt",
            ));
        }
        RestartResult::Inactive => return Err(ApiError::Conflict("the subscription is inactive")),
        RestartResult::Deleted => return Err(ApiError::Conflict("the subscription was deleted")),
    };
    let scheduled = Scheduled {
        task,
        delay: Duration::ZERO,
    };
    state.api.publisher.wake(&[scheduled]);
    Ok(started(&task).into())
}

fn started(task: &AttemptTask) -> StoredResponse {
    let started = RetryStarted {
        delivery_id: task.delivery.0,
        attempt: task.attempt,
    };
    StoredResponse::new(StatusCode::ACCEPTED, &started)
}
