//! The embedded queue as a broker.
//!
//! A delivery's row is its own entry in the queue, so handing an attempt on means no more than
//! telling whoever waits for one: what is owed was durable with the commit before.

mod desk;

use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use async_trait::async_trait;
use hookline_broker::contract::{
    Coming, DeadWaiting, EventSource, PublishedEvents, Publisher, QueueError, Receipt, Scheduled,
    Source, Taken,
};
use hookline_core::delivery::OwedAttempt;
use hookline_core::ids::DeliveryId;
use hookline_core::operations::WebhookDisabled;
use hookline_core::timestamp::Timestamp;
use hookline_core::trace::TraceParent;
use hookline_store::{
    EmbeddedQueue, LEASE, NewEvents, QueuedEvents, Store, StoreError, TakenAttempt,
};

use self::desk::{Desk, Look};

/// How many bytes of events go from hand to hand; what is more is taken from the queue.
const EVENTS_ROOM: usize = 8 * 1024 * 1024;

/// How many attempts do.
const ATTEMPTS_ROOM: usize = 65_536;

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
    events: Arc<Desk<PublishedEvents>>,
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
        let queues = Queues {
            queue,
            events: Arc::new(Desk::new(EVENTS_ROOM, |events| events.body.len())),
            attempts: Desk::new(ATTEMPTS_ROOM, |_| 1),
        };
        Ok(Self {
            store: store.handing_on(),
            queues: Arc::new(queues),
        })
    }
}

#[async_trait]
impl Publisher for Queues {
    /// A caller who goes away meanwhile leaves it to end by itself: what is written as taken has to
    /// be handed over.
    async fn publish_events(&self, events: PublishedEvents) -> Result<(), QueueError> {
        let (queue, desk) = (self.queue.clone(), Arc::clone(&self.events));
        let pushing = tokio::spawn(async move {
            let goes_by_hand = desk.room() >= events.body.len();
            let new = new_events(&events);
            let lease = goes_by_hand.then(|| now().after(LEASE));
            let id = queue.push_events(new, lease).await?;
            match goes_by_hand {
                true => desk.hand([taken(events, id, 1)]),
                false => desk.look_by(now()),
            }
            Ok(())
        });
        let pushed: Result<(), StoreError> = pushing
            .await
            .map_err(|died| QueueError::Unavailable(died.to_string()))?;
        pushed.map_err(unavailable)
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
        self.attempts.hand(by_hand.iter().map(|attempt| {
            let (owed, takes) = (attempt.owed, 1);
            Self::attempt(TakenAttempt { owed, takes })
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
        let queue = &self.queue;
        let look = || async move {
            let found = queue.take_events(max, now(), now().after(LEASE)).await?;
            if found.is_empty() {
                return Ok(Look::Nothing(queue.next_events().await?));
            }
            Ok(Look::Found(found.into_iter().map(Self::event).collect()))
        };
        self.events.take_or_look(max, look).await
    }

    async fn ack(&self, taken: Vec<Taken<PublishedEvents>>) {
        if let Err(why) = self.queue.ack_events(entries_of(&taken)).await {
            tracing::warn!(error = %why, "could not ack events; they come again");
        }
    }

    async fn release(&self, taken: Vec<Taken<PublishedEvents>>) {
        if let Err(why) = self.queue.release_events(entries_of(&taken)).await {
            tracing::warn!(error = %why, "could not release events; they come again later");
        }
        self.events.look_by(now());
    }

    async fn put_back(&self, taken: Vec<Taken<PublishedEvents>>) {
        if let Err(why) = self.queue.put_back_events(entries_of(&taken)).await {
            tracing::warn!(error = %why, "could not put events back; they come again later");
        }
        self.events.look_by(now());
    }

    fn stop(&self) {
        self.events.stop();
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
    async fn put_off(
        &self,
        taken: &[Taken<PublishedEvents>],
        coming: &[Coming],
    ) -> Result<(), QueueError> {
        let soonest = coming.iter().filter_map(|one| one.message.turn).min();
        let coming = coming.iter().map(|Coming { message, returns }| {
            let takes = i32::try_from(*returns).unwrap_or(i32::MAX);
            (new_events(message), takes)
        });
        let put_off = self
            .queue
            .put_off_events(entries_of(taken), coming.collect());
        put_off.await.map_err(unavailable)?;
        self.events.look_by(soonest.unwrap_or_else(now));
        Ok(())
    }
}

#[async_trait]
impl Source<OwedAttempt> for Queues {
    async fn take(&self, max: usize) -> Vec<Taken<OwedAttempt>> {
        let queue = &self.queue;
        let look = || async move {
            let found = queue.take_attempts(max, now(), now().after(LEASE)).await?;
            if found.is_empty() {
                return Ok(Look::Nothing(queue.next_due().await?));
            }
            Ok(Look::Found(found.into_iter().map(Self::attempt).collect()))
        };
        self.attempts.take_or_look(max, look).await
    }

    /// The row has moved on with the record of its attempt, and its entry with it.
    async fn ack(&self, _: Vec<Taken<OwedAttempt>>) {}

    async fn release(&self, taken: Vec<Taken<OwedAttempt>>) {
        if let Err(why) = self.queue.release_attempts(deliveries_of(&taken)).await {
            tracing::warn!(error = %why, "could not release attempts; they come again later");
        }
        self.attempts.look_by(now());
    }

    async fn put_back(&self, taken: Vec<Taken<OwedAttempt>>) {
        if let Err(why) = self.queue.put_back_attempts(deliveries_of(&taken)).await {
            tracing::warn!(error = %why, "could not put attempts back; they come again later");
        }
        self.attempts.look_by(now());
    }

    fn stop(&self) {
        self.attempts.stop();
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

/// An entry of the queue that was taken so often, this time included.
fn taken(events: PublishedEvents, id: i64, takes: i32) -> Taken<PublishedEvents> {
    Taken {
        message: events,
        redelivered: takes > 1,
        returns: returns(takes),
        receipt: Receipt {
            session: 0,
            tag: id.unsigned_abs(),
        },
    }
}

impl Queues {
    fn event(entry: QueuedEvents) -> Taken<PublishedEvents> {
        let events = PublishedEvents {
            body: entry.body.into(),
            content_type: entry.content_type,
            trace: entry.traceparent.as_deref().and_then(TraceParent::parse),
            turn: entry.turn.map(Timestamp::from_unix_micros),
        };
        taken(events, entry.id, entry.takes)
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

fn entries_of(taken: &[Taken<PublishedEvents>]) -> Vec<i64> {
    taken.iter().map(|one| entry_of(one.receipt)).collect()
}

fn deliveries_of(taken: &[Taken<OwedAttempt>]) -> Vec<DeliveryId> {
    taken.iter().map(|one| one.message.delivery).collect()
}

fn entry_of(receipt: Receipt) -> i64 {
    receipt.tag.cast_signed()
}

fn new_events(events: &PublishedEvents) -> NewEvents {
    NewEvents {
        body: events.body.clone(),
        content_type: events.content_type.clone(),
        traceparent: events.trace.map(|trace| trace.to_string()),
        turn: events.turn,
    }
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
