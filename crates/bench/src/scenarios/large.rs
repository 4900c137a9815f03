//! j: the cost of one organization's large fan-out for another organization.

use hookline_testkit::deployment::Mode;
use reqwest::Method;
use reqwest::header::CONTENT_TYPE;
use tokio::time::Instant;

use super::Size;
use super::latency::millis;
use crate::child_process::{self, ReceiverProcess, Scheme};
use crate::event::{Moment, event};
use crate::ledger::ReceiverReport;
use crate::measurement::{Goal, Labels, MILLIS, Measurement};
use crate::publisher::Publish;
use crate::setup::{PATIENCE, Setup, SetupOptions, TYPE, subscription};

/// Subscriptions of the large organization, all to the same type.
const SUBSCRIPTIONS: u64 = 1_000;

/// Events per second of the other organization, and their duration.
const RATE: u32 = 20;
const SECONDS: u64 = 20;

/// Events in the one request of the large organization: 60,000 or 1,000,000 deliveries.
fn events(mode: Mode) -> u64 {
    match mode {
        Mode::Distributed => 60,
        Mode::Standalone => 1_000,
    }
}

pub(super) async fn run(
    labels: Labels,
    mode: Mode,
    size: Size,
) -> anyhow::Result<Vec<Measurement>> {
    let setup = Setup::open(mode, SetupOptions::default()).await?;
    for number in 0..SUBSCRIPTIONS {
        setup.subscribe(&format!("ok/{number}"), TYPE).await?;
    }
    let other = Other::of(&setup).await?;
    other.measure(0).await?;
    let alone = other.measure(1).await?;

    let count = size.of(events(mode));
    let begun = Instant::now();
    let (accepted, with_load) = tokio::try_join!(publish(&setup, count), other.measure(2))?;
    let report = setup
        .receiver
        .wait_for(count * SUBSCRIPTIONS, PATIENCE)
        .await?;
    let elapsed = begun.elapsed();
    let memory = setup.memory().await?;
    setup.close().await?;

    let more = |percent| millis(&with_load.latencies, percent) - millis(&alone.latencies, percent);
    let mut all = vec![
        labels.to_reach("accepted after", accepted, MILLIS, Goal::AtMost(1_000.0)),
        labels.of("delivered after", elapsed.as_secs_f64(), "s"),
        labels.of("deliveries that came again", report.repeats as f64, ""),
        labels.of(
            "p99 of another, alone",
            millis(&alone.latencies, 99),
            MILLIS,
        ),
        labels.of(
            "slowest of another, alone",
            millis(&alone.latencies, 100),
            MILLIS,
        ),
        labels.to_reach(
            "p99 of another, more",
            more(99),
            MILLIS,
            Goal::AtMost(100.0),
        ),
        labels.to_reach(
            "slowest of another, more",
            more(100),
            MILLIS,
            Goal::AtMost(250.0),
        ),
    ];
    all.extend(memory.into_iter().map(|(name, memory)| {
        let what = format!("memory of {name}");
        match name == "ingest" {
            true => labels.to_reach(what, memory, "MiB", Goal::AtMost(128.0)),
            false => labels.of(what, memory, "MiB"),
        }
    }));
    Ok(all)
}

/// Publishes the events of the large organization in one request. Returns the milliseconds until it was accepted.
async fn publish(setup: &Setup, count: u64) -> anyhow::Result<f64> {
    let organizations = setup.many(0, count).organizations;
    let events: Vec<String> = (0..count)
        .map(|number| event(&organizations[0], TYPE, number, Moment::now()))
        .collect();
    let request = setup
        .client
        .request(Method::POST, "/events")
        .header(CONTENT_TYPE, "application/json")
        .body(format!("[{}]", events.join(",")));
    // The events of the other organization are already in progress.
    tokio::time::sleep(std::time::Duration::from_secs(1)).await;
    let begun = Instant::now();
    setup.client.send(request).await?.expect(202)?;
    Ok(begun.elapsed().as_secs_f64() * 1_000.0)
}

/// An organization with one subscription and a separate receiver.
struct Other {
    receiver: ReceiverProcess,
    publish: Publish,
}

impl Other {
    async fn of(setup: &Setup) -> anyhow::Result<Self> {
        let receiver = ReceiverProcess::start(Scheme::Http).await?;
        let tenant = setup.deployment.tenant().await?;
        let wanted = subscription(&receiver.url("ok/0"), TYPE);
        tenant.client.subscribe(&wanted).await?;
        let publish = Publish {
            organizations: vec![tenant.organization.clone()],
            key: setup
                .deployment
                .key(&["--org", &tenant.organization])
                .await?,
            ..setup.steadily(RATE, SECONDS, &[TYPE])
        };
        Ok(Self { receiver, publish })
    }

    /// Measures its deliveries. `turn` makes the event numbers unique.
    async fn measure(&self, turn: u64) -> anyhow::Result<ReceiverReport> {
        self.receiver.reset().await?;
        let count = self.publish.count;
        let publish = Publish {
            first: turn * count,
            ..self.publish.clone()
        };
        let (_, report) = tokio::try_join!(
            child_process::publish(&publish),
            self.receiver.wait_for(count, PATIENCE)
        )?;
        Ok(report)
    }
}
