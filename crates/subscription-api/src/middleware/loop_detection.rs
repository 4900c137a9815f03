//! Hookline never calls itself round in a circle: a subscription that points at this API would
//! turn each event into the next. Everything that Hookline sends bears `webhook-id`.

use actix_web::Error;
use actix_web::body::BoxBody;
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::middleware::Next;

use crate::error::ApiError;

/// Turns such a request away; a probe of health or readiness is answered to anybody.
pub(crate) async fn refuse(
    request: ServiceRequest,
    next: Next<BoxBody>,
) -> Result<ServiceResponse, Error> {
    let path = request.path();
    let probe = path.ends_with("/healthz") || path.ends_with("/readyz");
    if request.headers().contains_key("webhook-id") && !probe {
        return Ok(request.error_response(ApiError::Circle));
    }
    next.call(request).await
}
