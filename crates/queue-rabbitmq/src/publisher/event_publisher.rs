//! Publishing as a workflow service does: to the exchange that the contract names, with the right to write to that exchange
//! only.

use hookline_core::event::Event;
use hookline_queue::QueueError;

use crate::codec::workflow_event;
use crate::connection::broker_url::BrokerUrl;
use crate::connection::session::ConnectionPurpose;
use crate::connection::supervisor::SupervisedConnection;
use crate::error::RabbitError;
use crate::outgoing::{Mandatory, Outgoing};
use crate::publisher::confirmed_publisher::ConfirmedPublisher;
use crate::settings::RabbitSettings;
use crate::topology::PUBLISHED;

/// It declares nothing.
#[derive(Debug)]
pub struct EventPublisher {
    confirmed: ConfirmedPublisher,
}

impl EventPublisher {
    /// Connects and checks that the exchange for events exists.
    ///
    /// # Errors
    /// [`RabbitError`], also when the exchange does not exist.
    pub async fn connect(settings: RabbitSettings) -> Result<Self, RabbitError> {
        let url = BrokerUrl::parse(&settings.url, settings.name)?;
        let connection =
            SupervisedConnection::establish(url, ConnectionPurpose::PublishEvents).await?;
        let confirmed = ConfirmedPublisher::new(connection, settings.confirm_timeout);
        Ok(Self { confirmed })
    }

    /// Returns once all events are durable.
    ///
    /// # Errors
    /// When not all are durable. Some may be; an event that is published again is the same event.
    pub async fn publish(
        &self,
        events: impl IntoIterator<Item = &Event>,
    ) -> Result<(), QueueError> {
        let messages = events.into_iter().map(outgoing).collect();
        self.confirmed.send(messages).await
    }

    pub async fn close(&self) {
        self.confirmed.connection().close().await;
    }
}

fn outgoing(event: &Event) -> Outgoing {
    let (body, properties) = workflow_event(event.body.clone());
    Outgoing {
        exchange: PUBLISHED.to_owned(),
        routing_key: event.event_type.as_str().to_owned(),
        body,
        properties,
        mandatory: Mandatory::Yes,
    }
}
