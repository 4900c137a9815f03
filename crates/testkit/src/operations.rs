//! Messages to operators: on the broker's exchange where there is one, else in the log.

use anyhow::Context as _;
use lapin::options::{BasicGetOptions, QueueDeclareOptions};
use lapin::{Channel, Connection, ConnectionProperties};
use serde_json::{Value, json};

use crate::deployment::Deployment;
use crate::waiting::until;

const EXCHANGE: &str = "hookline.operations";
const QUEUE: &str = "an operator's";

/// An operator that listens from now on.
pub struct OperationsListener<'a> {
    deployment: &'a Deployment,
    listening: Option<(Channel, Connection)>,
}

impl<'a> OperationsListener<'a> {
    /// Begins to listen. There is one in a deployment.
    pub async fn start(deployment: &'a Deployment) -> anyhow::Result<Self> {
        let Ok(dependencies) = deployment.dependencies() else {
            let listening = None;
            return Ok(Self {
                deployment,
                listening,
            });
        };
        let connection =
            Connection::connect(&dependencies.amqp, ConnectionProperties::default()).await?;
        let channel = connection.create_channel().await?;
        let none = Default::default;
        channel
            .queue_declare(QUEUE.into(), QueueDeclareOptions::durable(), none())
            .await?;
        let (all, options) = ("#", Default::default());
        channel
            .queue_bind(QUEUE.into(), EXCHANGE.into(), all.into(), options, none())
            .await?;
        let listening = Some((channel, connection));
        Ok(Self {
            deployment,
            listening,
        })
    }

    /// Waits for the next `count` events, of whichever subscription.
    ///
    /// # Errors
    /// When they do not come, or are not what they should be.
    pub async fn wait_for(&self, count: usize) -> anyhow::Result<Vec<Value>> {
        let Some((channel, _)) = &self.listening else {
            return until("the log to tell of it", async || {
                let events = events_in(&self.deployment.output().await);
                Ok((events.len() >= count).then_some(events))
            })
            .await;
        };
        let mut received = Vec::new();
        while received.len() < count {
            let what = format!("event {} of {count}", received.len() + 1);
            received.push(until(&what, async || next(channel).await).await?);
        }
        Ok(received)
    }
}

async fn next(channel: &Channel) -> anyhow::Result<Option<Value>> {
    let options = BasicGetOptions { no_ack: true };
    let Some(got) = channel.basic_get(QUEUE.into(), options).await? else {
        return Ok(None);
    };
    let message = got.delivery;
    let json: Value = serde_json::from_slice(&message.data)?;
    let properties = &message.properties;
    let text = |text: &Option<lapin::types::ShortString>| text.as_ref().map(ToString::to_string);
    anyhow::ensure!(
        json["type"] == message.routing_key.as_str()
            && *properties.delivery_mode() == Some(2)
            && text(properties.content_type()).as_deref() == Some("application/json")
            && text(properties.message_id()).as_deref() == json["id"].as_str(),
        "{} with {properties:?}: {json}",
        message.routing_key
    );
    Ok(Some(json))
}

/// The events that a log tells of, as far as it does.
fn events_in(log: &str) -> Vec<Value> {
    let field = |line: &str, name: &str| {
        let (_, rest) = line.split_once(&format!(" {name}="))?;
        rest.split_whitespace()
            .next()
            .map(|value| value.trim_matches('"').to_owned())
    };
    let event = |line: &str| {
        let subscription: i64 = field(line, "subscription.id")?.parse().ok()?;
        Some(json!({
            "type": "webhook.disabled",
            "id": field(line, "event.id")?,
            "organization_id": field(line, "organization.id")?,
            "subscription_id": subscription,
            "reason": field(line, "reason")?,
        }))
    };
    log.lines()
        .filter(|line| line.contains("WARN") && line.contains("disabled subscription"))
        .filter_map(event)
        .collect()
}

/// Whether one of `events` says that this subscription was switched off for this reason.
pub fn only_event(events: &[Value], subscription: i64, reason: &str) -> anyhow::Result<Value> {
    let mut of: Vec<_> = events
        .iter()
        .filter(|event| event["subscription_id"] == subscription)
        .collect();
    let one = of.pop().with_context(|| format!("none in {events:#?}"))?;
    anyhow::ensure!(of.is_empty() && one["reason"] == reason, "{events:#?}");
    Ok(one.clone())
}
