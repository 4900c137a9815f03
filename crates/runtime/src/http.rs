//! The HTTP server of the API and the admin listener, with timeouts and memory limits for every connection.
//!
//! actix has a timeout for the first head of a connection only. `Stream`, between actix and the socket, has the others:
//!
//! | the client | closed after |
//! |---|---|
//! | does not finish its first head | [`Timeouts::head`], with 408, by actix |
//! | does not finish another head, or a body that was answered early | [`Timeouts::head`] since the first byte or since the answer, whichever is later |
//! | sends nothing after an answer | [`Timeouts::idle`] |
//! | reads an answer too slowly | [`Timeouts::writing`] in which it read less than 32 KiB; an answer with progress has no limit |
//!
//! `Stream` also gives actix one request at a time: a whole head, the body while the handler waits for it, and the next
//! head after the answer is written (`docs/decisions/0009-one-request-at-a-time.md`). actix keeps one state for a
//! connection, and would format an answer by the last request that it has read. A client that does not read causes no
//! work, and a connection holds at most one answer.
//!
//! A request is active from [`exchange`] until the body of its answer is dropped. Its handler limits that time.
//!
//! Connections are accepted without a limit. For each one over the limit, `ConnectionSlots` closes the oldest connection
//! that has sent no valid key, or the longest idle one with a valid key. Silent connections therefore keep out no client
//! with a key. Incomplete heads share 32 MiB; beyond that, the oldest head of more than 1 KiB is closed. An idle connection
//! keeps two buffers of 8 KiB: a larger head ends its connection, and an answer is written in pieces.

mod connection;
mod connection_slots;
mod demanded_body;
mod exchange;
mod framing;
mod read_buffer;
mod stream;
#[cfg(test)]
mod tests;
mod timeouts;

use std::fmt::Debug;
use std::io;
use std::net::TcpListener;
use std::time::Duration;

use actix_http::error::DispatchError;
use actix_http::{HttpService, KeepAlive, Protocol, Request};
use actix_server::{Server, ServerBuilder};
use actix_service::{
    IntoServiceFactory, Service, ServiceFactory, ServiceFactoryExt as _, fn_service, map_config,
};
use actix_web::Error;
use actix_web::body::BoxBody;
use actix_web::dev::{AppConfig, ServiceResponse};
use socket2::SockRef;
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;

pub use connection::HttpConnection;
pub use exchange::exchange;
pub use timeouts::Timeouts;

use connection_slots::ConnectionSlots;
use stream::Stream;

/// Connections beyond the limit of a worker: those that must close and have not run since.
const CLOSING: usize = 256;

/// The time for a client to read the end of a connection.
const CLOSE_DEADLINE: Duration = Duration::from_secs(2);

/// Bytes of an answer that the kernel holds for a client that does not read; Linux doubles them. Without a limit it holds
/// some MiB, which count as memory of the container.
const SEND_BUFFER: usize = 128 * 1024;

/// actix writes an answer when its buffer has this many bytes. A piece of the body may exceed it.
const WRITE_BUFFER: usize = 1024;

#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// Threads.
    pub workers: usize,
    /// Connections of all workers.
    pub connections: usize,
    pub timeouts: Timeouts,
    /// Time for active requests when the server stops.
    pub last_answers: Duration,
}

/// Serves `app` on `listener` until `shutdown`. The outermost middleware of `app` must be [`exchange`].
pub fn serve<F, I, S>(
    listener: TcpListener,
    bounds: Bounds,
    shutdown: CancellationToken,
    app: F,
) -> io::Result<Server>
where
    F: Fn() -> I + Send + Clone + 'static,
    I: IntoServiceFactory<S, Request>,
    S: ServiceFactory<
            Request,
            Config = AppConfig,
            Response = ServiceResponse<BoxBody>,
            Error = Error,
        > + 'static,
    S::InitError: Debug,
    S::Service: 'static,
    <S::Service as Service<Request>>::Future: 'static,
{
    let address = listener.local_addr()?;
    // Connections inherit the size of the buffer.
    SockRef::from(&listener).set_send_buffer_size(SEND_BUFFER)?;
    let slots = ConnectionSlots::new(bounds.connections);
    let draining = shutdown.clone();
    let builder = ServerBuilder::new();
    let stopping = builder.graceful_shutdown_signal();
    let server = builder
        .workers(bounds.workers)
        .max_concurrent_connections(bounds.connections.saturating_add(CLOSING))
        .shutdown_timeout(bounds.last_answers.as_secs().max(1))
        .shutdown_signal(shutdown.cancelled_owned())
        .listen("http", listener, move || {
            let slots = slots.clone();
            let draining = draining.clone();
            let stopping = stopping.clone();
            let http = HttpService::build()
                .keep_alive(KeepAlive::Os)
                .h1_write_buffer_size(WRITE_BUFFER)
                .client_request_timeout(bounds.timeouts.head)
                .client_disconnect_timeout(CLOSE_DEADLINE)
                .local_addr(address)
                .graceful_shutdown_signal(move || {
                    let stopping = stopping.clone();
                    async move { stopping.notified().await }
                })
                .on_connect_ext(|stream: &Stream, data| {
                    data.insert(stream.connection());
                })
                .finish(map_config(app(), |()| AppConfig::default()));
            fn_service(move |socket: TcpStream| {
                let slot = slots.take();
                let draining = draining.clone();
                async move {
                    let slot = slot.ok_or_else(|| {
                        DispatchError::Io(io::ErrorKind::ConnectionRefused.into())
                    })?;
                    let peer = socket.peer_addr().ok();
                    let stream = Stream::new(socket, slot, bounds.timeouts, draining);
                    Ok((stream, Protocol::Http1, peer))
                }
            })
            .and_then(http)
        })?
        .run();
    Ok(server)
}
