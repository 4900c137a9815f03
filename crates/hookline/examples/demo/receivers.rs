//! Three HTTP servers on this machine: a healthy one, one with a temporary fault, and one that is gone.

use std::net::{Ipv4Addr, SocketAddr};

use actix_web::dev::ServerHandle;
use actix_web::web::{self, Bytes, Data, Path};
use actix_web::{App, HttpRequest, HttpResponse, HttpServer};
use anyhow::Context as _;
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};

use crate::behaviour::Behaviour;
use crate::ledger::Ledger;

pub(crate) struct Receivers(Vec<Receiver>);

struct Receiver {
    behaviour: Behaviour,
    address: SocketAddr,
    handle: ServerHandle,
}

#[derive(Clone)]
struct ReceiverState {
    behaviour: Behaviour,
    ledger: Ledger,
}

impl Receivers {
    pub(crate) fn start(ledger: &Ledger) -> anyhow::Result<Self> {
        let started = Behaviour::ALL.map(|behaviour| {
            let state = ReceiverState {
                behaviour,
                ledger: ledger.clone(),
            };
            let server = HttpServer::new(move || {
                App::new()
                    .app_data(Data::new(state.clone()))
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
                behaviour,
                address,
                handle,
            })
        });
        Ok(Self(started.into_iter().collect::<anyhow::Result<_>>()?))
    }

    pub(crate) fn url(&self, behaviour: Behaviour) -> String {
        let receiver = self
            .0
            .iter()
            .find(|receiver| receiver.behaviour == behaviour);
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
    state: Data<ReceiverState>,
    organization: Path<String>,
    request: HttpRequest,
    body: Bytes,
) -> HttpResponse {
    let headers = to_reqwest_headers(request.headers());
    let status = state
        .ledger
        .enter(state.behaviour, &organization, &headers, &body);
    HttpResponse::build(status).body(status.canonical_reason().unwrap_or_default())
}

/// actix and the library of Standard Webhooks use different versions of `http`.
fn to_reqwest_headers(headers: &actix_web::http::header::HeaderMap) -> HeaderMap {
    let pairs = headers.iter().filter_map(|(name, value)| {
        let name = HeaderName::from_bytes(name.as_ref()).ok()?;
        Some((name, HeaderValue::from_bytes(value.as_bytes()).ok()?))
    });
    pairs.collect()
}
