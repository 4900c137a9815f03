//! The embedded queue as a broker.
//!
//! A delivery's row is its own entry in the queue, so handing an attempt on means no more than
//! telling whoever waits for one: what is owed was durable with the commit before.

mod attempts;
mod desk;
mod events;
mod last_time;
mod life;
mod unwritten;

use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use hookline_broker::contract::{
    Ahead, DeadWaiting, EventSource, PublishedEvents, Publisher, QueueError, Scheduled,
};
use hookline_core::delivery::OwedAttempt;
use hookline_core::operations::WebhookDisabled;
use hookline_core::timestamp::Timestamp;
use hookline_runtime::panics;
use hookline_store::{CLOCK_TOLERANCE, EmbeddedQueue, Store, StoreError, TakenAttempt};

use self::attempts::attempt;
use self::desk::Desk;
use self::events::Events;
use self::last_time::LastTime;
use self::life::Life;

/// How many attempts go from hand to hand; what is more is taken from the queue.
const ATTEMPTS_ROOM: usize = 65_536;

/// A folder that this process alone delivers from.
pub struct Embedded {
    /// What it remembers.
    pub store: Store,
    /// Where published events come from.
    pub events: Arc<dyn EventSource>,
    /// Where attempts come from, and where everything is published.
    pub queues: Arc<Queues>,
    life: Life,
}

/// Both queues of a folder.
pub struct Queues {
    queue: EmbeddedQueue,
    events: Events,
    attempts: Desk<OwedAttempt>,
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
            attempts: Desk::new(ATTEMPTS_ROOM, |_| 1),
        };
        Ok(Self {
            store: store.handing_on(),
            events: Arc::new(events),
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

    async fn publish_attempts(&self, attempts: &[Scheduled]) -> Result<(), QueueError> {
        if let Some(soonest) = attempts.iter().map(|attempt| attempt.delay).min() {
            self.attempts.look_by(now().after(soonest));
        }
        Ok(())
    }

    /// They were written as taken.
    async fn publish_first(&self, attempts: &[Scheduled]) -> Result<(), QueueError> {
        let room = self.attempts.room().min(attempts.len());
        let (by_hand, others) = attempts.split_at(room);
        if !others.is_empty() {
            let ids = others.iter().map(|other| other.owed.delivery).collect();
            let put_back = self.queue.put_back_attempts(ids);
            put_back.await.map_err(unavailable)?;
            self.attempts.look_by(now());
        }
        self.attempts.hand(by_hand.iter().map(|scheduled| {
            let (owed, takes) = (scheduled.owed, 1);
            attempt(TakenAttempt { owed, takes })
        }));
        Ok(())
    }

    /// There is no exchange that anybody could listen to: the log says it, as in every home.
    async fn announce(&self, _: &[WebhookDisabled]) -> Result<(), QueueError> {
        Ok(())
    }

    async fn attempts_waiting(&self) -> Result<u64, QueueError> {
        let waiting = self.queue.attempts_waiting(now()).await;
        Ok(waiting.map_err(unavailable)? + self.attempts.len() as u64)
    }

    /// What comes out of the queue takes turns with what is handed over.
    async fn ahead(&self) -> Result<Ahead, QueueError> {
        Ok(Ahead {
            attempts: self.attempts.len() as u64,
            is_consumed: true,
        })
    }

    async fn dead_waiting(&self) -> Result<DeadWaiting, QueueError> {
        let [events, deliveries] = self.queue.dead_letters().await.map_err(unavailable)?;
        Ok(DeadWaiting { events, deliveries })
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
