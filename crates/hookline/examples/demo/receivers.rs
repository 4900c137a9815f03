//! Three HTTP servers on this machine, as customers have them: one well, one with a fault that
//! passes, one that has been taken out of service.

use std::net::{Ipv4Addr, SocketAddr};

use actix_web::dev::ServerHandle;
use actix_web::http::StatusCode;
use actix_web::web::{self, Bytes, Data, Path};
use actix_web::{App, HttpRequest, HttpResponse, HttpServer};
use anyhow::Context as _;
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};

use crate::ledger::Ledger;

/// How a receiver answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Manner {
    /// It takes everything.
    Healthy,
    /// It fails [`FAILURES`] times for each delivery and then takes it.
    Flaky,
    /// It says that it is gone for good.
    Leaving,
}

/// How often a flaky receiver fails for each delivery.
pub(crate) const FAILURES: u32 = 2;

impl Manner {
    pub(crate) const ALL: [Self; 3] = [Self::Healthy, Self::Flaky, Self::Leaving];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Healthy => "healthy",
            Self::Flaky => "flaky",
            Self::Leaving => "leaving",
        }
    }

    /// The status for the `request`th request of a delivery, from 1.
    pub(crate) fn answer(self, request: u32) -> StatusCode {
        match self {
            Self::Flaky if request <= FAILURES => StatusCode::INTERNAL_SERVER_ERROR,
            Self::Healthy | Self::Flaky => StatusCode::OK,
            Self::Leaving => StatusCode::GONE,
        }
    }
}

/// The running servers.
pub(crate) struct Receivers(Vec<Receiver>);

struct Receiver {
    manner: Manner,
    address: SocketAddr,
    handle: ServerHandle,
}

/// What a server works with.
#[derive(Clone)]
struct Desk {
    manner: Manner,
    ledger: Ledger,
}

impl Receivers {
    pub(crate) fn start(ledger: &Ledger) -> anyhow::Result<Self> {
        let started = Manner::ALL.map(|manner| {
            let desk = Desk {
                manner,
                ledger: ledger.clone(),
            };
            let server = HttpServer::new(move || {
                App::new()
                    .app_data(Data::new(desk.clone()))
                    .route("/{organization}", web::post().to(receive))
            })
            .workers(1)
            .disable_signals()
            .bind((Ipv4Addr::LOCALHOST, 0))
            .context("cannot listen on 127.0.0.1")?;
            let address = *server
                .addrs()
                .first()
                .context("a server without an address")?;
            let running = server.run();
            let handle = running.handle();
            tokio::spawn(running);
            Ok(Receiver {
                manner,
                address,
                handle,
            })
        });
        Ok(Self(started.into_iter().collect::<anyhow::Result<_>>()?))
    }

    pub(crate) fn url(&self, manner: Manner) -> String {
        let receiver = self.0.iter().find(|receiver| receiver.manner == manner);
        receiver.map_or_else(String::new, |receiver| {
            format!("http://{}", receiver.address)
        })
    }

    pub(crate) async fn stop(self) {
        for receiver in self.0 {
            receiver.handle.stop(false).await;
        }
    }
}

async fn receive(
    desk: Data<Desk>,
    organization: Path<String>,
    request: HttpRequest,
    body: Bytes,
) -> HttpResponse {
    let headers = as_reqwest_has_them(request.headers());
    let status = desk
        .ledger
        .enter(desk.manner, &organization, &headers, &body);
    HttpResponse::build(status).body(status.canonical_reason().unwrap_or_default())
}

/// The servers here and the library of Standard Webhooks know different versions of `http`.
fn as_reqwest_has_them(headers: &actix_web::http::header::HeaderMap) -> HeaderMap {
    let pairs = headers.iter().filter_map(|(name, value)| {
        let name = HeaderName::from_bytes(name.as_ref()).ok()?;
        Some((name, HeaderValue::from_bytes(value.as_bytes()).ok()?))
    });
    pairs.collect()
}
