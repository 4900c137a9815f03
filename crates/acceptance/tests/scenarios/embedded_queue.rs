//! The embedded queue is as durable as a broker: accepted events outlive the process.

use std::collections::HashSet;
use std::time::Duration;

use anyhow::ensure;
use hookline_acceptance::sentences;
use hookline_acceptance::suite::Alone;
use hookline_testkit::deployment::{Home, Kind, Part};
use hookline_testkit::receiver::{Receiver, Reply};
use hookline_testkit::waiting::until;
use serde_json::Value;

pub(crate) fn embedded() -> Vec<Alone> {
    sentences![
        what_was_accepted_is_delivered_after_a_kill,
        a_retry_comes_when_it_is_due_over_a_kill_and_a_restart,
    ]
}

async fn what_was_accepted_is_delivered_after_a_kill(kind: Kind) -> anyhow::Result<()> {
    const EVENTS: usize = 200;
    let slow = [("HOOKLINE__DISPATCHER__SLOTS", "8")];
    let home = Home::start_with(kind, &slow).await?;
    let tenant = home.tenant().await?;
    let receiver = Receiver::that(|_, _| Reply::status(200).after(Duration::from_millis(10)))?;
    let subscription = tenant.subscribe(&receiver, &["workflow.started"]).await?;
    let events: Vec<Value> = (0..EVENTS)
        .map(|_| tenant.event("workflow.started"))
        .collect();
    tenant.publish(&events).await?;
    receiver.wait_for(EVENTS / 2).await?;
    home.kill(Part::Dispatcher).await?;
    let before = receiver.received().len();
    ensure!(
        before < EVENTS,
        "all {before} were delivered before the kill"
    );
    home.start_part(Part::Dispatcher, &[]).await?;
    home.wait_ready().await?;

    let path = format!("/webhooks/{subscription}/logs?limit=1&status=success");
    until("every delivery in the log", async || {
        let page = tenant.client.get(&path).await?.expect(200)?;
        Ok((page.json["total"] == EVENTS).then_some(()))
    })
    .await?;
    let received = receiver.received();
    let ids: HashSet<_> = received
        .iter()
        .filter_map(|request| request.header("webhook-id").ok())
        .collect();
    ensure!(ids.len() == EVENTS, "{} deliveries", ids.len());
    // Requests that were in flight and not recorded come again: the slots, and as many being recorded.
    let repeats = received.len() - EVENTS;
    ensure!(repeats <= 64, "{repeats} requests were made twice");
    home.end().await
}

async fn a_retry_comes_when_it_is_due_over_a_kill_and_a_restart(kind: Kind) -> anyhow::Result<()> {
    let home = Home::start(kind).await?;
    let tenant = home.tenant().await?;
    let receiver = Receiver::answering(vec![
        Reply::status(429).with("retry-after", "4"),
        Reply::status(200),
    ])?;
    let subscription = tenant.subscribe(&receiver, &["workflow.failed"]).await?;
    tenant.publish_one("workflow.failed").await?;
    tenant.client.wait_for_log(subscription, 1).await?;
    home.kill(Part::Dispatcher).await?;
    home.start_part(Part::Dispatcher, &[]).await?;
    home.wait_ready().await?;
    home.stop(Part::Dispatcher).await?;
    home.start_part(Part::Dispatcher, &[]).await?;
    home.wait_ready().await?;
    let received = receiver.wait_for(2).await?;
    let passed = received[1].at - received[0].at;
    let due = Duration::from_secs(4);
    ensure!(
        passed + Duration::from_millis(50) >= due && passed < due + Duration::from_millis(2_500),
        "{passed:?} instead of {due:?}"
    );
    let log = tenant.client.wait_for_log(subscription, 2).await?;
    ensure!(
        log[1]["attempt"] == 2 && log[1]["trigger"] == "retry",
        "{log:#?}"
    );
    home.end().await
}
