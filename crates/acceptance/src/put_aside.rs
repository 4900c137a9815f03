//! How many messages the services have put aside for good on a broker.

use lapin::options::QueueDeclareOptions;
use lapin::{Connection, ConnectionProperties};

/// Messages that no service tries again by itself.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PutAside {
    /// Events in `hookline.events.rejected`.
    pub rejected: u32,
    /// Deliveries in `hookline.deliveries.dead`.
    pub dead: u32,
}

impl PutAside {
    /// Counts those of the broker at this URL.
    ///
    /// # Errors
    /// When it cannot be reached, or a queue is missing.
    pub async fn of(amqp: &str) -> anyhow::Result<Self> {
        Ok(Self {
            rejected: depth(amqp, "hookline.events.rejected").await?,
            dead: depth(amqp, "hookline.deliveries.dead").await?,
        })
    }
}

/// How many messages wait in a queue.
pub(crate) async fn depth(amqp: &str, queue: &str) -> anyhow::Result<u32> {
    let connection = Connection::connect(amqp, ConnectionProperties::default()).await?;
    let channel = connection.create_channel().await?;
    let options = QueueDeclareOptions {
        passive: true,
        ..Default::default()
    };
    let found = channel
        .queue_declare(queue.into(), options, Default::default())
        .await?;
    connection.close(200, "done".into()).await?;
    Ok(found.message_count())
}
