//! The admin listener has a port of its own, so that the metrics are never open to the world, and
//! a thread of its own, so that a busy service still says that it lives.

use std::io;
use std::net::{SocketAddr, TcpListener};

use actix_web::http::header::ContentType;
use actix_web::web::{self, Data};
use actix_web::{App, HttpResponse, HttpServer};
use tokio_util::sync::CancellationToken;

use crate::readiness::Readiness;
use crate::telemetry::Metrics;

/// An address that cannot be listened on.
#[derive(Debug, thiserror::Error)]
#[error("setting {setting} = {address}: nothing can listen there")]
pub struct CannotListen {
    /// The setting that has the address.
    pub setting: &'static str,
    /// The address.
    pub address: SocketAddr,
    /// Why.
    pub source: io::Error,
}

/// Takes an address, so that one in use is found at the start and named with its setting.
///
/// # Errors
/// [`CannotListen`].
pub fn listen(setting: &'static str, address: SocketAddr) -> Result<TcpListener, CannotListen> {
    TcpListener::bind(address).map_err(|source| CannotListen {
        setting,
        address,
        source,
    })
}

/// Serves `/healthz`, `/readyz` and `/metrics` until `shutdown` is cancelled.
///
/// # Errors
/// When the listener cannot be served.
pub async fn serve(
    listener: TcpListener,
    readiness: Readiness,
    metrics: Metrics,
    shutdown: CancellationToken,
) -> io::Result<()> {
    let readiness = Data::new(readiness);
    let metrics = Data::new(metrics);
    let server = HttpServer::new(move || {
        App::new()
            .app_data(readiness.clone())
            .app_data(metrics.clone())
            .route("/healthz", web::get().to(healthz))
            .route("/readyz", web::get().to(readyz))
            .route("/metrics", web::get().to(render))
    })
    .workers(1)
    .worker_max_blocking_threads(1)
    .disable_signals()
    .shutdown_signal(shutdown.cancelled_owned())
    .shutdown_timeout(1)
    .listen(listener)?
    .run();
    server.await
}

async fn healthz() -> HttpResponse {
    HttpResponse::Ok()
        .content_type(ContentType::json())
        .body(r#"{"status":"ok"}"#)
}

async fn readyz(readiness: Data<Readiness>) -> HttpResponse {
    let report = readiness.report();
    match report.is_ready() {
        true => HttpResponse::Ok().json(report),
        false => HttpResponse::ServiceUnavailable().json(report),
    }
}

async fn render(metrics: Data<Metrics>) -> HttpResponse {
    HttpResponse::Ok()
        .content_type("text/plain; version=0.0.4; charset=utf-8")
        .body(metrics.render())
}

#[cfg(test)]
mod tests;
