//! The admin listener. Its own port keeps the metrics off the public network. Its own thread lets a busy service
//! still answer health checks.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::time::Duration;

use actix_web::http::header::ContentType;
use actix_web::middleware::from_fn;
use actix_web::web::{self, Data};
use actix_web::{App, HttpResponse};
use socket2::{Domain, Protocol, Socket, Type};
use tokio_util::sync::CancellationToken;

use crate::hosts::Hosts;
use crate::http::{self, Bounds, Timeouts};
use crate::readiness::Readiness;
use crate::telemetry::Metrics;

/// Probes and scrapers are few.
const MAX_CONNECTIONS: usize = 64;

/// Connections that wait to be accepted. With the 128 of the standard library a burst loses connections, and each
/// client tries again after a second. The system may allow fewer.
const BACKLOG: i32 = 4_096;

#[derive(Debug, thiserror::Error)]
#[error("setting {setting} = {address}: cannot listen on this address")]
pub struct CannotListen {
    pub setting: &'static str,
    pub address: SocketAddr,
    pub source: io::Error,
}

/// Binds an address at the start, so that an error for one in use names its setting.
pub fn listen(setting: &'static str, address: SocketAddr) -> Result<TcpListener, CannotListen> {
    bind(address).map_err(|source| CannotListen {
        setting,
        address,
        source,
    })
}

fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::STREAM,
        Some(Protocol::TCP),
    )?;
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// Serves `/healthz`, `/readyz` and `/metrics` until `shutdown` is cancelled.
pub async fn serve(
    listener: TcpListener,
    hosts: Hosts,
    readiness: Readiness,
    metrics: Metrics,
    shutdown: CancellationToken,
) -> io::Result<()> {
    let readiness = Data::new(readiness);
    let metrics = Data::new(metrics);
    let bounds = Bounds {
        workers: 1,
        connections: MAX_CONNECTIONS,
        timeouts: Timeouts::default(),
        last_answers: Duration::from_secs(1),
    };
    let server = http::serve(listener, bounds, shutdown, move || {
        App::new()
            .app_data(readiness.clone())
            .app_data(metrics.clone())
            .route("/healthz", web::get().to(healthz))
            .route("/readyz", web::get().to(readyz))
            .route("/metrics", web::get().to(render))
            .wrap(from_fn(move |request, next| hosts.check(request, next)))
            .wrap(from_fn(http::exchange))
    })?;
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
