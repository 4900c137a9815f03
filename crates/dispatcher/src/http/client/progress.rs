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
use parking_lot::Mutex;
use tokio::time::Instant;

use super::connection::ConnectionTraffic;

tokio::task_local! {
    /// hyper-util tells a connector the URL of a request and nothing else. It calls the connector in the task of the
    /// request.
    static OWN: OwnConnection;
}

/// The connection that a request made last, if it made one.
type OwnConnection = Arc<Mutex<Option<Arc<ConnectPhases>>>>;

/// The phases of making a connection. A phase has a time once it has ended.
#[derive(Debug)]
pub(super) struct ConnectPhases(Mutex<PhaseState>);

#[derive(Debug, Clone, Copy)]
struct PhaseState {
    /// The end of the last phase.
    at: Instant,
    dns: Option<Duration>,
    connect: Option<Duration>,
    tls: Option<Duration>,
    /// The connected address; before that the first one that was dialled.
    remote: Option<IpAddr>,
}

impl PhaseState {
    fn new(at: Instant) -> Self {
        Self {
            at,
            dns: None,
            connect: None,
            tls: None,
            remote: None,
        }
    }

    fn end_phase(&mut self) -> Option<Duration> {
        let now = Instant::now();
        let took = now - self.at;
        self.at = now;
        Some(took)
    }
}

impl ConnectPhases {
    /// Begins a connection of the request that this task sends.
    pub(super) fn begin() -> Arc<Self> {
        let phases = Arc::new(Self(Mutex::new(PhaseState::new(Instant::now()))));
        // Without a request, only tests read the phases.
        let _ = OWN.try_with(|own| *own.lock() = Some(Arc::clone(&phases)));
        phases
    }

    pub(super) fn resolved(&self) {
        let mut state = self.0.lock();
        state.dns = state.end_phase();
    }

    pub(super) fn dialling(&self, address: IpAddr) {
        self.0.lock().remote.get_or_insert(address);
    }

    pub(super) fn connected(&self, address: Option<IpAddr>) {
        let mut state = self.0.lock();
        state.connect = state.end_phase();
        state.remote = address;
    }

    pub(super) fn encrypted(&self) {
        let mut state = self.0.lock();
        state.tls = state.end_phase();
    }
}

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
            remote: used.phases().0.lock().remote,
            first_byte,
            ..phases
        }
    }
}

fn of_connection(phases: &ConnectPhases) -> RequestPhases {
    let state = *phases.0.lock();
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
