//! The bytes of answers that wait to be read. They count against the key from the moment the answer is
//! made until the connection has written it, so clients that read nothing hold a bounded memory.

use actix_web::body::{BodySize, BoxBody, MessageBody as _};
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::middleware::Next;
use actix_web::{Error, HttpMessage as _};
use hookline_runtime::http::Connection;

use crate::error::ApiError;
use crate::extract::caller::Caller;
use crate::limits::memory::{ByteRoom, NoRoom};

/// An answer of up to this size is not counted: each connection has a buffer as large.
const SMALL: u64 = 8 * 1024;

/// What a streamed answer counts until its end: it is made no faster than it is read.
const STREAMED: u64 = 64 * 1024;

/// Counts an answer. Where there is no room for it, it is replaced with 429 or 503; the answer to a
/// change is not, because it says what was done, and is small.
pub(crate) async fn count(
    room: ByteRoom,
    request: ServiceRequest,
    next: Next<BoxBody>,
) -> Result<ServiceResponse, Error> {
    let only_reads = request.method().is_safe();
    let connection = request.conn_data::<Connection>().cloned();
    let response = next.call(request).await?;
    let (Some(bytes), Some(connection)) = (counted(response.response().body()), connection) else {
        return Ok(response);
    };
    let caller = response.request().extensions().get::<Caller>().cloned();
    let mut held = room.of(caller.map(|caller| caller.key));
    match held.grow(bytes) {
        Err(full) if only_reads => return Ok(response.error_response(refusal(full))),
        Err(_) => held.grow_anyway(bytes),
        Ok(()) => {}
    }
    connection.keep_until_written(held);
    Ok(response)
}

fn counted(body: &BoxBody) -> Option<usize> {
    let bytes = match body.size() {
        BodySize::None => return None,
        BodySize::Sized(bytes) => bytes,
        BodySize::Stream => STREAMED,
    };
    (bytes > SMALL).then(|| usize::try_from(bytes).unwrap_or(usize::MAX))
}

fn refusal(full: NoRoom) -> ApiError {
    match full {
        NoRoom::OfTheKey => ApiError::TooManyUnread,
        NoRoom::AtAll => ApiError::Unavailable("no room for another answer".to_owned()),
    }
}
