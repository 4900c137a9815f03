use async_trait::async_trait;
use hookline_core::operational_events::WebhookDisabled;

use crate::{PublishedEvents, QueueError, Scheduled};

/// Publishes events and operational events durably, and wake-ups as hints.
#[async_trait]
pub trait Publisher: Send + Sync {
    /// Returns once all of the events are durable.
    async fn publish_events(&self, events: PublishedEvents) -> Result<(), QueueError>;

    /// Tells the owners of these deliveries' partitions that they are due, each after its delay. Returns at once and
    /// promises nothing: a wake-up that finds no room is dropped and counted. The owner finds the row of the delivery
    /// within a second after it was due.
    fn wake(&self, due: &[Scheduled]);

    /// Publishes operational events. Returns once each queue that is bound at this moment has them durably; no bound
    /// queue is no error.
    async fn announce(&self, events: &[WebhookDisabled]) -> Result<(), QueueError>;

    /// How many rejected events wait for an operator.
    async fn rejected_count(&self) -> Result<u64, QueueError>;

    /// Whether messages can be published at this moment.
    fn is_ready(&self) -> bool;
}
