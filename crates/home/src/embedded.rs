//! The embedded queue as a broker.
//!
//! A delivery's row is its own entry in the queue, so handing an attempt on means no more than
//! waking whoever waits for one: what is owed was durable with the commit before.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use hookline_broker::contract::{
    DeadWaiting, EventSource, PublishedEvents, Publisher, QueueError, Receipt, Scheduled, Source,
    Taken,
};
use hookline_core::delivery::OwedAttempt;
use hookline_core::operations::WebhookDisabled;
use hookline_core::timestamp::Timestamp;
use hookline_core::trace::TraceParent;
use hookline_store::{EmbeddedQueue, QueuedEvents, Store, StoreError, TakenAttempt};
use tokio::sync::Notify;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

/// How long a message may be in somebody's hands. It only counts for what was taken and dropped
/// in this very process: an earlier one's leases are void from the start.
const LEASE: Duration = Duration::from_secs(300);

/// How long a source sleeps at most before it looks again.
const NAP: Duration = Duration::from_secs(5);

/// How long a source waits when the store fails.
const REST: Duration = Duration::from_secs(1);

/// A folder that this process alone delivers from.
pub struct Embedded {
    /// What it remembers.
    pub store: Store,
    /// Its queues.
    pub queues: Arc<Queues>,
}

/// Both queues of a folder.
pub struct Queues {
    queue: EmbeddedQueue,
    events: Notify,
    attempts: Notify,
    events_stopped: CancellationToken,
    attempts_stopped: CancellationToken,
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
        let queues = Queues {
            queue,
            events: Notify::new(),
            attempts: Notify::new(),
            events_stopped: CancellationToken::new(),
            attempts_stopped: CancellationToken::new(),
        };
        Ok(Self {
            store,
            queues: Arc::new(queues),
        })
    }
}

#[async_trait]
impl Publisher for Queues {
    async fn publish_events(&self, events: PublishedEvents) -> Result<(), QueueError> {
        let trace = events.trace.map(|trace| trace.to_string());
        self.queue
            .push_events(events.body.into(), events.content_type, trace, events.turn)
            .await
            .map_err(unavailable)?;
        self.events.notify_one();
        Ok(())
    }

    async fn publish_attempts(&self, attempts: &[Scheduled]) -> Result<(), QueueError> {
        if !attempts.is_empty() {
            self.attempts.notify_one();
        }
        Ok(())
    }

    /// There is no exchange that anybody could listen to: the log says it, as in every home.
    async fn announce(&self, _: &[WebhookDisabled]) -> Result<(), QueueError> {
        Ok(())
    }

    async fn attempts_waiting(&self) -> Result<u64, QueueError> {
        self.queue
            .attempts_waiting(now())
            .await
            .map_err(unavailable)
    }

    async fn dead_waiting(&self) -> Result<DeadWaiting, QueueError> {
        let [events, deliveries] = self.queue.dead_letters().await.map_err(unavailable)?;
        Ok(DeadWaiting { events, deliveries })
    }

    fn is_ready(&self) -> bool {
        self.queue.is_ready()
    }
}

#[async_trait]
impl Source<PublishedEvents> for Queues {
    async fn take(&self, max: usize) -> Vec<Taken<PublishedEvents>> {
        while !self.events_stopped.is_cancelled() {
            match self.queue.take_events(max, now(), now().after(LEASE)).await {
                Ok(taken) if taken.is_empty() => match self.queue.next_events().await {
                    Ok(next) => {
                        let rest = next.map_or(NAP, |next| next.remaining(now()).min(NAP));
                        let news = self.events.notified();
                        nap(rest, news, &self.events_stopped).await;
                    }
                    Err(why) => rest_after(&why).await,
                },
                Ok(taken) => {
                    // There may be more, for another taker.
                    self.events.notify_one();
                    return taken.into_iter().map(Self::event).collect();
                }
                Err(why) => rest_after(&why).await,
            }
        }
        Vec::new()
    }

    async fn ack(&self, taken: Vec<Taken<PublishedEvents>>) {
        let ids = taken
            .iter()
            .map(|message| entry_of(message.receipt))
            .collect();
        if let Err(why) = self.queue.ack_events(ids).await {
            tracing::warn!(error = %why, "could not ack events; they come again");
        }
    }

    async fn release(&self, taken: Vec<Taken<PublishedEvents>>) {
        let ids = taken
            .iter()
            .map(|message| entry_of(message.receipt))
            .collect();
        if let Err(why) = self.queue.release_events(ids).await {
            tracing::warn!(error = %why, "could not release events; they come again later");
        }
        self.events.notify_one();
    }

    async fn put_back(&self, taken: Vec<Taken<PublishedEvents>>) {
        let ids = taken
            .iter()
            .map(|message| entry_of(message.receipt))
            .collect();
        if let Err(why) = self.queue.put_back_events(ids).await {
            tracing::warn!(error = %why, "could not put events back; they come again later");
        }
        self.events.notify_one();
    }

    fn stop(&self) {
        self.events_stopped.cancel();
    }

    /// Nobody else delivers from the folder.
    fn holds(&self, _: &Taken<PublishedEvents>) -> bool {
        true
    }

    async fn bury(&self, taken: Taken<PublishedEvents>, reason: &str) -> Result<(), QueueError> {
        self.queue
            .bury_events(entry_of(taken.receipt), reason.to_owned(), now())
            .await
            .map_err(unavailable)
    }

    fn is_ready(&self) -> bool {
        self.queue.is_ready()
    }
}

#[async_trait]
impl EventSource for Queues {
    async fn put_off(&self, taken: &[Taken<PublishedEvents>]) -> Result<(), QueueError> {
        let turns = taken
            .iter()
            .map(|one| (entry_of(one.receipt), one.message.turn.unwrap_or_else(now)))
            .collect();
        self.queue.put_off_events(turns).await.map_err(unavailable)
    }
}

#[async_trait]
impl Source<OwedAttempt> for Queues {
    async fn take(&self, max: usize) -> Vec<Taken<OwedAttempt>> {
        while !self.attempts_stopped.is_cancelled() {
            match self
                .queue
                .take_attempts(max, now(), now().after(LEASE))
                .await
            {
                Ok(taken) if taken.is_empty() => match self.queue.next_due().await {
                    Ok(due) => {
                        let rest = due.map_or(NAP, |due| due.remaining(now()).min(NAP));
                        let news = self.attempts.notified();
                        nap(rest, news, &self.attempts_stopped).await;
                    }
                    Err(why) => rest_after(&why).await,
                },
                Ok(taken) => return taken.into_iter().map(Self::attempt).collect(),
                Err(why) => rest_after(&why).await,
            }
        }
        Vec::new()
    }

    /// The row has moved on with the record of its attempt, and its entry with it.
    async fn ack(&self, _: Vec<Taken<OwedAttempt>>) {}

    async fn release(&self, taken: Vec<Taken<OwedAttempt>>) {
        let ids = taken
            .iter()
            .map(|message| message.message.delivery)
            .collect();
        if let Err(why) = self.queue.release_attempts(ids).await {
            tracing::warn!(error = %why, "could not release attempts; they come again later");
        }
        self.attempts.notify_one();
    }

    async fn put_back(&self, taken: Vec<Taken<OwedAttempt>>) {
        let ids = taken
            .iter()
            .map(|message| message.message.delivery)
            .collect();
        if let Err(why) = self.queue.put_back_attempts(ids).await {
            tracing::warn!(error = %why, "could not put attempts back; they come again later");
        }
        self.attempts.notify_one();
    }

    fn stop(&self) {
        self.attempts_stopped.cancel();
    }

    /// Nobody else delivers from the folder.
    fn holds(&self, _: &Taken<OwedAttempt>) -> bool {
        true
    }

    async fn bury(&self, taken: Taken<OwedAttempt>, reason: &str) -> Result<(), QueueError> {
        self.queue
            .bury_attempt(taken.message, reason.to_owned(), now())
            .await
            .map_err(unavailable)
    }

    fn is_ready(&self) -> bool {
        self.queue.is_ready()
    }
}

impl Queues {
    fn event(entry: QueuedEvents) -> Taken<PublishedEvents> {
        Taken {
            redelivered: entry.takes > 1,
            returns: returns(entry.takes),
            receipt: Receipt {
                session: 0,
                tag: entry.id.unsigned_abs(),
            },
            message: PublishedEvents {
                body: entry.body.into(),
                content_type: entry.content_type,
                trace: entry.traceparent.as_deref().and_then(TraceParent::parse),
                turn: entry.turn.map(Timestamp::from_unix_micros),
            },
        }
    }

    fn attempt(entry: TakenAttempt) -> Taken<OwedAttempt> {
        Taken {
            message: entry.owed,
            redelivered: entry.takes > 1,
            returns: returns(entry.takes),
            receipt: Receipt { session: 0, tag: 0 },
        }
    }
}

fn entry_of(receipt: Receipt) -> i64 {
    receipt.tag.cast_signed()
}

/// This time does not count.
fn returns(takes: i32) -> u32 {
    u32::try_from(takes - 1).unwrap_or(0)
}

fn now() -> Timestamp {
    Timestamp::from(SystemTime::now())
}

fn unavailable(why: StoreError) -> QueueError {
    QueueError::Unavailable(why.to_string())
}

/// Until there is news, or none is wanted any more.
async fn nap(longest: Duration, news: impl Future<Output = ()>, stopped: &CancellationToken) {
    tokio::select! {
        _ = timeout(longest, news) => {}
        () = stopped.cancelled() => {}
    }
}

async fn rest_after(why: &StoreError) {
    tracing::warn!(error = %why, "could not take from the embedded queue, trying again");
    tokio::time::sleep(REST).await;
}
