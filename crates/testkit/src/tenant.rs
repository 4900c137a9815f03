//! The organization that a scenario makes for itself.

use anyhow::Context as _;
use lapin::BasicProperties;
use lapin::types::{AMQPValue, FieldTable};
use reqwest::Method;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::client::Client;
use crate::deployment::{Deployment, Mode};
use crate::receiver::Receiver;

/// An organization with a key that may do everything.
pub struct Tenant<'a> {
    /// Where it is.
    pub deployment: &'a Deployment,
    /// Its id.
    pub organization: String,
    /// A client with its key.
    pub client: Client,
}

impl Tenant<'_> {
    /// An event of this organization with an id of its own.
    pub fn event(&self, event_type: &str) -> Value {
        json!({
            "event_id": format!("evt_{}", Uuid::new_v4().simple()),
            "event_type": event_type,
            "workflow_id": "wf_1",
            "organization_id": self.organization,
            "timestamp": "2025-12-21T10:30:00Z",
            "data": {"step": "charge", "amount": 12.5},
        })
    }

    /// Publishes as a workflow service of this deployment does: through the broker where there is one,
    /// else over HTTP.
    ///
    /// # Errors
    /// When an event is not taken.
    pub async fn publish(&self, events: &[Value]) -> anyhow::Result<()> {
        match self.deployment.mode {
            Mode::Standalone => {
                self.client
                    .post("/events", &json!(events))
                    .await?
                    .expect(202)?;
            }
            Mode::Distributed => {
                for event in events {
                    let routing_key = event["event_type"].as_str().unwrap_or("unknown");
                    let properties =
                        BasicProperties::default().with_content_type("application/json".into());
                    self.deployment
                        .publish_amqp(routing_key, event.to_string().as_bytes(), properties)
                        .await?;
                }
            }
        }
        Ok(())
    }

    /// Publishes these very bytes in the same way, in a trace or in none.
    ///
    /// # Errors
    /// When they are not taken.
    pub async fn publish_bytes(&self, body: &str, trace: Option<&str>) -> anyhow::Result<()> {
        if self.deployment.mode == Mode::Standalone {
            return self.post_bytes(body, trace).await;
        }
        let mut properties =
            BasicProperties::default().with_content_type("application/json".into());
        if let Some(trace) = trace {
            let mut headers = FieldTable::default();
            headers.insert("traceparent".into(), AMQPValue::LongString(trace.into()));
            properties = properties.with_headers(headers);
        }
        let routing_key = "workflow.completed";
        self.deployment
            .publish_amqp(routing_key, body.as_bytes(), properties)
            .await
    }

    /// The same over HTTP in either mode.
    ///
    /// # Errors
    /// When they are not taken.
    pub async fn post_bytes(&self, body: &str, trace: Option<&str>) -> anyhow::Result<()> {
        let mut request = self
            .client
            .request(Method::POST, "/events")
            .header("content-type", "application/json")
            .body(body.to_owned());
        if let Some(trace) = trace {
            request = request.header("traceparent", trace);
        }
        self.client.send(request).await?.expect(202)?;
        Ok(())
    }

    /// A subscription to these types at `receiver`, with the plain secret `hush`.
    ///
    /// # Errors
    /// When it is refused.
    pub async fn subscribe(&self, receiver: &Receiver, events: &[&str]) -> anyhow::Result<i64> {
        self.client
            .subscribe(&json!({
                "name": "a subscription", "url": receiver.url("/hook"), "events": events, "secret": "hush",
            }))
            .await
    }

    /// Publishes one event of this type and returns its id.
    ///
    /// # Errors
    /// When it is not taken.
    pub async fn publish_one(&self, event_type: &str) -> anyhow::Result<String> {
        let event = self.event(event_type);
        self.publish(std::slice::from_ref(&event)).await?;
        Ok(event["event_id"].as_str().context("an id")?.to_owned())
    }
}
