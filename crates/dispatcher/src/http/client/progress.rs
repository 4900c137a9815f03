//! The progress of one request: the phases of the connection that it makes, and the connection that carries it.
//!
//! A request may use a kept connection, also while it makes one of its own. Only the phases of its own connection, once
//! that carries it, are phases of the request.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::Request;
use http_body_util::Full;
use hyper_util::client::legacy::connect::{CaptureConnection, Connected, capture_connection};
use tokio::time::Instant;

use super::connect_phases::{ConnectPhases, OWN, OwnConnection};
use super::connection::ConnectionTraffic;

/// The progress of a request that is on its way, or has ended.
pub(crate) struct RequestProgress {
    began: Instant,
    own: OwnConnection,
    used: CaptureConnection,
}

/// The phases of a request until now.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct RequestPhases {
    /// Whether a connection took the request.
    pub(crate) is_sent: bool,
    pub(crate) remote: Option<IpAddr>,
    pub(crate) dns: Option<Duration>,
    pub(crate) connect: Option<Duration>,
    pub(crate) tls: Option<Duration>,
    /// From the own connection, or from the begin of the request on a kept one.
    pub(crate) first_byte: Option<Duration>,
}

impl RequestProgress {
    /// Begins to observe a request.
    pub(crate) fn of(request: &mut Request<Full<Bytes>>) -> Self {
        Self {
            began: Instant::now(),
            own: OwnConnection::default(),
            used: capture_connection(request),
        }
    }

    pub(super) fn began(&self) -> Instant {
        self.began
    }

    /// Runs `sending`. A connection that it makes belongs to this request.
    pub(super) async fn observe<F: Future>(&self, sending: F) -> F::Output {
        OWN.scope(Arc::clone(&self.own), sending).await
    }

    /// The phases until now. The first byte is that of this request only until its response has ended: then the
    /// connection may carry another one.
    pub(crate) fn phases(&self) -> RequestPhases {
        let own = self.own.lock().clone();
        let used = self.used.connection_metadata().as_ref().and_then(traffic);
        let Some(used) = used else {
            return own.map_or_else(RequestPhases::default, |own| of_connection(&own));
        };
        let is_own = own.is_some_and(|own| Arc::ptr_eq(&own, used.phases()));
        let (phases, ready) = match is_own {
            true => (of_connection(used.phases()), used.made()),
            false => (RequestPhases::default(), self.began),
        };
        let first_byte = used
            .first_byte()
            .and_then(|at| at.checked_duration_since(ready));
        RequestPhases {
            is_sent: true,
            remote: used.phases().state().remote,
            first_byte,
            ..phases
        }
    }
}

fn of_connection(phases: &ConnectPhases) -> RequestPhases {
    let state = phases.state();
    RequestPhases {
        is_sent: false,
        remote: state.remote,
        dns: state.dns,
        connect: state.connect,
        tls: state.tls,
        first_byte: None,
    }
}

pub(super) fn traffic(connected: &Connected) -> Option<ConnectionTraffic> {
    let mut extras = http::Extensions::new();
    connected.get_extras(&mut extras);
    extras.remove()
}
