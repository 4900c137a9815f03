//! Publishing as a workflow service does: through the exchange that the contract names, and with the right to write to
//! it alone.

use hookline_core::event::Event;

use crate::codec::workflow_event;
use crate::connection::broker_url::Address;
use crate::connection::session::Purpose;
use crate::connection::supervisor::Link;
use crate::error::RabbitError;
use crate::outgoing::{Audience, Post};
use crate::publisher::confirmed::Outbox;
use crate::settings::RabbitSettings;
use crate::topology::PUBLISHED;
use hookline_queue::QueueError;

/// A connection that publishes events and declares nothing.
#[derive(Debug)]
pub struct EventPublisher {
    outbox: Outbox,
}

impl EventPublisher {
    /// Connects, and finds the exchange for events.
    ///
    /// # Errors
    /// [`RabbitError`], also when there is no such exchange.
    pub async fn connect(settings: RabbitSettings) -> Result<Self, RabbitError> {
        let address = Address::parse(&settings.url, settings.name)?;
        let link = Link::establish(address, Purpose::PublishEvents).await?;
        let outbox = Outbox::new(link, settings.confirm_timeout);
        Ok(Self { outbox })
    }

    /// Returns once all of the events are durable. Some may be when it fails; one that is
    /// published again is the same event.
    ///
    /// # Errors
    /// [`QueueError`] when the broker does not have all of them.
    pub async fn publish(
        &self,
        events: impl IntoIterator<Item = &Event>,
    ) -> Result<(), QueueError> {
        let posts = events.into_iter().map(post).collect();
        self.outbox.send(posts).await
    }

    /// Closes the connection.
    pub async fn close(&self) {
        self.outbox.publishing().close().await;
    }
}

fn post(event: &Event) -> Post {
    let (body, properties) = workflow_event(event.body.clone());
    Post {
        exchange: PUBLISHED.to_owned(),
        routing_key: event.event_type.as_str().to_owned(),
        body,
        properties,
        audience: Audience::Ours,
    }
}
