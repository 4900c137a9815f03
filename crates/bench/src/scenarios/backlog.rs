//! k: the backlog of receivers that are down, beside a healthy receiver, and its drain rate after their recovery.

use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use hookline_testkit::deployment::{Mode, Service};

use super::Size;
use super::drain::wait_until_taken_in;
use super::latency::millis;
use crate::child_process;
use crate::measurement::{Goal, Labels, MILLIS, Measurement, RATE};
use crate::publisher::Publish;
use crate::setup::{PATIENCE, Setup, SetupOptions, TYPE, subscription};

/// The event type of the healthy subscription.
const HEALTHY: &str = "workflow.started";

/// Events per second for the healthy subscription, and later for those that are down.
const LIVE: u32 = 100;

/// Subscriptions that are down, one for each organization.
const DOWN: usize = 1_000;

pub(super) async fn run(labels: Labels, size: Size) -> anyhow::Result<Vec<Measurement>> {
    let mut all = million(labels, size).await?;
    all.extend(recovery(labels, size).await?);
    Ok(all)
}

/// 1,000,000 due rows that a dispatcher finds when it takes over, while a healthy subscription gets fresh events.
async fn million(labels: Labels, size: Size) -> anyhow::Result<Vec<Measurement>> {
    let setup = open(DOWN).await?;
    let organizations = setup.many(0, 0).organizations;
    for (number, organization) in organizations.iter().enumerate() {
        let url = setup.receiver.url(&format!("down/{number}"));
        let client = setup.client.in_organization(organization);
        client.subscribe(&subscription(&url, TYPE)).await?;
    }
    let healthy = setup.client.in_organization(&organizations[0]);
    let url = setup.receiver.url(&format!("ok/{DOWN}"));
    healthy.subscribe(&subscription(&url, HEALTHY)).await?;
    let fresh = |first, seconds| Publish {
        first,
        organizations: organizations[..1].to_vec(),
        ..setup.steadily(LIVE, seconds, &[HEALTHY])
    };

    // Warms the dispatcher up to its full concurrency. The later figures are then the cost of the backlog alone.
    setup
        .deployment
        .start_service(Service::Dispatcher, &[])
        .await?;
    let warm = Publish {
        count: 20_000,
        rate: None,
        ..fresh(0, 1)
    };
    setup.deliver(&warm, warm.count).await?;
    let empty = memory(&setup).await?;
    setup.deployment.stop(Service::Dispatcher).await?;

    let owed = size.of(1_000_000);
    child_process::publish(&setup.many(10_000_000, owed)).await?;
    wait_until_taken_in(&setup, owed + warm.count).await?;
    // Events of one second before the take-over, and of one minute from then on.
    setup.receiver.reset().await?;
    let gap = fresh(30_000, 1);
    child_process::publish(&gap).await?;
    wait_until_taken_in(&setup, owed + warm.count + gap.count).await?;
    setup
        .deployment
        .start_service(Service::Dispatcher, &[])
        .await?;
    let begun = Instant::now();
    setup.receiver.wait_for(gap.count, PATIENCE).await?;
    let after_gap = begun.elapsed();
    setup.receiver.reset().await?;
    let live = fresh(40_000, size.of(60));
    let (_, report) = setup.deliver(&live, live.count).await?;
    let unmarked = wait_until_marked(&setup, begun).await?;
    let full = memory(&setup).await?;

    let alone = transactions(&setup).await?;
    setup.deployment.stop(Service::Dispatcher).await?;
    let without = transactions(&setup).await?;
    setup.close().await?;
    Ok(vec![
        labels.of(
            "from the start of the dispatcher until 1 s of fresh events is delivered",
            after_gap.as_secs_f64(),
            "s",
        ),
        labels.to_reach(
            format!("slowest fresh event beside {owed} owed"),
            millis(&report.latencies, 100),
            MILLIS,
            Goal::AtMost(2_000.0),
        ),
        labels.of("p99 of fresh events", millis(&report.latencies, 99), MILLIS),
        labels.of("until all is marked", unmarked.as_secs_f64(), "s"),
        labels.to_reach("memory for it", full - empty, "MiB", Goal::AtMost(16.0)),
        labels.to_reach(
            format!("transactions of the dispatcher, {LIVE} events/s for what is down"),
            alone - without,
            RATE,
            Goal::AtMost(50.0),
        ),
    ])
}

/// 100,000 rows of one subscription. Its receiver recovers under the same dispatcher, or right after a take-over.
async fn recovery(labels: Labels, size: Size) -> anyhow::Result<Vec<Measurement>> {
    let mut all = Vec::new();
    for (name, taken_over) in [("", false), (", after a take-over", true)] {
        let setup = open(0).await?;
        setup.subscribe("down/0", TYPE).await?;
        setup
            .deployment
            .start_service(Service::Dispatcher, &[])
            .await?;
        let owed = size.of(100_000);
        child_process::publish(&setup.many(0, owed)).await?;
        wait_until_taken_in(&setup, owed).await?;
        wait_until_marked(&setup, Instant::now()).await?;
        if taken_over {
            setup.deployment.kill(Service::Dispatcher).await?;
            setup
                .deployment
                .start_service(Service::Dispatcher, &[])
                .await?;
        }
        setup.receiver.recover().await?;
        let report = setup.receiver.wait_for(owed, PATIENCE).await?;
        setup.close().await?;
        let (first, last) = report.first.zip(report.last).context("nothing came")?;
        all.push(labels.of(
            format!("delivered of {owed} in the backlog{name}"),
            owed as f64 / last.seconds_since(first),
            RATE,
        ));
    }
    Ok(all)
}

async fn open(organizations: usize) -> anyhow::Result<Setup> {
    let options = SetupOptions {
        organizations,
        later: vec![Service::Dispatcher],
        // With the default, ingest would wait for a dispatcher that does not run yet.
        additional_settings: vec![("HOOKLINE__INGEST__MAX_WAITING", "100000000")],
        ..SetupOptions::default()
    };
    Setup::open(Mode::Distributed, options).await
}

async fn memory(setup: &Setup) -> anyhow::Result<f64> {
    let all = setup.memory().await?;
    all.get("dispatcher").copied().context("no dispatcher runs")
}

/// Waits until every owed delivery is marked, except those in hand.
async fn wait_until_marked(setup: &Setup, begun: Instant) -> anyhow::Result<Duration> {
    loop {
        let unmarked = setup
            .deployment
            .dependencies()?
            .sql("SELECT count(*) FROM (SELECT 1 FROM deliveries WHERE due IS NOT NULL AND backlog IS NULL LIMIT 2000) found")
            .await?;
        if unmarked.trim().parse::<u64>()? < 2_000 {
            return Ok(begun.elapsed());
        }
        ensure!(begun.elapsed() < 10 * PATIENCE, "the backlog is not marked");
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}

/// The transactions per second of all services, while events for the subscriptions that are down are published for 30 s.
async fn transactions(setup: &Setup) -> anyhow::Result<f64> {
    const SECONDS: u64 = 30;
    let count = async || -> anyhow::Result<f64> {
        let sql = "SELECT xact_commit FROM pg_stat_database WHERE datname = current_database()";
        Ok(setup
            .deployment
            .dependencies()?
            .sql(sql)
            .await?
            .trim()
            .parse()?)
    };
    // PostgreSQL reports the counts of a connection when it is idle.
    tokio::time::sleep(Duration::from_secs(2)).await;
    let before = count().await?;
    let mut events = setup.steadily(LIVE, SECONDS, &[TYPE]);
    events.first = 30_000_000 + before as u64;
    child_process::publish(&events).await?;
    tokio::time::sleep(Duration::from_secs(2)).await;
    Ok((count().await? - before) / SECONDS as f64)
}
