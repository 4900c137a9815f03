//! Publishing as a workflow service does.

use anyhow::ensure;
use lapin::options::{BasicPublishOptions, ConfirmSelectOptions};
use lapin::{BasicProperties, Channel, Confirmation, Connection, ConnectionProperties};

/// The properties of an event as JSON.
pub fn json() -> BasicProperties {
    BasicProperties::default().with_content_type("application/json".into())
}

/// A connection to `workflow.events` with confirms.
pub struct TestPublisher {
    channel: Channel,
    /// The channel needs it.
    _connection: Connection,
}

impl TestPublisher {
    /// A connection of its own, as a separate service has it: messages of other publishers are not in front of its own.
    pub async fn connect(amqp: &str) -> anyhow::Result<Self> {
        let connection = Connection::connect(amqp, ConnectionProperties::default()).await?;
        let channel = connection.create_channel().await?;
        channel
            .confirm_select(ConfirmSelectOptions::default())
            .await?;
        Ok(Self {
            channel,
            _connection: connection,
        })
    }

    /// Waits for the confirm.
    pub async fn publish(
        &self,
        routing_key: &str,
        body: &[u8],
        properties: BasicProperties,
    ) -> anyhow::Result<()> {
        let exchange = "workflow.events";
        self.send(exchange, routing_key, body, properties).await
    }

    /// The same to any exchange; that without a name leads to the queue of the routing key.
    pub async fn send(
        &self,
        exchange: &str,
        routing_key: &str,
        body: &[u8],
        properties: BasicProperties,
    ) -> anyhow::Result<()> {
        let options = BasicPublishOptions {
            mandatory: true,
            ..Default::default()
        };
        let confirm = self
            .channel
            .basic_publish(
                exchange.into(),
                routing_key.into(),
                options,
                body,
                properties.with_delivery_mode(2),
            )
            .await?
            .await?;
        ensure!(
            matches!(confirm, Confirmation::Ack(None)),
            "not confirmed: {confirm:?}"
        );
        Ok(())
    }
}
