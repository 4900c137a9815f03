//! The requests under way, so that a server that stops knows when the last of them is over. Without
//! it, it would wait for connections that clients keep open and say nothing on.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use actix_web::Error;
use actix_web::body::BoxBody;
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::ConnectionType;
use actix_web::middleware::Next;
use tokio_util::sync::CancellationToken;

/// An answer is on its way to the client for so long after its handler has made it.
const WRITING: Duration = Duration::from_millis(500);

const LOOK_EVERY: Duration = Duration::from_millis(20);

/// The requests under way; and whether the server stops.
#[derive(Debug, Clone, Default)]
pub(crate) struct Underway {
    count: Arc<AtomicUsize>,
    stopping: CancellationToken,
}

/// One request.
struct Counted(Arc<AtomicUsize>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Underway {
    /// None yet, until the server stops.
    pub(crate) fn until(stopping: CancellationToken) -> Self {
        Self {
            count: Arc::default(),
            stopping,
        }
    }

    /// Counts a request. While the server stops, its answer is the last on its connection.
    pub(crate) async fn count(
        self,
        request: ServiceRequest,
        next: Next<BoxBody>,
    ) -> Result<ServiceResponse, Error> {
        self.count.fetch_add(1, Ordering::Relaxed);
        let _counted = Counted(Arc::clone(&self.count));
        let mut answered = next.call(request).await;
        if let Ok(response) = &mut answered
            && self.stopping.is_cancelled()
        {
            // actix writes `Connection` from the head's type alone, and leaves a header out.
            let head = response.response_mut().head_mut();
            head.set_connection_type(ConnectionType::Close);
        }
        answered
    }

    /// Returns once the server stops and no request has been under way for a while.
    pub(crate) async fn over(&self) {
        self.stopping.cancelled().await;
        let mut quiet = Duration::ZERO;
        while quiet < WRITING {
            tokio::time::sleep(LOOK_EVERY).await;
            quiet = match self.count.load(Ordering::Relaxed) {
                0 => quiet + LOOK_EVERY,
                _ => Duration::ZERO,
            };
        }
    }
}
