//! The broker is short of memory: it takes no messages, and gives out those that it has.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use hookline_acceptance::scenarios;
use hookline_acceptance::suite::IsolatedScenario;
use hookline_testkit::deployment::{Deployment, Mode, Service};
use hookline_testkit::receiver::{Receiver, Reply};
use hookline_testkit::waiting::until;
use serde_json::Value;

use super::wait_for_readiness;

pub(crate) fn distributed() -> Vec<IsolatedScenario> {
    scenarios![a_memory_alarm_stops_publishing_alone_and_the_backlog_drains]
}

/// Far more than the dispatcher has in hand at once.
const BACKLOG: usize = 40;

const FEW_IN_HAND: [(&str, &str); 3] = [
    ("HOOKLINE__DISPATCHER__SLOTS", "2"),
    ("HOOKLINE__DISPATCHER__PREFETCH", "8"),
    // None is left alone, so each of the failing ones is attempted.
    ("HOOKLINE__DISPATCHER__BREAKER_FAILURES", "1000000"),
];

async fn get(url: &str) -> anyhow::Result<String> {
    Ok(hookline_testkit::http::get(url).await?.text().await?)
}

/// How many deliveries ingest has stored.
fn stored(output: &str) -> usize {
    output
        .lines()
        .filter_map(|line| line.split_once("stored events deliveries="))
        .filter_map(|(_, deliveries)| deliveries.trim().parse::<usize>().ok())
        .sum()
}

async fn a_memory_alarm_stops_publishing_alone_and_the_backlog_drains(
    mode: Mode,
) -> anyhow::Result<()> {
    let deployment = Deployment::start_with(mode, &FEW_IN_HAND).await?;
    let tenant = deployment.tenant().await?;
    let slow = Duration::from_millis(100);
    let healthy = Receiver::with(move |_, _| Reply::status(200).after(slow))?;
    let failing = Receiver::with(move |_, earlier| match earlier < 4 * BACKLOG {
        true => Reply::status(500).after(slow),
        false => Reply::status(200),
    })?;
    let delivered = tenant.subscribe(&healthy, &["workflow.completed"]).await?;
    let failed = tenant.subscribe(&failing, &["workflow.completed"]).await?;
    let events = tenant.events("workflow.completed", BACKLOG);
    tenant.publish(&events).await?;
    healthy.wait_for(1).await?;
    let dependencies = deployment.dependencies()?;
    until("every event to be taken in", async || {
        Ok((stored(&deployment.output().await) == 2 * BACKLOG).then_some(()))
    })
    .await?;
    dependencies.alarm(true).await?;
    wait_for_readiness(&deployment, 503).await?;
    for service in [Service::Api, Service::Ingest, Service::Dispatcher] {
        let admin = deployment.admin(service).await?;
        let report: Value = serde_json::from_str(&get(&format!("{admin}/readyz")).await?)?;
        let parts = &report["parts"];
        ensure!(
            parts["broker_not_blocked"] == false && parts["broker"] == true,
            "{service:?}: {report}"
        );
        let metrics = get(&format!("{admin}/metrics")).await?;
        let shown = metrics
            .lines()
            .find(|line| line.starts_with("hookline_broker_blocked") && line.ends_with(" 1"));
        shown.with_context(|| format!("{service:?} has no gauge of it"))?;
    }

    // The rows that are due are delivered and recorded, without a wake-up.
    let total = async |subscription: i64| {
        let path = format!("/webhooks/{subscription}/logs?limit=1");
        let page = tenant.client.get(&path).await?.expect(200)?;
        anyhow::Ok(usize::try_from(page.json["total"].as_u64().unwrap_or(0))?)
    };
    until("the backlog to drain", async || {
        let done = (total(delivered).await?, total(failed).await?);
        Ok((done.0 >= BACKLOG && done.1 >= BACKLOG).then_some(()))
    })
    .await?;
    ensure!(
        deployment.readiness(Service::Dispatcher).await == 503,
        "the alarm is over"
    );
    let refused = tenant
        .client
        .post("/events", &tenant.event("workflow.completed"))
        .await?;
    refused.expect(503)?;

    dependencies.alarm(false).await?;
    wait_for_readiness(&deployment, 200).await?;
    tenant.publish_one("workflow.completed").await?;
    healthy.wait_for(BACKLOG + 1).await?;
    until("every failed delivery to be tried again", async || {
        Ok((total(failed).await? > 2 * BACKLOG).then_some(()))
    })
    .await?;
    let output = deployment.output().await;
    let count = |what: &str| output.matches(what).count();
    ensure!(count("the broker blocks publishing;") == 3, "one WARN each");
    ensure!(
        count("the broker takes messages again") == 3,
        "one INFO each"
    );
    deployment.end().await
}
