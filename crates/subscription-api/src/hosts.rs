//! Protection from DNS rebinding: an API on loopback answers no request that names another host.

use actix_web::Error;
use actix_web::body::BoxBody;
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::middleware::Next;
use hookline_runtime::hosts::Hosts;

use crate::error::ApiError;

/// Refuses a request whose `Host` is another machine's, on every path.
pub(crate) async fn check(
    hosts: Hosts,
    request: ServiceRequest,
    next: Next<BoxBody>,
) -> Result<ServiceResponse, Error> {
    match hosts.allow(&request) {
        true => next.call(request).await,
        false => Ok(request.error_response(ApiError::Misdirected)),
    }
}
