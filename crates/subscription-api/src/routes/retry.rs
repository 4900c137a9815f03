//! A finished delivery once more, by hand.

use std::time::{Duration, Instant};

use actix_web::http::StatusCode;
use actix_web::{HttpResponse, web};
use hookline_core::delivery::{Cause, OwedAttempt};
use hookline_queue::Scheduled;
use hookline_store::Again;
use serde::Serialize;
use utoipa::ToSchema;
use uuid::Uuid;

use crate::error::ApiError;
use crate::extract::body::NoFields;
use crate::extract::caller::Caller;
use crate::extract::idempotency::{IdempotencyKey, KeptAnswer, Turn, making};
use crate::extract::path_id::PathDelivery;
use crate::state::AppState;

/// What is on its way.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct RetryStarted {
    /// The delivery: the same, and so is its `webhook-id`.
    #[schema(value_type = String, format = "uuid")]
    delivery_id: Uuid,
    /// The attempt that is made now. It goes on counting.
    #[schema(example = 10)]
    attempt: u32,
}

/// Retry a delivery that has ended.
///
/// At once, with the subscription as it is now; if that fails, the retry schedule begins anew. Also
/// of a delivery that arrived. It keeps its `webhook-id`, so a receiver that drops repeats by it
/// drops this one, too. A test is sent once more and not retried. 409 while an attempt is owed
/// anyway, or when nothing would be sent because the subscription is inactive or deleted. At most 600 a minute for
/// each organization unless the operator says otherwise, then 429.
#[utoipa::path(
    post, path = "/deliveries/{id}/retry", tag = "Logs", operation_id = "retryDelivery",
    params(
        ("id" = String, Path, description = "The delivery", format = "uuid"),
        crate::schemas::IdempotencyParameter,
    ),
    request_body(content = crate::schemas::NoFieldsBody, content_type = "application/json"),
    responses(
        (status = 202, description = "It is on its way", body = RetryStarted),
        (status = 409, description = "Not in its present state, or the first request with this key still runs"),
    ),
    security(("api_key" = ["write"]))
)]
pub(crate) async fn start(
    caller: Caller,
    service: web::Data<AppState>,
    PathDelivery(id): PathDelivery,
    key: IdempotencyKey,
    _: NoFields,
) -> Result<HttpResponse, ApiError> {
    service
        .retries
        .take(&caller.organization, Instant::now())
        .map_err(|wait| ApiError::TooManyRetries { wait })?;
    let claim = match key.begin(&service, b"").await? {
        Turn::First(claim) => claim,
        Turn::Repeat(kept) => return Ok(kept.into()),
    };
    let making = making(claim, hookline_clock::now(), |again: &Again| match again {
        Again::Owed(owed) => Some(started(owed)),
        _ => None,
    });
    let owner = Some(caller.organization);
    let store = &service.api.store;
    let owed = match store.start_again(owner, id, Cause::Retry, making).await? {
        Again::Owed(owed) => owed,
        Again::Unknown => return Err(ApiError::NotFound),
        Again::Pending => {
            return Err(ApiError::Conflict(
                "an attempt of the delivery is owed anyway; `next_attempt_at` says when",
            ));
        }
        Again::Inactive => return Err(ApiError::Conflict("the subscription is inactive")),
        Again::Deleted => return Err(ApiError::Conflict("the subscription was deleted")),
    };
    let scheduled = Scheduled {
        owed,
        delay: Duration::ZERO,
    };
    service.api.publisher.wake(&[scheduled]);
    Ok(started(&owed).into())
}

fn started(owed: &OwedAttempt) -> KeptAnswer {
    let started = RetryStarted {
        delivery_id: owed.delivery.0,
        attempt: owed.attempt,
    };
    KeptAnswer::new(StatusCode::ACCEPTED, &started)
}
