//! An answer in time, whatever hangs: the store, the broker, or a client that never ends its body.
//! And an answer at all: a handler that panics costs its own request only.

use std::any::Any;
use std::panic::AssertUnwindSafe;
use std::time::Duration;

use actix_web::Error;
use actix_web::body::BoxBody;
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::middleware::Next;
use futures::FutureExt as _;
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
        Ok(Ok(answered)) => return answered,
        Ok(Err(panic)) => ApiError::Internal(words(panic.as_ref())),
        Err(_) => ApiError::DeadlinePassed,
    };
    Ok(ServiceResponse::from_err(failure, asked))
}

fn words(panic: &(dyn Any + Send)) -> String {
    let message = panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    format!("panicked: {}", message.unwrap_or("without words"))
}
