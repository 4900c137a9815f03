//! The HTTP server below the API and the admin listener, with bounds that a client cannot argue with.
//!
//! actix keeps a clock for the first head of a connection and for nothing else. `Stream` sits
//! between actix and the socket and keeps the others:
//!
//! | the connection | is closed after |
//! |---|---|
//! | owes the rest of its first head | [`Clocks::head`], with 408, by actix |
//! | owes the rest of another head, or of a body that was answered early | [`Clocks::head`] since the first byte or since the answer, whichever is later |
//! | sends nothing after an answer | [`Clocks::idle`] |
//! | takes too little of an answer | [`Clocks::writing`] in which it took less than 32 KiB; an answer that makes progress may be as long as it likes |
//!
//! `Stream` also reads what the client sends, and gives actix one request at a time: its head once it
//! is whole, its body while the handler waits for it, and the next head once the answer is written
//! (`docs/decisions/0009-one-request-at-a-time.md`). actix keeps one state for a connection, and would
//! give an answer the form of the last request that it has read. A client that reads nothing is not
//! worked for, and a connection holds one answer at most.
//!
//! A request is under way from the moment that [`exchange`] sees it until the body of its answer is
//! dropped; its time is the handler's to bound.
//!
//! Connections are accepted without a limit, and `Places` closes one for each that is too many: the
//! one that has waited longest without a good key, then the one with a good key that has been idle
//! longest. So connections that say nothing keep out no client with a key. Heads that are not whole
//! share 32 MiB; the first of them that was larger than 1 KiB is closed when they take more. An idle
//! connection keeps two buffers of 8 KiB: a head that takes more ends its connection, and an answer is
//! written in pieces.

mod connection;
mod demanded;
mod exchange;
mod framing;
mod intake;
mod places;
mod stream;
#[cfg(test)]
mod tests;

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

pub use connection::Connection;
pub use exchange::exchange;

use places::Places;
use stream::Stream;

/// Connections that a worker may hold beyond the limit: those that were told to close and have not
/// had their turn yet.
const CLOSING: usize = 256;

/// How long a client may take to read the end of a connection.
const CLOSE_DEADLINE: Duration = Duration::from_secs(2);

/// What the system keeps of an answer for a client that does not read (Linux doubles it). Without a
/// bound it is some MiB, in memory that counts as the container's.
const SEND_BUFFER: usize = 128 * 1024;

/// An answer is written when there is as much of it; pieces of it come on top.
const WRITE_BUFFER: usize = 1024;

/// The bounds of a server.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// Threads that serve requests.
    pub workers: usize,
    /// Connections of all workers together.
    pub connections: usize,
    /// How long a connection may take.
    pub clocks: Clocks,
    /// How long the requests under way may take once the server is to stop.
    pub last_answers: Duration,
}

/// How long a connection may take for what it owes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Clocks {
    /// A head, from its first byte on; the first one from the accept on.
    pub head: Duration,
    /// The next request after an answer, while no byte of it has come.
    pub idle: Duration,
    /// 32 KiB of an answer, or the rest of it.
    pub writing: Duration,
}

impl Default for Clocks {
    fn default() -> Self {
        Self {
            head: Duration::from_secs(5),
            idle: Duration::from_secs(75),
            // The system tells of progress when a third of its buffer is free, some 85 KiB.
            writing: Duration::from_secs(30),
        }
    }
}

/// Serves `app` on `listener` until `shutdown`. The outermost middleware of `app` must be [`exchange`].
///
/// # Errors
/// When the listener cannot be used.
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
    // The connections inherit it.
    SockRef::from(&listener).set_send_buffer_size(SEND_BUFFER)?;
    let places = Places::new(bounds.connections);
    let told = shutdown.clone();
    let builder = ServerBuilder::new();
    let stopping = builder.graceful_shutdown_signal();
    let server = builder
        .workers(bounds.workers)
        .max_concurrent_connections(bounds.connections.saturating_add(CLOSING))
        .shutdown_timeout(bounds.last_answers.as_secs().max(1))
        .shutdown_signal(shutdown.cancelled_owned())
        .listen("http", listener, move || {
            let places = places.clone();
            let told = told.clone();
            let stopping = stopping.clone();
            let http = HttpService::build()
                .keep_alive(KeepAlive::Os)
                .h1_write_buffer_size(WRITE_BUFFER)
                .client_request_timeout(bounds.clocks.head)
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
                let place = places.take();
                let told = told.clone();
                async move {
                    let place = place.ok_or_else(|| {
                        DispatchError::Io(io::ErrorKind::ConnectionRefused.into())
                    })?;
                    let peer = socket.peer_addr().ok();
                    let stream = Stream::new(socket, place, bounds.clocks, told);
                    Ok((stream, Protocol::Http1, peer))
                }
            })
            .and_then(http)
        })?
        .run();
    Ok(server)
}
