//! The organization that a scenario makes for itself.

use anyhow::Context as _;
use lapin::types::{AMQPValue, FieldTable};
use reqwest::Method;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::client::ApiClient;
use crate::contract::Contract;
use crate::deployment::{Deployment, Mode};
use crate::publisher::json;
use crate::receiver::Receiver;

/// Every event type.
pub const EVENT_TYPES: [&str; 6] = [
    "workflow.started",
    "workflow.completed",
    "workflow.failed",
    "workflow.step.started",
    "workflow.step.completed",
    "workflow.step.failed",
];

/// An organization with a key that may do everything.
pub struct Tenant<'a> {
    /// Where it is.
    pub deployment: &'a Deployment,
    pub organization: String,
    /// A client with its key.
    pub client: ApiClient,
}

impl Deployment {
    /// A new organization that no other scenario uses, with a key that may do everything.
    pub async fn tenant(&self) -> anyhow::Result<Tenant<'_>> {
        let organization = self.new_organization();
        self.hookline(&["org", "create", &organization]).await?;
        let key = self.key(&["--org", &organization]).await?;
        let base = format!("{}/v1", self.api());
        let contract = Contract::at(&base).await?;
        let client = ApiClient::new(&base, &key).checked_by(contract);
        Ok(Tenant {
            deployment: self,
            organization,
            client,
        })
    }
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

    /// Events of this type, each with an id of its own.
    pub fn events(&self, event_type: &str, count: usize) -> Vec<Value> {
        (0..count).map(|_| self.event(event_type)).collect()
    }

    /// Publishes as a workflow service of this deployment does: through the broker where there is one,
    /// else over HTTP.
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
                    let properties = json();
                    self.deployment
                        .publish_amqp(routing_key, event.to_string().as_bytes(), properties)
                        .await?;
                }
            }
        }
        Ok(())
    }

    /// Publishes these very bytes in the same way, in a trace or in none.
    pub async fn publish_bytes(&self, body: &str, trace: Option<&str>) -> anyhow::Result<()> {
        if self.deployment.mode == Mode::Standalone {
            return self.post_bytes(body, trace).await;
        }
        let mut properties = json();
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
    pub async fn subscribe(&self, receiver: &Receiver, events: &[&str]) -> anyhow::Result<i64> {
        self.client
            .subscribe(&json!({
                "name": "a subscription", "url": receiver.url("/hook"), "events": events, "secret": "hush",
            }))
            .await
    }

    /// Publishes one event of this type and returns its id.
    pub async fn publish_one(&self, event_type: &str) -> anyhow::Result<String> {
        let event = self.event(event_type);
        self.publish(std::slice::from_ref(&event)).await?;
        Ok(event["event_id"].as_str().context("an id")?.to_owned())
    }
}
