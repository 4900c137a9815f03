//! Partition owners: when a dispatcher dies or freezes, another one goes on with its partitions. No delivery depends on
//! a wake-up.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use hookline_acceptance::sentences;
use hookline_acceptance::suite::Alone;
use hookline_testkit::deployment::{Home, Kind, Part};
use hookline_testkit::receiver::{Receiver, Reply};
use hookline_testkit::waiting::until;
use serde_json::Value;

pub(crate) fn alone() -> Vec<Alone> {
    sentences![without_wake_ups_looks_find_deliveries_and_retries]
}

pub(crate) fn quiet() -> Vec<Alone> {
    sentences![
        the_subscriptions_of_a_killed_dispatcher_go_on_within_6_s,
        the_subscriptions_of_a_frozen_dispatcher_go_on_within_10_s,
    ]
}

/// One in each partition, so that each dispatcher owns half of them.
const SUBSCRIPTIONS: usize = 64;

/// A look each second, for rows that have been due for a second; and a busy machine.
const BY_A_LOOK: Duration = Duration::from_secs(4);

async fn without_wake_ups_looks_find_deliveries_and_retries(kind: Kind) -> anyhow::Result<()> {
    let home = Home::start_with(kind, &[("FAILPOINTS", "queue::wake=return(1)")]).await?;
    let tenant = home.tenant().await?;
    let receiver = Receiver::answering(vec![Reply::status(500), Reply::status(200)])?;
    tenant.subscribe(&receiver, &["workflow.failed"]).await?;
    for event in 0..3 {
        let published = Instant::now();
        tenant.publish_one("workflow.failed").await?;
        receiver.wait_for(2 * event + 1).await?;
        let first = published.elapsed();
        receiver.wait_for(2 * event + 2).await?;
        let second = published.elapsed() - first;
        println!("{kind:?}: without wake-ups after {first:?}, and again after {second:?}");
        // The retry is scheduled after a second.
        ensure!(first < BY_A_LOOK && second < BY_A_LOOK + Duration::from_secs(1));
    }
    home.end().await
}

async fn the_subscriptions_of_a_killed_dispatcher_go_on_within_6_s(
    kind: Kind,
) -> anyhow::Result<()> {
    go_on(kind, "KILL", Duration::from_secs(6)).await
}

async fn the_subscriptions_of_a_frozen_dispatcher_go_on_within_10_s(
    kind: Kind,
) -> anyhow::Result<()> {
    go_on(kind, "STOP", Duration::from_secs(10)).await
}

async fn go_on(kind: Kind, signal: &str, within: Duration) -> anyhow::Result<()> {
    let home = Home::prepare(kind, &[]).await?;
    for part in [Part::Dispatcher, Part::Dispatcher, Part::Api, Part::Ingest] {
        home.start_part(part, &[]).await?;
    }
    home.wait_ready().await?;
    let tenant = home.tenant().await?;
    let receiver = Receiver::healthy()?;
    for _ in 0..SUBSCRIPTIONS {
        tenant.subscribe(&receiver, &["workflow.failed"]).await?;
    }
    tenant.publish_one("workflow.failed").await?;
    receiver.wait_for(SUBSCRIPTIONS).await?;
    until("even shares", async || {
        let counts = owners(&home).await?;
        Ok((counts.len() == 2 && counts.values().all(|count| *count == 32)).then_some(()))
    })
    .await?;

    home.signal_oldest(Part::Dispatcher, signal).await?;
    let hit = Instant::now();
    tenant.publish_one("workflow.failed").await?;
    receiver.wait_for(2 * SUBSCRIPTIONS).await?;
    let took = hit.elapsed();
    println!("{signal}: all subscriptions went on after {took:?}");
    ensure!(took < within, "{took:?}");
    // The other one had to see its beat unchanged first.
    ensure!(took > Duration::from_secs(1), "nothing of it was hit");
    if signal == "STOP" {
        home.signal_oldest(Part::Dispatcher, "CONT").await?;
        home.wait_ready().await?;
    } else {
        let ended = home.restart_ended(&[]).await?;
        ensure!(ended == 1, "{ended} processes have ended");
    }
    home.end().await
}

/// How many partitions each dispatcher owns.
async fn owners(home: &Home) -> anyhow::Result<HashMap<String, usize>> {
    let printed: Value = serde_json::from_str(&home.hookline(&["partitions", "--json"]).await?)?;
    let partitions = printed["partitions"].as_array().context("no partitions")?;
    let mut counts = HashMap::new();
    for partition in partitions {
        let owner = partition["owner"].as_str().unwrap_or("none");
        *counts.entry(owner.to_owned()).or_default() += 1;
    }
    Ok(counts)
}
