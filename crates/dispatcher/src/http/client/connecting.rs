//! Makes a connection for a URL: addresses, TCP, TLS.

use std::io;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures::FutureExt as _;
use futures::future::BoxFuture;
use http::Uri;
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tower_service::Service;

use super::connect_error::ConnectError;
use super::connect_phases::ConnectPhases;
use super::connection::ObservedConnection;
use super::dialing::dial;
use crate::http::ssrf_resolver::{AllowedAddresses, NotAllowed};

#[derive(Clone)]
pub(super) struct Connector {
    addresses: AllowedAddresses,
    tls: TlsConnector,
    /// The longest time for all steps. A request that got another connection meanwhile does not wait for this one any
    /// more.
    limit: Duration,
}

impl Connector {
    pub(super) fn new(
        addresses: AllowedAddresses,
        tls: Arc<ClientConfig>,
        limit: Duration,
    ) -> Self {
        let tls = tls.into();
        Self {
            addresses,
            tls,
            limit,
        }
    }

    async fn connect_in_time(self, to: Uri) -> Result<TokioIo<ObservedConnection>, ConnectError> {
        let limit = self.limit;
        let late = |_| ConnectError::Late(limit);
        timeout(limit, self.connect(to)).await.map_err(late)?
    }

    async fn connect(self, to: Uri) -> Result<TokioIo<ObservedConnection>, ConnectError> {
        let phases = ConnectPhases::begin();
        let host = to.host().ok_or(NotAllowed)?;
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let is_encrypted = to.scheme_str() == Some("https");
        let port = to.port_u16().unwrap_or(if is_encrypted { 443 } else { 80 });
        let stream = dial(self.addresses.of(host).await, port, &phases).await?;
        if !is_encrypted {
            return Ok(TokioIo::new(ObservedConnection::new(stream, phases)));
        }
        let name = ServerName::try_from(host.to_owned())
            .map_err(|why| ConnectError::Tls(io::Error::other(why)))?;
        let session = self.tls.connect(name, stream).await;
        let session = session.map_err(ConnectError::Tls)?;
        phases.encrypted();
        Ok(TokioIo::new(ObservedConnection::new(session, phases)))
    }
}

impl Service<Uri> for Connector {
    type Response = TokioIo<ObservedConnection>;
    type Error = ConnectError;
    type Future = BoxFuture<'static, Result<Self::Response, Self::Error>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, to: Uri) -> Self::Future {
        self.clone().connect_in_time(to).boxed()
    }
}
