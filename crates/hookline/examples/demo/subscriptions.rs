//! The subscriptions: each organization subscribes once with every receiver.

use hookline_core::event::Event;
use hookline_core::event_type::EventType;
use hookline_core::ids::{DeliveryId, SubscriptionId};
use rand::distr::{Alphanumeric, SampleString as _};
use serde_json::{Value, json};

use crate::behaviour::Behaviour;
use crate::system::{ORGANIZATIONS, System};

/// The name and value of a custom header.
pub(crate) const TEAM: (&str, &str) = ("X-Team", "on-call");

#[derive(Debug, Clone)]
pub(crate) struct Subscription {
    pub(crate) id: i64,
    pub(crate) organization: &'static str,
    pub(crate) behaviour: Behaviour,
    pub(crate) events: Vec<EventType>,
    pub(crate) secret: String,
    pub(crate) has_team_header: bool,
    pub(crate) url: String,
}

impl Subscription {
    /// Creates them through the API.
    pub(crate) async fn create_all(
        system: &System,
        receiver_url: impl Fn(Behaviour) -> String,
    ) -> anyhow::Result<Vec<Self>> {
        let mut all = Vec::new();
        for organization in ORGANIZATIONS {
            for behaviour in Behaviour::ALL {
                let url = format!("{}/{organization}", receiver_url(behaviour));
                let mut subscription = Self::planned(organization, behaviour, url);
                let api = system.api(organization)?;
                subscription.id = api.subscribe(&subscription.to_json()).await?;
                all.push(subscription);
            }
        }
        Ok(all)
    }

    fn planned(organization: &'static str, behaviour: Behaviour, url: String) -> Self {
        use EventType::{StepFailed, WorkflowFailed, WorkflowStarted};
        let events = match behaviour {
            Behaviour::Healthy => EventType::ALL.to_vec(),
            Behaviour::Flaky => vec![WorkflowFailed, StepFailed],
            Behaviour::Leaving => vec![WorkflowStarted],
        };
        // 32 letters and digits are base64 of 24 bytes, which Standard Webhooks requires after whsec_.
        let secret = Alphanumeric.sample_string(&mut rand::rng(), 32);
        let has_plain_secret = behaviour == Behaviour::Flaky;
        Self {
            id: 0,
            organization,
            behaviour,
            events,
            secret: if has_plain_secret {
                secret
            } else {
                format!("whsec_{secret}")
            },
            has_team_header: has_plain_secret,
            url,
        }
    }

    fn to_json(&self) -> Value {
        let events: Vec<&str> = self.events.iter().map(|event| event.as_str()).collect();
        let mut body = json!({
            "name": self.behaviour.name(),
            "url": self.url,
            "events": events,
            "secret": self.secret,
        });
        if self.has_team_header {
            body["headers"] = json!({ TEAM.0: TEAM.1 });
        }
        body
    }

    pub(crate) fn wants(&self, event: &Event) -> bool {
        event.organization.as_str() == self.organization && self.events.contains(&event.event_type)
    }

    /// The `webhook-id` of an event's delivery.
    pub(crate) fn delivery_of(&self, event: &Event) -> String {
        DeliveryId::of(&event.organization, &event.id, SubscriptionId(self.id)).to_string()
    }
}
