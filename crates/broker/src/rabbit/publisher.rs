//! [`Publisher`] on RabbitMQ.

use async_trait::async_trait;
use hookline_core::operations::WebhookDisabled;

use crate::contract::{PublishedEvents, Publisher, QueueError, Scheduled};
use crate::rabbit::letter::{Letter, announcement, to_queue};
use crate::rabbit::link::Link;
use crate::rabbit::outbox::Outbox;
use crate::rabbit::topology::{EVENTS, EVENTS_REJECTED};
use crate::rabbit::waker::Waker;

#[derive(Debug)]
pub(super) struct RabbitPublisher {
    outbox: Outbox,
    /// What is no publishing goes here: the broker does not block it.
    consuming: Link,
    /// None where wake-ups are not wanted.
    waker: Option<Waker>,
}

impl RabbitPublisher {
    pub(super) fn new(outbox: Outbox, consuming: Link, waker: Option<Waker>) -> Self {
        Self {
            outbox,
            consuming,
            waker,
        }
    }
}

#[async_trait]
impl Publisher for RabbitPublisher {
    /// Straight into the queue: several events in one message have no one type to route by.
    async fn publish_events(&self, events: PublishedEvents) -> Result<(), QueueError> {
        let (body, properties) = events.write();
        self.outbox
            .send(vec![to_queue(EVENTS, body, properties)])
            .await
    }

    fn wake(&self, due: &[Scheduled]) {
        if let Some(waker) = &self.waker {
            waker.wake(due);
        }
    }

    async fn announce(&self, events: &[WebhookDisabled]) -> Result<(), QueueError> {
        self.outbox
            .send(events.iter().map(announcement).collect())
            .await
    }

    async fn rejected_waiting(&self) -> Result<u64, QueueError> {
        self.outbox.waiting(&self.consuming, EVENTS_REJECTED).await
    }

    fn is_ready(&self) -> bool {
        self.outbox.publishing().is_ready()
    }
}
