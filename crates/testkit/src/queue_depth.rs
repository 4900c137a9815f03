//! The number of messages that wait in a queue of the broker.

use lapin::options::QueueDeclareOptions;
use lapin::{Connection, ConnectionProperties};

/// How many messages wait in a queue.
pub async fn depth(amqp: &str, queue: &str) -> anyhow::Result<u32> {
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
