//! Refuses query parameters on a call that has none.

use actix_web::Error;
use actix_web::body::BoxBody;
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::middleware::Next;

use crate::error::ApiError;
use crate::extract::query::Query;

pub(crate) async fn reject(
    request: ServiceRequest,
    next: Next<BoxBody>,
) -> Result<ServiceResponse, Error> {
    match Query::read(request.query_string()).finish() {
        Ok(()) => next.call(request).await,
        Err(violations) => Ok(request.error_response(ApiError::from(violations))),
    }
}
