//! [`Publisher`] on RabbitMQ.

use async_trait::async_trait;
use hookline_core::operational_events::WebhookDisabled;
use hookline_queue::{PublishedEvents, Publisher, QueueError, Scheduled};

use crate::codec::{announcement, queued};
use crate::connection::supervisor::SupervisedConnection;
use crate::publisher::confirmed_publisher::ConfirmedPublisher;
use crate::topology::EVENTS_REJECTED;
use crate::wake_ups::wake_publisher::WakePublisher;

#[derive(Debug)]
pub(crate) struct RabbitPublisher {
    confirmed: ConfirmedPublisher,
    /// For queries: the broker does not block a connection that never publishes.
    consuming: SupervisedConnection,
    /// None for a command, which wakes no owner.
    wake_ups: Option<WakePublisher>,
}

impl RabbitPublisher {
    pub(crate) fn new(
        confirmed: ConfirmedPublisher,
        consuming: SupervisedConnection,
        wake_ups: Option<WakePublisher>,
    ) -> Self {
        Self {
            confirmed,
            consuming,
            wake_ups,
        }
    }
}

#[async_trait]
impl Publisher for RabbitPublisher {
    /// Directly into the queue: a message of several events has no single type to route by.
    async fn publish_events(&self, events: PublishedEvents) -> Result<(), QueueError> {
        self.confirmed.send(vec![queued(&events)]).await
    }

    fn wake(&self, due: &[Scheduled]) {
        if let Some(wake_ups) = &self.wake_ups {
            wake_ups.publish(due);
        }
    }

    async fn announce(&self, events: &[WebhookDisabled]) -> Result<(), QueueError> {
        self.confirmed
            .send(events.iter().map(announcement).collect())
            .await
    }

    async fn rejected_count(&self) -> Result<u64, QueueError> {
        self.confirmed
            .waiting(&self.consuming, EVENTS_REJECTED)
            .await
    }

    fn is_ready(&self) -> bool {
        self.confirmed.connection().is_ready()
    }
}
