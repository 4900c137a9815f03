//! A folder in place of a database server and a broker.

mod desk;
mod events;
mod last_time;
mod life;
mod unwritten;

use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use hookline_core::operations::WebhookDisabled;
use hookline_core::timestamp::Timestamp;
use hookline_queue::Timer;
use hookline_queue::{EventSource, PublishedEvents, Publisher, QueueError, Scheduled, WakeUps};
use hookline_runtime::panics;
use hookline_store::{CLOCK_TOLERANCE, EmbeddedQueue, Store, StoreError};

use self::events::Events;
use self::last_time::LastTime;
use self::life::Life;

/// A folder that this process alone delivers from.
pub struct Embedded {
    /// What it remembers.
    pub store: Store,
    /// Where published events come from.
    pub events: Arc<dyn EventSource>,
    /// Where everything is published.
    pub queues: Arc<Queues>,
    /// Where wake-ups come from.
    pub wake_ups: Arc<dyn WakeUps>,
    life: Life,
}

/// The queues of a process that hands work on to itself.
pub struct Queues {
    queue: EmbeddedQueue,
    events: Events,
    wake_ups: Arc<Timer>,
}

impl Embedded {
    /// Opens a folder, makes it where there is none, and takes back what an earlier process had
    /// in its hands.
    ///
    /// # Errors
    /// [`StoreError`] when the folder cannot be used or another process delivers from it.
    pub async fn open(folder: &Path) -> Result<Self, StoreError> {
        let (store, queue) = Store::embedded(folder)?;
        queue.void_leases().await?;
        let last_time = LastTime::of(folder);
        let back = last_time.went_back(now());
        if back >= CLOCK_TOLERANCE {
            tracing::warn!(
                ?back,
                "the clock was set back since the last process: moved what is due"
            );
            queue.move_due_times(back).await?;
        }
        tokio::spawn(panics::fatal("clock", last_time.keep_writing()));
        let (life, last) = Life::begin(folder);
        let events = Events::new(queue.clone(), last);
        let queues = Queues {
            queue,
            events: events.clone(),
            wake_ups: Arc::default(),
        };
        Ok(Self {
            store,
            events: Arc::new(events),
            wake_ups: queues.wake_ups.clone(),
            queues: Arc::new(queues),
            life,
        })
    }

    /// The process comes to a good end: nothing is in anybody's hands any more.
    pub fn end(self) {
        self.life.end();
    }
}

#[async_trait]
impl Publisher for Queues {
    async fn publish_events(&self, events: PublishedEvents) -> Result<(), QueueError> {
        self.events.publish(events).await
    }

    fn wake(&self, due: &[Scheduled]) {
        self.wake_ups.add(due);
    }

    /// There is no exchange that anybody could listen to: the log says it, as in every home.
    async fn announce(&self, _: &[WebhookDisabled]) -> Result<(), QueueError> {
        Ok(())
    }

    async fn rejected_waiting(&self) -> Result<u64, QueueError> {
        let [events, _] = self.queue.dead_letters().await.map_err(unavailable)?;
        Ok(events)
    }

    fn is_ready(&self) -> bool {
        self.queue.is_ready()
    }
}

/// This time does not count.
fn returns(takes: i32) -> u32 {
    u32::try_from(takes - 1).unwrap_or(0)
}

fn now() -> Timestamp {
    hookline_clock::now()
}

fn unavailable(why: StoreError) -> QueueError {
    QueueError::Unavailable(why.to_string())
}
