//! Events that ingest rejected, as the broker's operator sees them.

use anyhow::Context as _;
use lapin::options::BasicGetOptions;
use lapin::types::AMQPValue;
use lapin::{Channel, Connection, ConnectionProperties};

use crate::waiting::until;

/// An onlooker at `hookline.events.rejected`. It takes what it reads, so there is one at a time.
pub struct RejectedEvents {
    channel: Channel,
    // The channel needs its connection.
    _connection: Connection,
}

/// A rejected message.
#[derive(Debug, Clone)]
pub struct Rejected {
    pub body: Vec<u8>,
    /// Its content type, where it had one.
    pub content_type: Option<String>,
    /// Why.
    pub reason: String,
}

impl RejectedEvents {
    /// Looks on at the broker of this URL.
    pub async fn connect(amqp: &str) -> anyhow::Result<Self> {
        let connection = Connection::connect(amqp, ConnectionProperties::default()).await?;
        let channel = connection.create_channel().await?;
        Ok(Self {
            channel,
            _connection: connection,
        })
    }

    /// Waits for `count` messages and takes them, in the order in which they came.
    pub async fn take(&self, count: usize) -> anyhow::Result<Vec<Rejected>> {
        let mut taken = Vec::new();
        while taken.len() < count {
            let what = format!("rejected message {} of {count}", taken.len() + 1);
            taken.push(until(&what, async || self.next().await).await?);
        }
        Ok(taken)
    }

    async fn next(&self) -> anyhow::Result<Option<Rejected>> {
        let options = BasicGetOptions { no_ack: true };
        let got = self
            .channel
            .basic_get("hookline.events.rejected".into(), options)
            .await?;
        let Some(message) = got.map(|got| got.delivery) else {
            return Ok(None);
        };
        let properties = &message.properties;
        let reason = properties
            .headers()
            .as_ref()
            .and_then(|headers| headers.inner().get("x-hookline-reason"));
        let Some(AMQPValue::LongString(reason)) = reason else {
            anyhow::bail!("a rejected message without a reason: {properties:?}");
        };
        Ok(Some(Rejected {
            content_type: properties.content_type().as_ref().map(ToString::to_string),
            reason: std::str::from_utf8(reason.as_bytes())
                .context("a reason that is not UTF-8")?
                .to_owned(),
            body: message.data,
        }))
    }
}
