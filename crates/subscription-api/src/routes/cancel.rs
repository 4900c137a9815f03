//! The end of a pending delivery on request.

use actix_web::http::StatusCode;
use actix_web::{HttpResponse, web};
use hookline_core::ids::DeliveryId;
use hookline_store::CancelResult;
use serde::Serialize;
use utoipa::ToSchema;
use uuid::Uuid;

use crate::error::ApiError;
use crate::extract::body::NoFields;
use crate::extract::caller::Caller;
use crate::extract::idempotency::{IdempotencyKey, StoredResponse, create_once};
use crate::extract::path_id::PathDelivery;
use crate::state::AppState;

/// A delivery that was cancelled.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct DeliveryCancelled {
    #[schema(value_type = String, format = "uuid")]
    delivery_id: Uuid,
    /// `cancelled`
    #[schema(example = "cancelled")]
    status: &'static str,
}

/// Cancel a pending delivery.
///
/// No further attempt is made. A request on its way may still arrive; it is not in the log, and the delivery stays
/// cancelled. A cancelled delivery can be retried. 409 unless the delivery is pending.
#[utoipa::path(
    post, path = "/deliveries/{id}/cancel", tag = "Logs", operation_id = "cancelDelivery",
    params(
        ("id" = String, Path, description = "The delivery", format = "uuid"),
        crate::schemas::parameters::IdempotencyParameter,
    ),
    request_body(content = crate::schemas::bodies::NoFieldsBody, content_type = "application/json"),
    responses(
        (status = 202, description = "The delivery is cancelled", body = DeliveryCancelled),
        (status = 409, description = "The delivery is not pending, or the first request with this Idempotency-Key is still running"),
    ),
    security(("api_key" = ["write"]))
)]
pub(crate) async fn cancel(
    caller: Caller,
    state: web::Data<AppState>,
    PathDelivery(id): PathDelivery,
    key: IdempotencyKey,
    _: NoFields,
) -> Result<HttpResponse, ApiError> {
    key.once(&state, b"", async |claim| {
        let now = hookline_clock::now();
        let making = create_once(claim, now, move |result: &CancelResult| {
            (*result == CancelResult::Cancelled).then(|| cancelled(id))
        });
        let store = &state.api.store;
        match store
            .cancel_delivery(caller.organization, id, making)
            .await?
        {
            CancelResult::Cancelled => Ok(cancelled(id).into()),
            CancelResult::Unknown => Err(ApiError::NotFound),
            CancelResult::NotPending => Err(ApiError::Conflict("the delivery is not pending")),
        }
    })
    .await
}

fn cancelled(id: DeliveryId) -> StoredResponse {
    let cancelled = DeliveryCancelled {
        delivery_id: id.0,
        status: "cancelled",
    };
    StoredResponse::new(StatusCode::ACCEPTED, &cancelled)
}
