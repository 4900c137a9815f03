//! Loop detection: 508 for a request that Hookline itself sent, which has `webhook-id`. A subscription with
//! the URL of this API would turn each event into the next one.

use actix_web::Error;
use actix_web::body::BoxBody;
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::middleware::Next;

use crate::error::ApiError;

/// Rejects requests of Hookline, except for the health checks.
pub(crate) async fn reject(
    request: ServiceRequest,
    next: Next<BoxBody>,
) -> Result<ServiceResponse, Error> {
    let path = request.path();
    let is_health_check = path.ends_with("/healthz") || path.ends_with("/readyz");
    if request.headers().contains_key("webhook-id") && !is_health_check {
        return Ok(request.error_response(ApiError::LoopDetected));
    }
    next.call(request).await
}
