//! Requests over kept connections, and over a fresh one where a kept one had ended.
//!
//! A receiver may close an idle connection at the moment at which a request is written to it. Such a failure says
//! nothing about the receiver. The request is therefore made once more, at once, and the receiver knows it by its
//! `webhook-id`. That holds only for a connection from before the request, and only without a byte of a response. A
//! receiver that takes a request on a fresh connection and hangs up has failed.

mod connect_error;
mod connect_phases;
mod connecting;
mod connection;
mod dialing;
mod progress;
mod tls;

use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper_util::client::legacy;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use tokio::time::Instant;

use crate::context::Policy;
use crate::http::ssrf_resolver::AllowedAddresses;
use connecting::Connector;
use connection::ConnectionTraffic;

pub(crate) use connect_error::ConnectError;
pub(crate) use connection::ResponseStart;
pub(crate) use legacy::Error;
pub(crate) use progress::{RequestPhases, RequestProgress};
pub(crate) use tls::failure as tls_failure;

/// The time for which an idle connection to a receiver is kept. There are as many as there were concurrent requests.
/// With fewer, new ones would be made under load, which costs both sides more than the requests.
const IDLE: Duration = Duration::from_secs(60);

/// The most headers of a response.
pub(crate) const MAX_HEADERS: usize = 100;

/// The most bytes of the head of a response, and of one read.
pub(crate) const MAX_HEAD: usize = 64 * 1024;

type Pooled = legacy::Client<Connector, Full<Bytes>>;

/// An HTTP/1.1 client. It neither requests nor decodes compression, and has neither redirects nor a proxy.
#[derive(Debug, Clone)]
pub(crate) struct Client {
    kept: Pooled,
    /// Keeps no connection, so that each request gets one of its own.
    fresh: Pooled,
}

impl Client {
    /// A client that dials `addresses`.
    ///
    /// # Errors
    /// When the certificates cannot be read, or TLS cannot be set up.
    pub(crate) fn new(addresses: AllowedAddresses, policy: &Policy) -> anyhow::Result<Self> {
        let tls = tls::config(policy.extra_ca_file.as_deref())?;
        let connector = Connector::new(addresses, tls, policy.deadline);
        Ok(Self {
            kept: pooled(connector.clone(), policy.slots),
            fresh: pooled(connector, 0),
        })
    }

    /// Sends a request, and once more if the connection that was kept for it had ended. `progress` is that of the last
    /// request.
    ///
    /// # Errors
    /// When no response came.
    pub(crate) async fn send(
        &self,
        mut request: Request<Full<Bytes>>,
        progress: &mut RequestProgress,
    ) -> Result<Response<Incoming>, Error> {
        let first = progress.observe(self.kept.request(request.clone())).await;
        match first {
            Err(error) if was_stale(&error, progress.began()) => {
                tracing::debug!(%error, "repeated request: its kept connection had ended");
                *progress = RequestProgress::of(&mut request);
                progress.observe(self.fresh.request(request)).await
            }
            result => result,
        }
    }
}

fn pooled(connector: Connector, kept: usize) -> Pooled {
    legacy::Client::builder(TokioExecutor::new())
        .timer(TokioTimer::new())
        .pool_timer(TokioTimer::new())
        .pool_idle_timeout(IDLE)
        .pool_max_idle_per_host(kept)
        // A client replaces a folded header by spaces, and removes a space before the colon (RFC 9112, 5.1 and 5.2).
        .http1_allow_obsolete_multiline_headers_in_responses(true)
        .http1_allow_spaces_after_header_name_in_responses(true)
        .http1_max_headers(MAX_HEADERS)
        .http1_max_buf_size(MAX_HEAD)
        .build(connector)
}

/// Whether a request failed because of a connection from before it began, without a byte of a response.
fn was_stale(error: &Error, began: Instant) -> bool {
    traffic(error).is_some_and(|traffic| traffic.is_unanswered_on_kept(began))
}

/// The first bytes of the response to a failed request.
pub(crate) fn response_start(error: &Error) -> ResponseStart {
    traffic(error).map_or(ResponseStart::Nothing, |traffic| traffic.response_start())
}

fn traffic(error: &Error) -> Option<ConnectionTraffic> {
    progress::traffic(error.connect_info()?)
}
