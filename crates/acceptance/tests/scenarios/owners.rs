//! Partition owners: when a dispatcher dies or freezes, another one goes on with its partitions. No delivery depends on
//! a wake-up.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use hookline_acceptance::scenarios;
use hookline_acceptance::suite::IsolatedScenario;
use hookline_testkit::deployment::{Deployment, Mode, Service};
use hookline_testkit::receiver::{Receiver, Reply};
use hookline_testkit::waiting::until;
use serde_json::Value;

pub(crate) fn isolated() -> Vec<IsolatedScenario> {
    scenarios![polling_finds_deliveries_and_retries_without_wake_ups]
}

pub(crate) fn exclusive() -> Vec<IsolatedScenario> {
    scenarios![
        subscriptions_of_a_killed_dispatcher_continue_within_6_s,
        subscriptions_of_a_frozen_dispatcher_continue_within_10_s,
    ]
}

/// One in each partition, so that each dispatcher owns half of them.
const SUBSCRIPTIONS: usize = 64;

/// A look each second, for rows that have been due for a second; and a busy machine.
const BY_A_LOOK: Duration = Duration::from_secs(4);

async fn polling_finds_deliveries_and_retries_without_wake_ups(mode: Mode) -> anyhow::Result<()> {
    let deployment =
        Deployment::start_with(mode, &[("FAILPOINTS", "queue::wake=return(1)")]).await?;
    let tenant = deployment.tenant().await?;
    let receiver = Receiver::answering(vec![Reply::status(500), Reply::status(200)])?;
    tenant.subscribe(&receiver, &["workflow.failed"]).await?;
    for event in 0..3 {
        let published = Instant::now();
        tenant.publish_one("workflow.failed").await?;
        receiver.wait_for(2 * event + 1).await?;
        let first = published.elapsed();
        receiver.wait_for(2 * event + 2).await?;
        let second = published.elapsed() - first;
        println!("{mode:?}: without wake-ups after {first:?}, and again after {second:?}");
        // The retry is scheduled after a second.
        ensure!(first < BY_A_LOOK && second < BY_A_LOOK + Duration::from_secs(1));
    }
    deployment.end().await
}

async fn subscriptions_of_a_killed_dispatcher_continue_within_6_s(
    mode: Mode,
) -> anyhow::Result<()> {
    go_on(mode, "KILL", Duration::from_secs(6)).await
}

async fn subscriptions_of_a_frozen_dispatcher_continue_within_10_s(
    mode: Mode,
) -> anyhow::Result<()> {
    go_on(mode, "STOP", Duration::from_secs(10)).await
}

async fn go_on(mode: Mode, signal: &str, within: Duration) -> anyhow::Result<()> {
    let deployment = Deployment::prepare(mode, &[]).await?;
    for service in [
        Service::Dispatcher,
        Service::Dispatcher,
        Service::Api,
        Service::Ingest,
    ] {
        deployment.start_service(service, &[]).await?;
    }
    deployment.wait_ready().await?;
    let tenant = deployment.tenant().await?;
    let receiver = Receiver::healthy()?;
    for _ in 0..SUBSCRIPTIONS {
        tenant.subscribe(&receiver, &["workflow.failed"]).await?;
    }
    tenant.publish_one("workflow.failed").await?;
    receiver.wait_for(SUBSCRIPTIONS).await?;
    until("even shares", async || {
        let counts = owners(&deployment).await?;
        Ok((counts.len() == 2 && counts.values().all(|count| *count == 32)).then_some(()))
    })
    .await?;

    deployment
        .signal_oldest(Service::Dispatcher, signal)
        .await?;
    let hit = Instant::now();
    tenant.publish_one("workflow.failed").await?;
    receiver.wait_for(2 * SUBSCRIPTIONS).await?;
    let elapsed = hit.elapsed();
    println!("{signal}: all subscriptions went on after {elapsed:?}");
    ensure!(elapsed < within, "{elapsed:?}");
    // The other one had to see its beat unchanged first.
    ensure!(elapsed > Duration::from_secs(1), "nothing of it was hit");
    if signal == "STOP" {
        deployment
            .signal_oldest(Service::Dispatcher, "CONT")
            .await?;
        deployment.wait_ready().await?;
    } else {
        let ended = deployment.restart_ended(&[]).await?;
        ensure!(ended == 1, "{ended} processes have ended");
    }
    deployment.end().await
}

/// How many partitions each dispatcher owns.
async fn owners(deployment: &Deployment) -> anyhow::Result<HashMap<String, usize>> {
    let printed: Value =
        serde_json::from_str(&deployment.hookline(&["partitions", "--json"]).await?)?;
    let partitions = printed["partitions"].as_array().context("no partitions")?;
    let mut counts = HashMap::new();
    for partition in partitions {
        let owner = partition["owner"].as_str().unwrap_or("none");
        *counts.entry(owner.to_owned()).or_default() += 1;
    }
    Ok(counts)
}
