//! [`Publisher`] on RabbitMQ.

use async_trait::async_trait;
use hookline_core::operations::WebhookDisabled;

use crate::codec::{announcement, queued};
use crate::connection::supervisor::Link;
use crate::publisher::confirmed::Outbox;
use crate::topology::EVENTS_REJECTED;
use crate::wake_ups::waker::Waker;
use hookline_queue::{PublishedEvents, Publisher, QueueError, Scheduled};

#[derive(Debug)]
pub(crate) struct RabbitPublisher {
    outbox: Outbox,
    /// What is no publishing goes here: the broker does not block it.
    consuming: Link,
    /// None where wake-ups are not wanted.
    waker: Option<Waker>,
}

impl RabbitPublisher {
    pub(crate) fn new(outbox: Outbox, consuming: Link, waker: Option<Waker>) -> Self {
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
        self.outbox.send(vec![queued(&events)]).await
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
