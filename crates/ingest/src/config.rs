//! The dependencies and limits of ingest.

use std::sync::Arc;

use hookline_core::rate_limit::Rate;
use hookline_queue::{EventConsumer, Publisher};
use hookline_runtime::settings::Settings;
use hookline_store::Store;

#[derive(Clone)]
pub struct Ingest {
    pub store: Store,
    pub events: Arc<dyn EventConsumer>,
    pub publisher: Arc<dyn Publisher>,
    pub policy: IngestPolicy,
    /// Held during a trial of suspects. Ingest and dispatcher share it in one process. A suspect is charged if the
    /// process ends during its trial, even if the other service's suspect ended it.
    pub trial: Arc<tokio::sync::Mutex<()>>,
}

#[derive(Debug, Clone)]
pub struct IngestPolicy {
    /// The largest number of messages in a batch.
    pub batch: usize,
    /// The largest number of messages that are received and not settled.
    pub prefetch: usize,
    /// While more deliveries than this are due, no further events are stored.
    pub max_waiting: u64,
    /// Further events of an organization are deferred.
    pub events_of_organization: Option<Rate>,
    /// Bytes of stored events. Events of an organization above it are deferred.
    pub max_stored_bytes: Option<u64>,
    /// A message that was charged with this many crashes is dead-lettered.
    pub give_up_after: u32,
}

impl From<&Settings> for IngestPolicy {
    fn from(settings: &Settings) -> Self {
        Self {
            batch: settings.ingest.batch,
            prefetch: settings.ingest.prefetch.into(),
            max_waiting: settings.ingest.max_waiting,
            events_of_organization: settings.limits.event_rate(),
            max_stored_bytes: settings.limits.stored_bytes(),
            give_up_after: settings.poison.give_up_after,
        }
    }
}
