//! The request deadline: a response in time although the store, the broker or the client's body hangs. A panic of a handler
//! becomes 500 and affects no other request.
//!
//! 503 to a change says that its outcome is unknown. 408 is for a handler that still waits for the body: it has changed
//! nothing.

use std::any::Any;
use std::panic::AssertUnwindSafe;
use std::time::Duration;

use actix_web::body::BoxBody;
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::{ConnectionType, Method};
use actix_web::middleware::Next;
use actix_web::{Error, HttpRequest};
use futures::FutureExt as _;
use hookline_runtime::http::HttpConnection;
use tokio::time::timeout;

use crate::error::ApiError;

pub(crate) async fn within(
    deadline: Duration,
    request: ServiceRequest,
    next: Next<BoxBody>,
) -> Result<ServiceResponse, Error> {
    let original = request.request().clone();
    let guarded = AssertUnwindSafe(next.call(request)).catch_unwind();
    let error = match timeout(deadline, guarded).await {
        Ok(Ok(result)) => match unknown_outcome(&result, original.method()) {
            None => return result,
            Some(error) => error,
        },
        Ok(Err(panic)) => ApiError::Internal(panic_message(panic.as_ref())),
        Err(_) if waits_for_body(&original) => {
            let mut response = ServiceResponse::from_err(ApiError::SlowBody, original);
            // RFC 9110, 15.5.9
            let head = response.response_mut().head_mut();
            head.set_connection_type(ConnectionType::Close);
            return Ok(response);
        }
        Err(_) if original.method().is_safe() => ApiError::DeadlinePassed,
        Err(_) => ApiError::OutcomeUnknown(ApiError::DeadlinePassed.to_string()),
    };
    Ok(ServiceResponse::from_err(error, original))
}

fn waits_for_body(request: &HttpRequest) -> bool {
    let connection = request.conn_data::<HttpConnection>();
    connection.is_some_and(HttpConnection::is_owed_a_body)
}

/// The error to answer with instead, if a change failed because the store or the broker is down.
fn unknown_outcome(result: &Result<ServiceResponse, Error>, method: &Method) -> Option<ApiError> {
    let error = match result {
        Ok(response) => response.response().error()?,
        Err(error) => error,
    };
    match method.is_safe() {
        true => None,
        false => error.as_error::<ApiError>()?.after_a_change(),
    }
}

fn panic_message(panic: &(dyn Any + Send)) -> String {
    let message = panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    format!("panicked: {}", message.unwrap_or("without a message"))
}
