//! Publishing events: in memory to intake if possible, else into the queue of the store.

use std::sync::Arc;
use std::time::Duration;

use hookline_clock::now;
use hookline_queue::{PublishedEvents, QueueError, Receipt, ReceivedMessage};
use hookline_store::{EmbeddedQueue, NewEvents, StoreError};
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout};

use crate::handoff_queue::HandoffQueue;
use crate::pending_publishes::{PendingPublishes, PublishOutcome};
use crate::shutdown_marker::LastShutdown;

/// Bytes of events that are handed over in memory at once.
const CAPACITY: usize = 8 * 1024 * 1024;

/// How long unwritten events wait for intake. Then they are written into the queue: their publisher waits only until
/// they are durable, and a large fan-out takes long.
const WRITE_AFTER: Duration = Duration::from_millis(100);

/// How long a received entry stays invisible to others. It is long because a large fan-out takes long, and matters only
/// for messages that this same process received and dropped.
pub(crate) const LEASE: Duration = Duration::from_secs(3_600);

/// How long events are written before they are received, after an unclean shutdown. An event may have ended the process.
/// It is found and dead-lettered only if it is still there after the next crash.
const WRITE_AHEAD_FOR: Duration = Duration::from_secs(60);

/// Clones are the same queue.
#[derive(Clone)]
pub(crate) struct EventQueue {
    pub(crate) queue: EmbeddedQueue,
    pub(crate) handoff: Arc<HandoffQueue<PublishedEvents>>,
    pub(crate) publishes: Arc<PendingPublishes>,
    write_ahead_until: Option<Instant>,
}

impl EventQueue {
    pub(crate) fn new(queue: EmbeddedQueue, last: LastShutdown) -> Self {
        Self {
            queue,
            handoff: Arc::new(HandoffQueue::new(CAPACITY, |events: &PublishedEvents| {
                events.body.len()
            })),
            publishes: Arc::default(),
            write_ahead_until: match last {
                LastShutdown::Clean => None,
                LastShutdown::Unclean => Some(Instant::now() + WRITE_AHEAD_FOR),
            },
        }
    }

    /// Returns once the events are durable. The work runs in a task, which goes on when the caller is dropped: an entry that
    /// was written with a lease must be handed over.
    pub(crate) async fn publish(&self, events: PublishedEvents) -> Result<(), QueueError> {
        let publishing = tokio::spawn(self.clone().make_durable(events));
        publishing
            .await
            .unwrap_or_else(|died| Err(QueueError::Unavailable(died.to_string())))
    }

    async fn make_durable(self, events: PublishedEvents) -> Result<(), QueueError> {
        let has_room = self.handoff.room() >= events.body.len();
        if !has_room {
            return self.write(events).await.map_err(unavailable);
        }
        if self.writes_ahead() {
            return self.write_and_hand_over(events).await.map_err(unavailable);
        }
        let (receipt, mut outcome) = self.hand_over(&events);
        match self.outcome_of(&events, receipt, &mut outcome).await {
            Some(PublishOutcome::Durable) => Ok(()),
            Some(PublishOutcome::Unwritten { receive_count }) => {
                let written = self
                    .queue
                    .defer_events(Vec::new(), vec![(new_events(&events), receive_count)]);
                written.await.map_err(unavailable)?;
                self.handoff.poll_by(events.due.unwrap_or_else(now));
                Ok(())
            }
            None => Err(QueueError::Unavailable("intake has ended".to_owned())),
        }
    }

    /// Also while the store cannot be written: the publisher gets the error at once then.
    fn writes_ahead(&self) -> bool {
        let is_early = |until| Instant::now() < until;
        self.write_ahead_until.is_some_and(is_early) || !self.queue.is_ready()
    }

    fn hand_over(&self, events: &PublishedEvents) -> (Receipt, oneshot::Receiver<PublishOutcome>) {
        let (receipt, outcome) = self.publishes.begin();
        self.handoff.push([ReceivedMessage {
            message: events.clone(),
            redelivered: false,
            delivery_count: 0,
            receipt,
        }]);
        (receipt, outcome)
    }

    /// Waits until the events are durable or intake has returned them. None if intake has ended.
    async fn outcome_of(
        &self,
        events: &PublishedEvents,
        receipt: Receipt,
        outcome: &mut oneshot::Receiver<PublishOutcome>,
    ) -> Option<PublishOutcome> {
        if let Ok(outcome) = timeout(WRITE_AFTER, &mut *outcome).await {
            return outcome.ok();
        }
        if self.handoff.withdraw(receipt) {
            let unwritten = PublishOutcome::Unwritten { receive_count: 0 };
            self.publishes.finish([receipt], unwritten);
            return outcome.await.ok();
        }
        let lease = Some(now().after(LEASE));
        let Ok(entry) = self.queue.push_events(new_events(events), lease).await else {
            // Intake goes on trying, too.
            return outcome.await.ok();
        };
        if self.publishes.mark_written(receipt, entry) {
            return Some(PublishOutcome::Durable);
        }
        let outcome = outcome.await.ok()?;
        self.settle_late(entry, outcome).await;
        Some(PublishOutcome::Durable)
    }

    /// For an entry that was written while the outcome of its events was decided.
    pub(crate) async fn settle_late(&self, entry: i64, outcome: PublishOutcome) {
        let settled = match outcome {
            PublishOutcome::Durable => self.queue.ack_events(vec![entry]).await,
            PublishOutcome::Unwritten { receive_count: 0 } => {
                self.queue.requeue_events_uncounted(vec![entry]).await
            }
            PublishOutcome::Unwritten { .. } => self.queue.requeue_events(vec![entry]).await,
        };
        if let Err(why) = settled {
            tracing::warn!(error = %why, "cannot settle events; they come again later");
        }
        self.handoff.poll_by(now());
    }

    async fn write(&self, events: PublishedEvents) -> Result<(), StoreError> {
        self.queue.push_events(new_events(&events), None).await?;
        self.handoff.poll_by(now());
        Ok(())
    }

    async fn write_and_hand_over(&self, events: PublishedEvents) -> Result<(), StoreError> {
        let lease = Some(now().after(LEASE));
        let id = self.queue.push_events(new_events(&events), lease).await?;
        self.handoff.push([received(events, id, 1)]);
        Ok(())
    }
}

/// An entry that was received `receive_count` times, this time included.
pub(crate) fn received(
    events: PublishedEvents,
    entry: i64,
    receive_count: i32,
) -> ReceivedMessage<PublishedEvents> {
    ReceivedMessage {
        message: events,
        redelivered: receive_count > 1,
        delivery_count: u32::try_from(receive_count - 1).unwrap_or(0),
        receipt: Receipt {
            session: 0,
            tag: entry.unsigned_abs(),
        },
    }
}

pub(crate) fn new_events(events: &PublishedEvents) -> NewEvents {
    NewEvents {
        body: events.body.clone(),
        content_type: events.content_type.clone(),
        traceparent: events.trace.map(|trace| trace.to_string()),
        admitted_at: events.due,
    }
}

pub(crate) fn unavailable(why: StoreError) -> QueueError {
    QueueError::Unavailable(why.to_string())
}
