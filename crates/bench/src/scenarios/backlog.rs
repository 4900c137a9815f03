//! k: the backlog of receivers that are down, beside a healthy receiver, and its drain rate after their recovery.

use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use hookline_testkit::deployment::{Kind, Part};

use super::Size;
use super::drain::wait_until_taken_in;
use super::latency::millis;
use crate::child_process;
use crate::measurement::{Figure, Figures, Goal, MILLIS, RATE};
use crate::publisher::Publish;
use crate::setup::{PATIENCE, Setting, Stage, TYPE, subscription};

/// The event type of the healthy subscription.
const HEALTHY: &str = "workflow.started";

/// Events per second for the healthy subscription, and later for those that are down.
const LIVE: u32 = 100;

/// Subscriptions that are down, one for each organization.
const DOWN: usize = 1_000;

pub(super) async fn run(figures: Figures, size: Size) -> anyhow::Result<Vec<Figure>> {
    let mut all = million(figures, size).await?;
    all.extend(recovery(figures, size).await?);
    Ok(all)
}

/// 1,000,000 due rows that a dispatcher finds when it takes over, while a healthy subscription gets fresh events.
async fn million(figures: Figures, size: Size) -> anyhow::Result<Vec<Figure>> {
    let stage = open(DOWN).await?;
    let organizations = stage.many(0, 0).organizations;
    for (number, organization) in organizations.iter().enumerate() {
        let url = stage.receiver.url(&format!("down/{number}"));
        let client = stage.client.in_organization(organization);
        client.subscribe(&subscription(&url, TYPE)).await?;
    }
    let healthy = stage.client.in_organization(&organizations[0]);
    let url = stage.receiver.url(&format!("ok/{DOWN}"));
    healthy.subscribe(&subscription(&url, HEALTHY)).await?;
    let fresh = |first, seconds| Publish {
        first,
        organizations: organizations[..1].to_vec(),
        ..stage.steadily(LIVE, seconds, &[HEALTHY])
    };

    // Warms the dispatcher up to its full concurrency. The later figures are then the cost of the backlog alone.
    stage.home.start_part(Part::Dispatcher, &[]).await?;
    let warm = Publish {
        count: 20_000,
        rate: None,
        ..fresh(0, 1)
    };
    stage.deliver(&warm, warm.count).await?;
    let empty = memory(&stage).await?;
    stage.home.stop(Part::Dispatcher).await?;

    let owed = size.of(1_000_000);
    child_process::publish(&stage.many(10_000_000, owed)).await?;
    wait_until_taken_in(&stage, owed + warm.count).await?;
    // Events of one second before the take-over, and of one minute from then on.
    stage.receiver.reset().await?;
    let gap = fresh(30_000, 1);
    child_process::publish(&gap).await?;
    wait_until_taken_in(&stage, owed + warm.count + gap.count).await?;
    stage.home.start_part(Part::Dispatcher, &[]).await?;
    let begun = Instant::now();
    stage.receiver.wait_for(gap.count, PATIENCE).await?;
    let after_gap = begun.elapsed();
    stage.receiver.reset().await?;
    let live = fresh(40_000, size.of(60));
    let (_, report) = stage.deliver(&live, live.count).await?;
    let unmarked = wait_until_marked(&stage, begun).await?;
    let full = memory(&stage).await?;

    let alone = transactions(&stage).await?;
    stage.home.stop(Part::Dispatcher).await?;
    let without = transactions(&stage).await?;
    stage.close().await?;
    Ok(vec![
        figures.of(
            "from the start of the dispatcher until 1 s of fresh events is delivered",
            after_gap.as_secs_f64(),
            "s",
        ),
        figures.to_reach(
            format!("slowest fresh event beside {owed} owed"),
            millis(&report.latencies, 100),
            MILLIS,
            Goal::AtMost(2_000.0),
        ),
        figures.of("p99 of fresh events", millis(&report.latencies, 99), MILLIS),
        figures.of("until all is marked", unmarked.as_secs_f64(), "s"),
        figures.to_reach("memory for it", full - empty, "MiB", Goal::AtMost(16.0)),
        figures.to_reach(
            format!("transactions of the dispatcher, {LIVE} events/s for what is down"),
            alone - without,
            RATE,
            Goal::AtMost(50.0),
        ),
    ])
}

/// 100,000 rows of one subscription. Its receiver recovers under the same dispatcher, or right after a take-over.
async fn recovery(figures: Figures, size: Size) -> anyhow::Result<Vec<Figure>> {
    let mut all = Vec::new();
    for (name, taken_over) in [("", false), (", after a take-over", true)] {
        let stage = open(0).await?;
        stage.subscribe("down/0", TYPE).await?;
        stage.home.start_part(Part::Dispatcher, &[]).await?;
        let owed = size.of(100_000);
        child_process::publish(&stage.many(0, owed)).await?;
        wait_until_taken_in(&stage, owed).await?;
        wait_until_marked(&stage, Instant::now()).await?;
        if taken_over {
            stage.home.kill(Part::Dispatcher).await?;
            stage.home.start_part(Part::Dispatcher, &[]).await?;
        }
        stage.receiver.recover().await?;
        let report = stage.receiver.wait_for(owed, PATIENCE).await?;
        stage.close().await?;
        let (first, last) = report.first.zip(report.last).context("nothing came")?;
        all.push(figures.of(
            format!("delivered of {owed} in the backlog{name}"),
            owed as f64 / last.seconds_since(first),
            RATE,
        ));
    }
    Ok(all)
}

async fn open(organizations: usize) -> anyhow::Result<Stage> {
    let setting = Setting {
        organizations,
        later: vec![Part::Dispatcher],
        // With the default, ingest would wait for a dispatcher that does not run yet.
        besides: vec![("HOOKLINE__INGEST__MAX_WAITING", "100000000")],
        ..Setting::default()
    };
    Stage::open(Kind::Distributed, setting).await
}

async fn memory(stage: &Stage) -> anyhow::Result<f64> {
    let all = stage.memory().await?;
    all.get("dispatcher").copied().context("no dispatcher runs")
}

/// Waits until every owed delivery is marked, except those in hand.
async fn wait_until_marked(stage: &Stage, begun: Instant) -> anyhow::Result<Duration> {
    loop {
        let unmarked = stage
            .home
            .peers()?
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
async fn transactions(stage: &Stage) -> anyhow::Result<f64> {
    const SECONDS: u64 = 30;
    let count = async || -> anyhow::Result<f64> {
        let sql = "SELECT xact_commit FROM pg_stat_database WHERE datname = current_database()";
        Ok(stage.home.peers()?.sql(sql).await?.trim().parse()?)
    };
    // PostgreSQL reports the counts of a connection when it is idle.
    tokio::time::sleep(Duration::from_secs(2)).await;
    let before = count().await?;
    let mut events = stage.steadily(LIVE, SECONDS, &[TYPE]);
    events.first = 30_000_000 + before as u64;
    child_process::publish(&events).await?;
    tokio::time::sleep(Duration::from_secs(2)).await;
    Ok((count().await? - before) / SECONDS as f64)
}
