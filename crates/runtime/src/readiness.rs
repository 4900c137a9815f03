//! Readiness. Each request to `/readyz` asks all parts again, so a lost connection shows at once.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};

use serde::Serialize;
use tokio_util::sync::CancellationToken;

type ReadinessProbe = Arc<dyn Fn() -> bool + Send + Sync>;

/// The parts of a process that must all be ready. Clones share the list.
#[derive(Clone, Default)]
pub struct Readiness {
    stopping: CancellationToken,
    parts: Arc<RwLock<BTreeMap<&'static str, ReadinessProbe>>>,
}

/// The answer of `/readyz`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ReadinessReport {
    pub status: Status,
    pub parts: BTreeMap<&'static str, bool>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub enum Status {
    #[serde(rename = "ready")]
    Ready,
    /// A part is not ready, or the process is still starting.
    #[serde(rename = "not ready")]
    NotReady,
    /// The process finishes its work and takes no more.
    #[serde(rename = "stopping")]
    Stopping,
}

impl Readiness {
    /// Without parts. The process is not ready from the time when `stopping` is cancelled.
    pub fn until(stopping: CancellationToken) -> Self {
        Self {
            stopping,
            parts: Arc::default(),
        }
    }

    /// Adds a part. Each request calls `is_ready`, which must not wait.
    pub fn register(
        &self,
        part: &'static str,
        is_ready: impl Fn() -> bool + Send + Sync + 'static,
    ) {
        let mut parts = self.parts.write().unwrap_or_else(PoisonError::into_inner);
        parts.insert(part, Arc::new(is_ready));
    }

    /// A process without parts is not ready.
    pub fn report(&self) -> ReadinessReport {
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
        ReadinessReport { status, parts }
    }
}

impl ReadinessReport {
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
    fn a_process_that_stops_is_not_ready_even_if_its_parts_are() {
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
