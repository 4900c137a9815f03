//! The embedded queue is as durable as a broker: accepted events outlive the process.

use std::time::Duration;

use anyhow::ensure;
use hookline_acceptance::scenarios;
use hookline_acceptance::suite::IsolatedScenario;
use hookline_testkit::deployment::{Deployment, Mode, Service};
use hookline_testkit::receiver::{Receiver, Reply, distinct};
use hookline_testkit::waiting::until;

pub(crate) fn standalone() -> Vec<IsolatedScenario> {
    scenarios![
        accepted_events_are_delivered_after_a_kill,
        a_retry_is_made_when_due_after_a_kill_and_a_restart,
    ]
}

async fn accepted_events_are_delivered_after_a_kill(mode: Mode) -> anyhow::Result<()> {
    const EVENTS: usize = 200;
    let slow = [("HOOKLINE__DISPATCHER__SLOTS", "8")];
    let deployment = Deployment::start_with(mode, &slow).await?;
    let tenant = deployment.tenant().await?;
    let receiver = Receiver::with(|_, _| Reply::status(200).after(Duration::from_millis(10)))?;
    let subscription = tenant.subscribe(&receiver, &["workflow.started"]).await?;
    let events = tenant.events("workflow.started", EVENTS);
    tenant.publish(&events).await?;
    receiver.wait_for(EVENTS / 2).await?;
    deployment.kill(Service::Dispatcher).await?;
    let before = receiver.received().len();
    ensure!(
        before < EVENTS,
        "all {before} were delivered before the kill"
    );
    deployment.start_service(Service::Dispatcher, &[]).await?;
    deployment.wait_ready().await?;

    let path = format!("/webhooks/{subscription}/logs?limit=1&status=success");
    until("every delivery in the log", async || {
        let page = tenant.client.get(&path).await?.expect(200)?;
        Ok((page.json["total"] == EVENTS).then_some(()))
    })
    .await?;
    let received = receiver.received();
    let ids = distinct(&received);
    ensure!(ids.len() == EVENTS, "{} deliveries", ids.len());
    // Requests that were in flight and not recorded come again: the slots, and as many being recorded.
    let repeats = received.len() - EVENTS;
    ensure!(repeats <= 64, "{repeats} requests were made twice");
    deployment.end().await
}

async fn a_retry_is_made_when_due_after_a_kill_and_a_restart(mode: Mode) -> anyhow::Result<()> {
    let deployment = Deployment::start(mode).await?;
    let tenant = deployment.tenant().await?;
    let receiver = Receiver::answering(vec![
        Reply::status(429).with_header("retry-after", "4"),
        Reply::status(200),
    ])?;
    let subscription = tenant.subscribe(&receiver, &["workflow.failed"]).await?;
    tenant.publish_one("workflow.failed").await?;
    tenant.client.wait_for_log(subscription, 1).await?;
    deployment.kill(Service::Dispatcher).await?;
    deployment.start_service(Service::Dispatcher, &[]).await?;
    deployment.wait_ready().await?;
    deployment.restart(Service::Dispatcher, &[]).await?;
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
    deployment.end().await
}
