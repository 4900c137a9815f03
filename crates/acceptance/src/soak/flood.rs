//! Flood: one organization publishes far too much, and the cost to another is measured.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use futures::future::try_join_all;
use serde_json::{Value, json};
use tokio::time::{MissedTickBehavior, interval};

use super::latency::Latencies;
use hookline_testkit::client::ApiResponse;
use hookline_testkit::dependencies::DependencyRoute;
use hookline_testkit::deployment::{Deployment, Mode};
use hookline_testkit::publisher::{TestPublisher, json};
use hookline_testkit::receiver::Receiver;
use hookline_testkit::tenant::Tenant;

/// The events that an organization may publish in a second, and at once.
pub const RATE: usize = 25;

/// The events that the modest organization publishes in a second.
const MODEST: u32 = 20;

/// The greedy organization publishes this many times its rate limit.
const EXCESS: u32 = 50;

/// A deployment, a greedy organization and a modest one.
pub struct Flood {
    pub deployment: Deployment,
    duration: Duration,
}

/// The latencies of the modest organization's deliveries, and the outcome of the greedy one's events.
pub struct FloodResult {
    /// The modest organization alone.
    pub without: Latencies,
    /// The modest organization beside another that keeps its limit.
    pub allowed: Latencies,
    /// The modest organization beside another that publishes 50 times too much.
    pub with: Latencies,
    /// The greedy one's events that were taken.
    pub taken: usize,
    /// Where they arrive.
    pub receiver: Receiver,
}

impl Flood {
    /// Starts a deployment in which an organization may publish little; each part lasts so long.
    pub async fn prepare(mode: Mode, duration: Duration) -> anyhow::Result<Self> {
        let measured = [("HOOKLINE__LOG__LEVEL", "info")];
        let deployment = limited_by(DependencyRoute::Direct, mode, &measured).await?;
        Ok(Self {
            deployment,
            duration,
        })
    }

    /// Runs the flood. The greedy organization publishes nothing, then its rate limit, then 50 times as much. It gets
    /// its limit and no more.
    pub async fn run(&self) -> anyhow::Result<FloodResult> {
        let (greedy, modest) = (
            self.deployment.tenant().await?,
            self.deployment.tenant().await?,
        );
        let (much, little) = (Receiver::healthy()?, Receiver::healthy()?);
        greedy.subscribe(&much, &["workflow.completed"]).await?;
        modest.subscribe(&little, &["workflow.completed"]).await?;
        // The first requests find connections unmade and caches empty.
        measure(&modest, &little, Duration::from_secs(1)).await?;
        let without = measure(&modest, &little, self.duration).await?;
        let begun = Instant::now();
        let second = Duration::from_secs(1);
        let (allowed, asked) = tokio::try_join!(
            measure(&modest, &little, self.duration),
            flood(&greedy, second, self.duration)
        )?;
        let (with, taken) = tokio::try_join!(
            measure(&modest, &little, self.duration),
            flood(&greedy, second / EXCESS, self.duration)
        )?;
        println!("alone                       {without}");
        println!("beside what another may     {allowed}");
        println!("beside {EXCESS} times too much    {with}");
        let taken = asked + taken;
        let received = much.deliveries();
        let may = RATE * (1 + usize::try_from(begun.elapsed().as_secs())? + 2);
        ensure!(received <= may, "{received} of {taken} came, and {may} may");
        Ok(FloodResult {
            without,
            allowed,
            with,
            taken,
            receiver: much,
        })
    }
}

/// A deployment in which an organization may publish [`RATE`] events a second.
pub async fn limited(mode: Mode) -> anyhow::Result<Deployment> {
    limited_by(DependencyRoute::Proxied, mode, &[]).await
}

async fn limited_by(
    route: DependencyRoute,
    mode: Mode,
    additional_variables: &[(&str, &str)],
) -> anyhow::Result<Deployment> {
    let rate = RATE.to_string();
    let limits = [
        ("HOOKLINE__LIMITS__EVENTS_PER_SECOND", rate.as_str()),
        ("HOOKLINE__LIMITS__EVENTS_BURST", rate.as_str()),
    ];
    Deployment::start_on(route, mode, &[&limits[..], additional_variables].concat()).await
}

/// The seconds that a publisher above its rate limit is told to wait.
///
/// # Errors
/// When the answer is not a 429 with a number of seconds.
pub fn retry_after_seconds(answer: ApiResponse) -> anyhow::Result<u64> {
    let refused = answer.problem(429)?;
    Ok(refused.header("retry-after").parse()?)
}

/// The modest one's latencies: from when an event was to be published until it came.
async fn measure(
    tenant: &Tenant<'_>,
    receiver: &Receiver,
    duration: Duration,
) -> anyhow::Result<Latencies> {
    let before = receiver.received().len();
    let gap = Duration::from_secs(1) / MODEST;
    let mut ticks = interval(gap);
    let begun = ticks.tick().await;
    let mut intended = HashMap::new();
    for number in 0..MODEST * u32::try_from(duration.as_secs())? {
        let at = begun + gap * number;
        let id = tenant.publish_one("workflow.completed").await?;
        intended.insert(id, at.into_std());
        ticks.tick().await;
    }
    let received = receiver.wait_for(before + intended.len()).await?;
    let mut latencies = Latencies::default();
    for request in &received[before..] {
        let body: Value = serde_json::from_slice(&request.body)?;
        let id = body["event_id"].as_str().context("an id")?;
        let at = intended.get(id).context("an event of this time")?;
        let latency = request.at.saturating_duration_since(*at);
        latencies.note(at.duration_since(begun.into_std()), latency);
    }
    ensure!(latencies.count() == intended.len());
    Ok(latencies)
}

/// Publishes [`RATE`] events at once in each interval of `every`, for `duration`. Returns how many were taken.
async fn flood(tenant: &Tenant<'_>, every: Duration, duration: Duration) -> anyhow::Result<usize> {
    let publisher = match tenant.deployment.mode {
        Mode::Standalone => None,
        Mode::Distributed => {
            Some(TestPublisher::connect(&tenant.deployment.dependencies()?.amqp).await?)
        }
    };
    let mut ticks = interval(every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let begun = Instant::now();
    let mut taken = 0;
    while begun.elapsed() < duration {
        ticks.tick().await;
        let events = tenant.events("workflow.completed", RATE);
        match &publisher {
            None => {
                let answer = tenant.client.post("/events", &json!(events)).await?;
                match answer.status.as_u16() {
                    202 => taken += RATE,
                    _ => drop(retry_after_seconds(answer)?),
                }
            }
            Some(publisher) => {
                let bodies: Vec<String> = events.iter().map(Value::to_string).collect();
                let all = bodies
                    .iter()
                    .map(|body| publisher.publish("workflow.completed", body.as_bytes(), json()));
                try_join_all(all).await?;
                taken += RATE;
            }
        }
    }
    Ok(taken)
}
