//! Tells the connection about its requests and their answers.

use std::error::Error as StdError;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use actix_web::body::{BodySize, BoxBody, MessageBody};
use actix_web::dev::{RequestHead, ServiceRequest, ServiceResponse};
use actix_web::http::{ConnectionType, Method, Version, header};
use actix_web::middleware::Next;
use actix_web::web::Bytes;
use actix_web::{Error, HttpMessage as _};

use super::connection::HttpConnection;
use super::demanded_body::demanded_body;
use super::framing::Framing;

/// Bytes of an answer that are written at a time. With the head they fit into the first buffer of actix, which an idle
/// connection keeps.
const PIECE: usize = 6 * 1024;

/// Exists until the answer is written or dropped.
struct ActiveRequest {
    connection: HttpConnection,
    is_answered: bool,
}

impl Drop for ActiveRequest {
    fn drop(&mut self) {
        self.connection.end(self.is_answered);
    }
}

/// The outermost middleware.
pub async fn exchange(
    mut request: ServiceRequest,
    next: Next<BoxBody>,
) -> Result<ServiceResponse<BoxBody>, Error> {
    let Some(connection) = request.conn_data::<HttpConnection>().cloned() else {
        return next.call(request).await;
    };
    let head = request.head();
    let framing = Framing::of(head);
    connection.begin(framing, head.expect());
    let mut active = ActiveRequest {
        connection: connection.clone(),
        is_answered: false,
    };
    let leaves_http = leaves_http(head);
    let knows_chunks = request.version() >= Version::HTTP_11 && !leaves_http;
    let payload = request.take_payload();
    request.set_payload(demanded_body(payload, framing, connection));
    let answered = next.call(request).await;
    active.is_answered = true;
    Ok(answered?.map_body(|head, body| {
        if leaves_http || active.connection.has_large_head() {
            head.set_connection_type(ConnectionType::Close);
        }
        if body.size() == BodySize::Stream && !knows_chunks {
            // The answer ends with the connection (RFC 9112, 6.1 and 6.3).
            head.no_chunking(true);
            head.set_connection_type(ConnectionType::Close);
        }
        BoxBody::new(CountedBody {
            body,
            rest: Bytes::new(),
            _active: active,
        })
    }))
}

/// The server supports no upgrade, and actix reads all that follows as the body of such a request.
fn leaves_http(head: &RequestHead) -> bool {
    head.upgrade() || head.headers().contains_key(header::UPGRADE) || head.method == Method::CONNECT
}

/// A body in pieces.
struct CountedBody {
    body: BoxBody,
    rest: Bytes,
    _active: ActiveRequest,
}

impl MessageBody for CountedBody {
    type Error = Box<dyn StdError>;

    fn size(&self) -> BodySize {
        self.body.size()
    }

    fn poll_next(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Bytes, Self::Error>>> {
        if self.rest.is_empty() {
            match ready!(Pin::new(&mut self.body).poll_next(cx)) {
                Some(Ok(bytes)) => self.rest = bytes,
                ended => return Poll::Ready(ended),
            }
        }
        let piece = self.rest.len().min(PIECE);
        Poll::Ready(Some(Ok(self.rest.split_to(piece))))
    }
}
