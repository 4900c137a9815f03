//! An answer in time, whatever hangs: the store, the broker, or a client that never ends its body.
//! And an answer at all: a handler that panics costs its own request only. Where that answer is an
//! outage and the request changes something, it says that the outcome is not known. A handler that
//! still waits for the body has done nothing, so that answer is 408.

use std::any::Any;
use std::panic::AssertUnwindSafe;
use std::time::Duration;

use actix_web::body::BoxBody;
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::{ConnectionType, Method};
use actix_web::middleware::Next;
use actix_web::{Error, HttpRequest};
use futures::FutureExt as _;
use hookline_runtime::http::Connection;
use tokio::time::timeout;

use crate::error::ApiError;

/// Answers within `deadline`.
pub(crate) async fn within(
    deadline: Duration,
    request: ServiceRequest,
    next: Next<BoxBody>,
) -> Result<ServiceResponse, Error> {
    let asked = request.request().clone();
    let guarded = AssertUnwindSafe(next.call(request)).catch_unwind();
    let failure = match timeout(deadline, guarded).await {
        Ok(Ok(answered)) => match of_an_outage(&answered, asked.method()) {
            None => return answered,
            Some(failure) => failure,
        },
        Ok(Err(panic)) => ApiError::Internal(words(panic.as_ref())),
        Err(_) if is_owed_a_body(&asked) => {
            let mut answer = ServiceResponse::from_err(ApiError::SlowBody, asked);
            // RFC 9110, 15.5.9
            let head = answer.response_mut().head_mut();
            head.set_connection_type(ConnectionType::Close);
            return Ok(answer);
        }
        Err(_) if asked.method().is_safe() => ApiError::DeadlinePassed,
        Err(_) => ApiError::OutcomeUnknown(ApiError::DeadlinePassed.to_string()),
    };
    Ok(ServiceResponse::from_err(failure, asked))
}

fn is_owed_a_body(request: &HttpRequest) -> bool {
    let connection = request.conn_data::<Connection>();
    connection.is_some_and(Connection::is_owed_a_body)
}

/// The error to answer with instead, where a change met an outage.
fn of_an_outage(answered: &Result<ServiceResponse, Error>, method: &Method) -> Option<ApiError> {
    let error = match answered {
        Ok(response) => response.response().error()?,
        Err(error) => error,
    };
    match method.is_safe() {
        true => None,
        false => error.as_error::<ApiError>()?.of_a_change(),
    }
}

fn words(panic: &(dyn Any + Send)) -> String {
    let message = panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    format!("panicked: {}", message.unwrap_or("without words"))
}
