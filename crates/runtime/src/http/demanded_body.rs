//! The body of a request. It is read from the client only while the handler waits for it.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use actix_web::dev::Payload;
use actix_web::error::PayloadError;
use actix_web::web::Bytes;
use futures::Stream;

use super::connection::HttpConnection;
use super::framing::Framing;

struct DemandedBody {
    payload: Payload,
    connection: HttpConnection,
    /// Bytes left, where the length is known. With `Upgrade: websocket`, actix alone would read to the end of the
    /// connection.
    left: Option<u64>,
}

/// Limits `payload` to the body that `framing` describes.
pub(super) fn demanded_body(
    payload: Payload,
    framing: Framing,
    connection: HttpConnection,
) -> Payload {
    let left = match framing {
        Framing::Whole => return Payload::None,
        Framing::Bytes(length) => Some(length),
        Framing::Size | Framing::Chunk(_) | Framing::Trailers => None,
    };
    Payload::Stream {
        payload: Box::pin(DemandedBody {
            payload,
            connection,
            left,
        }),
    }
}

impl Stream for DemandedBody {
    type Item = Result<Bytes, PayloadError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.left == Some(0) {
            return Poll::Ready(None);
        }
        let next = Pin::new(&mut self.payload).poll_next(cx);
        self.connection.waits_for_body(next.is_pending());
        let next = ready!(next);
        if let (Some(left), Some(Ok(bytes))) = (&mut self.left, &next) {
            *left = left.saturating_sub(bytes.len() as u64);
        }
        Poll::Ready(next)
    }
}
