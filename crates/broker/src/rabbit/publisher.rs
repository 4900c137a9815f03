//! [`Publisher`] on RabbitMQ.

use std::time::Duration;

use async_trait::async_trait;
use hookline_core::operations::WebhookDisabled;

use crate::contract::{Ahead, DeadWaiting, PublishedEvents, Publisher, QueueError, Scheduled};
use crate::rabbit::delay::{Address, Delay};
use crate::rabbit::letter::{Letter, announcement, later, to_queue};
use crate::rabbit::link::Link;
use crate::rabbit::outbox::{Outbox, Post};
use crate::rabbit::topology::{DELIVERIES, DELIVERIES_DEAD, EVENTS, EVENTS_REJECTED};
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

    async fn waiting(&self, queue: &'static str) -> Result<u64, QueueError> {
        self.outbox.waiting(&self.consuming, queue).await
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

    async fn publish_attempts(&self, attempts: &[Scheduled]) -> Result<(), QueueError> {
        self.outbox.send(attempts.iter().map(post).collect()).await
    }

    fn even_delay(&self, wanted: Duration) -> Duration {
        Delay::at_least(wanted).as_duration()
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

    async fn attempts_waiting(&self) -> Result<u64, QueueError> {
        self.waiting(DELIVERIES).await
    }

    async fn ahead(&self) -> Result<Ahead, QueueError> {
        self.outbox.ahead(&self.consuming, DELIVERIES).await
    }

    async fn dead_waiting(&self) -> Result<DeadWaiting, QueueError> {
        Ok(DeadWaiting {
            events: self.waiting(EVENTS_REJECTED).await?,
            deliveries: self.waiting(DELIVERIES_DEAD).await?,
        })
    }

    fn is_ready(&self) -> bool {
        self.outbox.publishing().is_ready()
    }

    fn is_blocked(&self) -> bool {
        self.outbox.publishing().blocked().is_some()
    }
}

fn post(scheduled: &Scheduled) -> Post {
    let (body, properties) = scheduled.owed.write();
    let at_once = to_queue(DELIVERIES, body, properties);
    later(
        at_once,
        Delay::towards(scheduled.delay),
        Address::Deliveries,
    )
}
