//! Three HTTP servers on this machine: a healthy one, one with a temporary fault, and one that is gone.

use std::net::{Ipv4Addr, TcpListener};

use actix_web::web::Bytes;
use actix_web::{HttpRequest, HttpResponse};
use anyhow::Context as _;
use hookline_testkit::receiver::serve;
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};

use crate::behaviour::Behaviour;
use crate::ledger::Ledger;

/// Their ports. They serve until the program ends.
pub(crate) struct Receivers(Vec<(Behaviour, u16)>);

impl Receivers {
    pub(crate) fn start(ledger: &Ledger) -> anyhow::Result<Self> {
        let started = Behaviour::ALL.map(|behaviour| {
            let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
                .context("cannot listen on 127.0.0.1")?;
            let port = listener.local_addr()?.port();
            let ledger = ledger.clone();
            serve(vec![listener], 1, move |request, body| {
                receive(behaviour, ledger.clone(), request, body)
            });
            Ok((behaviour, port))
        });
        Ok(Self(started.into_iter().collect::<anyhow::Result<_>>()?))
    }

    pub(crate) fn url(&self, behaviour: Behaviour) -> String {
        let mut all = self.0.iter();
        let found = all.find(|(known, _)| *known == behaviour);
        found.map_or_else(String::new, |(_, port)| format!("http://127.0.0.1:{port}"))
    }
}

/// The path is the organization.
async fn receive(
    behaviour: Behaviour,
    ledger: Ledger,
    request: HttpRequest,
    body: Bytes,
) -> HttpResponse {
    let organization = request.path().trim_start_matches('/');
    let headers = to_reqwest_headers(request.headers());
    let status = ledger.enter(behaviour, organization, &headers, &body);
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
