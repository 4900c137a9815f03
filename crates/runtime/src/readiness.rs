//! Whether a process can do its work now, asked anew each time: a connection that died shows at
//! once, and nobody has to remember to say so.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};

use serde::Serialize;
use tokio_util::sync::CancellationToken;

type Probe = Arc<dyn Fn() -> bool + Send + Sync>;

/// The parts of a process that must all be ready. Clones are the same list.
#[derive(Clone, Default)]
pub struct Readiness {
    stopping: CancellationToken,
    parts: Arc<RwLock<BTreeMap<&'static str, Probe>>>,
}

/// The answer of `/readyz`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Report {
    /// All parts together.
    pub status: Status,
    /// Each part, and whether it is ready.
    pub parts: BTreeMap<&'static str, bool>,
}

/// Whether a process can do its work.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub enum Status {
    /// It can.
    #[serde(rename = "ready")]
    Ready,
    /// Some part cannot, or the process is still at its start.
    #[serde(rename = "not ready")]
    NotReady,
    /// It finishes what it has, and wants no more.
    #[serde(rename = "stopping")]
    Stopping,
}

impl Readiness {
    /// No part yet; and never ready any more once `stopping` is cancelled.
    pub fn until(stopping: CancellationToken) -> Self {
        Self {
            stopping,
            parts: Arc::default(),
        }
    }

    /// Adds a part. `is_ready` is asked on every request, so it must answer without waiting.
    pub fn register(
        &self,
        part: &'static str,
        is_ready: impl Fn() -> bool + Send + Sync + 'static,
    ) {
        let mut parts = self.parts.write().unwrap_or_else(PoisonError::into_inner);
        parts.insert(part, Arc::new(is_ready));
    }

    /// Asks every part. A process that has registered none yet is not ready.
    pub fn report(&self) -> Report {
        let probes = self
            .parts
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        let parts = probes
            .into_iter()
            .map(|(part, is_ready)| (part, is_ready()))
            .collect::<BTreeMap<_, _>>();
        let all = !parts.is_empty() && parts.values().all(|ready| *ready);
        let status = match all {
            _ if self.stopping.is_cancelled() => Status::Stopping,
            true => Status::Ready,
            false => Status::NotReady,
        };
        Report { status, parts }
    }
}

impl Report {
    /// Whether every part is ready.
    pub fn is_ready(&self) -> bool {
        self.status == Status::Ready
    }
}

impl fmt::Debug for Readiness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts = self.parts.read().unwrap_or_else(PoisonError::into_inner);
        f.debug_set().entries(parts.keys()).finish()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;

    fn json(readiness: &Readiness) -> String {
        serde_json::to_string(&readiness.report()).unwrap()
    }

    #[test]
    fn a_process_is_ready_while_every_part_is() {
        let broker = Arc::new(AtomicBool::new(false));
        let readiness = Readiness::default();
        readiness.register("store", || true);
        let seen = Arc::clone(&broker);
        readiness
            .clone()
            .register("broker", move || seen.load(Ordering::Relaxed));
        assert_eq!(
            json(&readiness),
            r#"{"status":"not ready","parts":{"broker":false,"store":true}}"#
        );
        broker.store(true, Ordering::Relaxed);
        assert_eq!(
            json(&readiness),
            r#"{"status":"ready","parts":{"broker":true,"store":true}}"#
        );
    }

    #[test]
    fn a_process_that_stops_is_not_ready_however_well_its_parts_are() {
        let stopping = CancellationToken::new();
        let readiness = Readiness::until(stopping.clone());
        readiness.register("store", || true);
        assert!(readiness.report().is_ready());
        stopping.cancel();
        assert_eq!(
            json(&readiness),
            r#"{"status":"stopping","parts":{"store":true}}"#
        );
        assert!(!readiness.report().is_ready());
    }

    #[test]
    fn a_process_without_parts_is_not_ready_yet() {
        assert!(!Readiness::default().report().is_ready());
    }
}
