//! Graceful shutdown: counts active requests, so that a server that stops knows when the last one has ended. The server
//! itself would wait for idle connections that clients keep open.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use actix_web::Error;
use actix_web::body::BoxBody;
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::ConnectionType;
use actix_web::middleware::Next;
use tokio_util::sync::CancellationToken;

/// The time to write a response to its client, after the handler has returned it.
const WRITING: Duration = Duration::from_millis(500);

const POLL_INTERVAL: Duration = Duration::from_millis(20);

#[derive(Debug, Clone, Default)]
pub(crate) struct GracefulShutdown {
    active: Arc<AtomicUsize>,
    stopping: CancellationToken,
}

/// An active request, until this is dropped.
struct RequestInFlight(Arc<AtomicUsize>);

impl Drop for RequestInFlight {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl GracefulShutdown {
    pub(crate) fn new(stopping: CancellationToken) -> Self {
        Self {
            active: Arc::default(),
            stopping,
        }
    }

    /// Counts a request. While the server stops, the response closes its connection.
    pub(crate) async fn track(
        self,
        request: ServiceRequest,
        next: Next<BoxBody>,
    ) -> Result<ServiceResponse, Error> {
        self.active.fetch_add(1, Ordering::Relaxed);
        let _active = RequestInFlight(Arc::clone(&self.active));
        let mut result = next.call(request).await;
        if let Ok(response) = &mut result
            && self.stopping.is_cancelled()
        {
            // actix writes `Connection` from the connection type and ignores the header.
            let head = response.response_mut().head_mut();
            head.set_connection_type(ConnectionType::Close);
        }
        result
    }

    /// Returns once the server stops and no request has been active for [`WRITING`].
    pub(crate) async fn drained(&self) {
        self.stopping.cancelled().await;
        let mut idle = Duration::ZERO;
        while idle < WRITING {
            tokio::time::sleep(POLL_INTERVAL).await;
            idle = match self.active.load(Ordering::Relaxed) {
                0 => idle + POLL_INTERVAL,
                _ => Duration::ZERO,
            };
        }
    }
}
