//! The memory of responses that wait to be read. A response counts for its key from the time it is made until the
//! connection has written it, so clients that do not read use a limited amount of memory.

use actix_web::body::{BodySize, BoxBody, MessageBody as _};
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::header;
use actix_web::middleware::Next;
use actix_web::{Error, HttpMessage as _};
use hookline_runtime::http::HttpConnection;

use crate::error::ApiError;
use crate::extract::caller::Caller;
use crate::limits::memory::{BudgetExceeded, MemoryBudget};
use crate::live::EVENT_STREAM;

/// Responses of up to this size are not counted: each connection has a buffer of this size.
const NOT_COUNTED: u64 = 8 * 1024;

/// The size that a streamed response counts for until its end: it is made as fast as it is read.
const STREAMED: u64 = 64 * 1024;

/// Counts a response, or replaces it with 429 or 503 where it would exceed the budget. The response to a change is
/// never replaced: it reports the change, and it is small.
pub(crate) async fn limit(
    budget: MemoryBudget,
    request: ServiceRequest,
    next: Next<BoxBody>,
) -> Result<ServiceResponse, Error> {
    let is_read = request.method().is_safe();
    let connection = request.conn_data::<HttpConnection>().cloned();
    let response = next.call(request).await?;
    let size = match is_live(&response) {
        true => None,
        false => counted_size(response.response().body()),
    };
    let (Some(bytes), Some(connection)) = (size, connection) else {
        return Ok(response);
    };
    let caller = response.request().extensions().get::<Caller>().cloned();
    let mut reservation = budget.reservation(caller.map(|caller| caller.key));
    match reservation.try_grow(bytes) {
        Err(exceeded) if is_read => return Ok(response.error_response(rejection(exceeded))),
        Err(_) => reservation.grow_unchecked(bytes),
        Ok(()) => {}
    }
    connection.keep_until_written(reservation);
    Ok(response)
}

/// A live stream holds a few rows, and the number of streams is limited.
fn is_live(response: &ServiceResponse) -> bool {
    let kind = response.headers().get(header::CONTENT_TYPE);
    kind.is_some_and(|kind| kind == EVENT_STREAM)
}

fn counted_size(body: &BoxBody) -> Option<usize> {
    let bytes = match body.size() {
        BodySize::None => return None,
        BodySize::Sized(bytes) => bytes,
        BodySize::Stream => STREAMED,
    };
    (bytes > NOT_COUNTED).then(|| usize::try_from(bytes).unwrap_or(usize::MAX))
}

fn rejection(exceeded: BudgetExceeded) -> ApiError {
    match exceeded {
        BudgetExceeded::Key => ApiError::ResponseMemoryExceeded,
        BudgetExceeded::Total => {
            ApiError::Unavailable("the memory budget of responses is used up".to_owned())
        }
    }
}
