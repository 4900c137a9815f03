//! [`EventConsumer`] on the hand-off queue and the queue of the store.

use std::collections::BTreeSet;

use async_trait::async_trait;
use hookline_clock::now;
use hookline_core::timestamp::Timestamp;
use hookline_core::trace::TraceParent;
use hookline_queue::{
    Author, Deferred, EventConsumer, PublishedEvents, QueueError, ReceivedMessage,
};
use hookline_store::{QueuedEvents, StoreError};

use crate::event_queue::{EventQueue, LEASE, new_events, received, unavailable};
use crate::handoff_queue::Poll;
use crate::pending_publishes::PublishOutcome;

impl EventQueue {
    /// Tells the publishers of unwritten events the outcome, and returns the entries of the others.
    fn finish(
        &self,
        received: &[ReceivedMessage<PublishedEvents>],
        outcome: PublishOutcome,
    ) -> Vec<i64> {
        let receipts = received.iter().map(|one| one.receipt);
        self.publishes.finish(receipts, outcome)
    }
}

#[async_trait]
impl EventConsumer for EventQueue {
    async fn receive(&self, max: usize) -> Vec<ReceivedMessage<PublishedEvents>> {
        let queue = &self.queue;
        let poll = || async move {
            let found = queue.take_events(max, now(), now().after(LEASE)).await?;
            if found.is_empty() {
                return Ok(Poll::Empty(queue.next_events().await?));
            }
            Ok(Poll::Found(found.into_iter().map(from_entry).collect()))
        };
        self.handoff.receive_or_poll(max, poll).await
    }

    async fn ack(&self, received: Vec<ReceivedMessage<PublishedEvents>>) {
        let entries = self.finish(&received, PublishOutcome::Durable);
        if entries.is_empty() {
            return;
        }
        if let Err(why) = self.queue.ack_events(entries).await {
            tracing::warn!(error = %why, "cannot ack events; they come again");
        }
    }

    async fn requeue(&self, received: Vec<ReceivedMessage<PublishedEvents>>) {
        let entries = self.finish(&received, PublishOutcome::Unwritten { receive_count: 1 });
        if let Err(why) = self.queue.requeue_events(entries).await {
            tracing::warn!(error = %why, "cannot requeue events; they come again later");
        }
        self.handoff.poll_by(now());
    }

    async fn requeue_uncounted(&self, received: Vec<ReceivedMessage<PublishedEvents>>) {
        let entries = self.finish(&received, PublishOutcome::Unwritten { receive_count: 0 });
        if let Err(why) = self.queue.requeue_events_uncounted(entries).await {
            tracing::warn!(error = %why, "cannot requeue events; they come again later");
        }
        self.handoff.poll_by(now());
    }

    async fn defer(
        &self,
        received: &[ReceivedMessage<PublishedEvents>],
        deferred: &[Deferred],
    ) -> Result<(), QueueError> {
        let soonest = deferred.iter().filter_map(|one| one.message.due).min();
        let deferred = deferred.iter().map(|one| {
            let receive_count = i32::try_from(one.delivery_count).unwrap_or(i32::MAX);
            (new_events(&one.message), receive_count)
        });
        let receipts = received.iter().map(|one| one.receipt);
        let entries: BTreeSet<i64> = receipts
            .filter_map(|receipt| self.publishes.entry_of(receipt))
            .collect();
        let replaced = entries.iter().copied().collect();
        let written = self.queue.defer_events(replaced, deferred.collect());
        written.await.map_err(unavailable)?;
        for entry in self.finish(received, PublishOutcome::Durable) {
            // Written by the publisher meanwhile.
            if !entries.contains(&entry) {
                self.settle_late(entry, PublishOutcome::Durable).await;
            }
        }
        self.handoff.poll_by(soonest.unwrap_or_else(now));
        Ok(())
    }

    fn stop(&self) {
        self.handoff.stop();
    }

    /// The folder is locked.
    fn is_owned(&self, _: &ReceivedMessage<PublishedEvents>) -> bool {
        true
    }

    async fn dead_letter(
        &self,
        received: ReceivedMessage<PublishedEvents>,
        reason: &str,
    ) -> Result<(), QueueError> {
        let receipt = received.receipt;
        let moving = async {
            let entry = match self.publishes.entry_of(receipt) {
                Some(entry) => entry,
                None => {
                    let lease = Some(now().after(LEASE));
                    let written = self.queue.push_events(new_events(&received.message), lease);
                    written.await?
                }
            };
            let reason = reason.to_owned();
            self.queue.dead_letter_events(entry, reason, now()).await?;
            Ok(entry)
        };
        let moved: Result<i64, StoreError> = moving.await;
        let (outcome, moved) = match moved {
            Ok(entry) => (PublishOutcome::Durable, Ok(entry)),
            Err(why) => (
                PublishOutcome::Unwritten { receive_count: 1 },
                Err(unavailable(why)),
            ),
        };
        for entry in self.publishes.finish([receipt], outcome) {
            // Written by the publisher meanwhile, or not moved.
            if !matches!(moved, Ok(done) if done == entry) {
                self.settle_late(entry, outcome).await;
            }
        }
        moved.map(drop)
    }

    fn is_ready(&self) -> bool {
        self.queue.is_ready()
    }
}

fn from_entry(entry: QueuedEvents) -> ReceivedMessage<PublishedEvents> {
    let events = PublishedEvents {
        body: entry.body.into(),
        content_type: entry.content_type,
        // In a folder, Hookline writes every message.
        author: Author::Hookline,
        trace: entry.traceparent.as_deref().and_then(TraceParent::parse),
        due: entry.admitted_at.map(Timestamp::from_unix_micros),
    };
    received(events, entry.id, entry.receive_count)
}

#[cfg(test)]
mod tests;
