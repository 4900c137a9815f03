//! The queue of the standalone deployment mode: a folder in place of a database server and a broker.
//!
//! Published events go from the publisher to intake in memory. An event that intake does not take in at once is written
//! into the queue of the store (`hookline_store::EmbeddedQueue`), which lies in the same SQLite file as the rows.

mod consumer;
mod event_queue;
mod handoff_queue;
mod last_time;
mod pending_publishes;
mod shutdown_marker;

use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use hookline_core::operational_events::WebhookDisabled;
use hookline_queue::{
    EventConsumer, PublishedEvents, Publisher, QueueError, Scheduled, WakeUpTimer, WakeUps,
};
use hookline_runtime::panics;
use hookline_store::{CLOCK_TOLERANCE, EmbeddedQueue, Store, StoreError};

use crate::event_queue::{EventQueue, unavailable};
use crate::last_time::LastTime;
use crate::shutdown_marker::ShutdownMarker;

/// A folder that this process has locked.
pub struct Embedded {
    pub store: Store,
    pub events: Arc<dyn EventConsumer>,
    pub publisher: Arc<EmbeddedPublisher>,
    pub wake_ups: Arc<dyn WakeUps>,
    marker: ShutdownMarker,
}

/// Publishes to the same process.
pub struct EmbeddedPublisher {
    queue: EmbeddedQueue,
    events: EventQueue,
    wake_ups: Arc<WakeUpTimer>,
}

impl Embedded {
    /// Opens a folder, creates it if it is missing, and makes the messages visible that an earlier process had received.
    ///
    /// # Errors
    /// When the folder cannot be used or another process has locked it.
    pub async fn open(folder: &Path) -> Result<Self, StoreError> {
        let (store, queue) = Store::embedded(folder)?;
        queue.void_leases().await?;
        let last_time = LastTime::of(folder);
        let back = last_time.went_back(hookline_clock::now());
        if back >= CLOCK_TOLERANCE {
            tracing::warn!(
                ?back,
                "the clock was set back since the last process: moved due times"
            );
            queue.move_due_times(back).await?;
        }
        tokio::spawn(panics::fatal("clock", last_time.keep_writing()));
        let (marker, last) = ShutdownMarker::create(folder);
        let events = EventQueue::new(queue.clone(), last);
        let publisher = EmbeddedPublisher {
            queue,
            events: events.clone(),
            wake_ups: Arc::default(),
        };
        Ok(Self {
            store,
            events: Arc::new(events),
            wake_ups: publisher.wake_ups.clone(),
            publisher: Arc::new(publisher),
            marker,
        })
    }

    /// Marks the shutdown as clean: every received message is settled.
    pub fn end(self) {
        self.marker.remove();
    }
}

#[async_trait]
impl Publisher for EmbeddedPublisher {
    async fn publish_events(&self, events: PublishedEvents) -> Result<(), QueueError> {
        self.events.publish(events).await
    }

    fn wake(&self, due: &[Scheduled]) {
        self.wake_ups.add(due);
    }

    /// A folder has no exchange for operational events. The log has them in both deployment modes.
    async fn announce(&self, _: &[WebhookDisabled]) -> Result<(), QueueError> {
        Ok(())
    }

    async fn rejected_count(&self) -> Result<u64, QueueError> {
        let [events, _] = self.queue.dead_letters().await.map_err(unavailable)?;
        Ok(events)
    }

    fn is_ready(&self) -> bool {
        self.queue.is_ready()
    }
}
