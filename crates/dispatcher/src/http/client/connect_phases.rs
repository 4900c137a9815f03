//! The phases of making a connection for a request.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

tokio::task_local! {
    /// hyper-util tells a connector the URL of a request and nothing else. It calls the connector in the task of the
    /// request.
    pub(super) static OWN: OwnConnection;
}

/// The connection that a request made last, if it made one.
pub(super) type OwnConnection = Arc<Mutex<Option<Arc<ConnectPhases>>>>;

/// The phases of making a connection. A phase has a time once it has ended.
#[derive(Debug)]
pub(super) struct ConnectPhases(Mutex<PhaseState>);

#[derive(Debug, Clone, Copy)]
pub(super) struct PhaseState {
    /// The end of the last phase.
    at: Instant,
    pub(super) dns: Option<Duration>,
    pub(super) connect: Option<Duration>,
    pub(super) tls: Option<Duration>,
    /// The connected address; before that the first one that was dialled.
    pub(super) remote: Option<IpAddr>,
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

    pub(super) fn state(&self) -> PhaseState {
        *self.0.lock()
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
