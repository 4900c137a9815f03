//! An open-loop load: events at fixed times, whatever the outcome of earlier ones.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use serde_json::{Value, json};
use tokio::task::JoinSet;

use hookline_testkit::client::ApiClient;
use hookline_testkit::deployment::{Deployment, Mode};
use hookline_testkit::publisher;

/// The types of an organization that have a subscription each. A sixth type has none.
pub(super) const TYPES: [&str; 5] = [
    "workflow.started",
    "workflow.completed",
    "workflow.failed",
    "workflow.step.started",
    "workflow.step.completed",
];

const UNWANTED: &str = "workflow.step.failed";

/// An organization that events are published for.
#[derive(Clone)]
pub(super) struct FairnessPublisher {
    pub(super) deployment: Arc<Deployment>,
    pub(super) client: ApiClient,
    pub(super) organization: String,
}

impl FairnessPublisher {
    pub(super) fn event(&self, event_type: &str, number: u64) -> Value {
        json!({
            "event_id": format!("evt_{number}"),
            "event_type": event_type,
            "workflow_id": "wf_1",
            "organization_id": self.organization,
            "timestamp": "2025-12-21T10:30:00Z",
            "data": {"n": number, "step": "charge", "amount": 12.5, "note": "x".repeat(200)},
        })
    }

    async fn publish(&self, event_type: &str, number: u64) -> anyhow::Result<()> {
        let event = self.event(event_type, number);
        match self.deployment.mode {
            Mode::Standalone => drop(self.client.post("/events", &event).await?.expect(202)?),
            Mode::Distributed => {
                self.deployment
                    .publish_amqp(event_type, event.to_string().as_bytes(), publisher::json())
                    .await?;
            }
        }
        Ok(())
    }

    /// Publishes many at once, not at any fixed time.
    pub(super) async fn publish_at_once(
        &self,
        event_type: &str,
        numbers: std::ops::Range<u64>,
    ) -> anyhow::Result<()> {
        let numbers: Vec<u64> = numbers.collect();
        for chunk in numbers.chunks(1_000) {
            let events: Vec<Value> = chunk
                .iter()
                .map(|number| self.event(event_type, *number))
                .collect();
            self.client
                .post("/events", &json!(events))
                .await?
                .expect(202)?;
        }
        Ok(())
    }
}

/// One event of the load: for which of the ten kinds of events, and when it was to be published.
#[derive(Debug, Clone, Copy)]
pub(super) struct Intended {
    pub(super) number: u64,
    pub(super) kind: usize,
    pub(super) at: Instant,
}

/// How many kinds of events there are: two organizations, five types each.
pub(super) const KINDS: usize = 2 * TYPES.len();

/// How often there are events.
#[derive(Debug, Clone, Copy)]
pub(super) struct PublishRate {
    /// Events a second, in turns for all kinds.
    pub(super) rate: u32,
    /// Only every n-th event of the first kind is for that kind. The others are of a type without a subscription.
    pub(super) first_kind: u64,
    /// For how long.
    pub(super) duration: Duration,
}

/// Publishes events, numbered from `first`.
pub(super) async fn publish_steadily(
    publishers: &[FairnessPublisher; 2],
    first: u64,
    publish_rate: PublishRate,
) -> anyhow::Result<Vec<Intended>> {
    let PublishRate { rate, duration, .. } = publish_rate;
    let begin = Instant::now() + Duration::from_millis(50);
    let count = u64::from(rate) * duration.as_secs();
    let mut intended = Vec::with_capacity(usize::try_from(count)?);
    let mut publishing = JoinSet::new();
    for index in 0..count {
        let at = begin + Duration::from_secs_f64(1.0 / f64::from(rate)).mul_f64(index as f64);
        let kind = usize::try_from(index)? % KINDS;
        let number = first + index;
        tokio::time::sleep_until(at.into()).await;
        let publisher = publishers[kind / TYPES.len()].clone();
        let turn = index / u64::try_from(KINDS)?;
        let wanted = kind > 0 || turn % publish_rate.first_kind == 0;
        let event_type = match wanted {
            true => TYPES[kind % TYPES.len()],
            false => UNWANTED,
        };
        publishing.spawn(async move { publisher.publish(event_type, number).await });
        if wanted {
            intended.push(Intended { number, kind, at });
        }
        while let Some(done) = publishing.try_join_next() {
            done?.context("an event was not taken")?;
        }
    }
    while let Some(done) = publishing.join_next().await {
        done?.context("an event was not taken")?;
    }
    Ok(intended)
}
