//! Crashes: the process ends between two steps, and the work that it had in hand is delivered all the same.

use std::sync::atomic::Ordering;

use anyhow::{Context as _, ensure};
use hookline_acceptance::scenarios;
use hookline_acceptance::suite::IsolatedScenario;
use hookline_testkit::deployment::{Deployment, Mode, Service};
use hookline_testkit::receiver::{Receiver, Reply, distinct};
use hookline_testkit::waiting::until;
use serde_json::Value;

pub(crate) fn isolated() -> Vec<IsolatedScenario> {
    scenarios![
        ingest_dies_after_its_commit,
        ingest_dies_after_handing_on,
        ingest_dies_after_the_ack,
        the_dispatcher_dies_after_the_request,
        the_dispatcher_dies_after_its_commit,
        the_dispatcher_dies_after_handing_on,
        the_dispatcher_dies_after_the_ack,
        the_dispatcher_dies_after_it_has_marked_backlog,
        the_dispatcher_dies_after_it_has_read_backlog,
        a_panic_in_a_task_of_ingest_ends_the_process,
        a_panic_in_a_task_of_the_dispatcher_ends_the_process,
    ]
}

async fn ingest_dies_after_its_commit(mode: Mode) -> anyhow::Result<()> {
    dies_at(mode, Service::Ingest, "ingest::committed", Repeats::None).await
}

async fn ingest_dies_after_handing_on(mode: Mode) -> anyhow::Result<()> {
    dies_at(mode, Service::Ingest, "ingest::published", Repeats::None).await
}

async fn ingest_dies_after_the_ack(mode: Mode) -> anyhow::Result<()> {
    dies_at(mode, Service::Ingest, "ingest::acked", Repeats::None).await
}

async fn the_dispatcher_dies_after_the_request(mode: Mode) -> anyhow::Result<()> {
    dies_at(
        mode,
        Service::Dispatcher,
        "dispatcher::requested",
        Repeats::First,
    )
    .await
}

async fn the_dispatcher_dies_after_its_commit(mode: Mode) -> anyhow::Result<()> {
    dies_at(
        mode,
        Service::Dispatcher,
        "dispatcher::committed",
        Repeats::None,
    )
    .await
}

async fn the_dispatcher_dies_after_handing_on(mode: Mode) -> anyhow::Result<()> {
    dies_at(
        mode,
        Service::Dispatcher,
        "dispatcher::published",
        Repeats::None,
    )
    .await
}

async fn the_dispatcher_dies_after_the_ack(mode: Mode) -> anyhow::Result<()> {
    dies_at(
        mode,
        Service::Dispatcher,
        "dispatcher::acked",
        Repeats::None,
    )
    .await
}

async fn the_dispatcher_dies_after_it_has_marked_backlog(mode: Mode) -> anyhow::Result<()> {
    dies_with_backlog(mode, "dispatcher::marked=return").await
}

async fn the_dispatcher_dies_after_it_has_read_backlog(mode: Mode) -> anyhow::Result<()> {
    dies_with_backlog(mode, "dispatcher::read_backlog=return").await
}

/// The receiver fails, so its deliveries become backlog. The dispatcher dies with that, and the next one delivers all once
/// the receiver is well.
async fn dies_with_backlog(mode: Mode, fault: &str) -> anyhow::Result<()> {
    const EVENTS: usize = 20;
    let settings = [("HOOKLINE__DISPATCHER__BREAKER_FAILURES", "1")];
    let deployment = Deployment::start_with(mode, &settings).await?;
    let tenant = deployment.tenant().await?;
    let (receiver, is_well) = Receiver::refusing()?;
    let subscription = tenant.subscribe(&receiver, &["workflow.failed"]).await?;
    tenant.publish_one("workflow.failed").await?;
    tenant.client.wait_for_log(subscription, 1).await?;

    deployment
        .restart(Service::Dispatcher, &[("FAILPOINTS", fault)])
        .await?;
    for _ in 0..EVENTS {
        // In the standalone deployment the process may have ended.
        let published = tenant.publish_one("workflow.failed").await;
        if mode == Mode::Distributed {
            published?;
        } else if published.is_err() {
            break;
        }
    }
    deployment
        .wait_for_end(Service::Dispatcher)
        .await
        .context("the fault point was not reached")?;
    is_well.store(true, Ordering::Relaxed);
    deployment.start_service(Service::Dispatcher, &[]).await?;
    deployment.wait_ready().await?;

    let deliveries = format!("/webhooks/{subscription}/deliveries?limit=100");
    until("every delivery is delivered", async || {
        let page = tenant.client.get(&deliveries).await?.expect(200)?.json;
        let found = page["deliveries"].as_array().context("a list")?;
        let is_delivered = |one: &Value| one["status"] == "delivered";
        let is_whole = mode == Mode::Standalone || found.len() == EVENTS + 1;
        Ok((is_whole && found.iter().all(is_delivered)).then_some(()))
    })
    .await?;
    deployment.end().await
}

async fn a_panic_in_a_task_of_ingest_ends_the_process(mode: Mode) -> anyhow::Result<()> {
    ends_by(
        mode,
        Service::Ingest,
        "ingest::committed=panic",
        Repeats::None,
    )
    .await
}

async fn a_panic_in_a_task_of_the_dispatcher_ends_the_process(mode: Mode) -> anyhow::Result<()> {
    let fault = "dispatcher::requested=panic";
    ends_by(mode, Service::Dispatcher, fault, Repeats::First).await
}

/// Which requests a receiver may see again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Repeats {
    None,
    /// The one that was made and not recorded.
    First,
}

/// One event, a receiver that refuses the first attempt and takes the second: so both a first
/// message and a delayed one are on their way when the process ends.
async fn dies_at(
    mode: Mode,
    service: Service,
    point: &str,
    repeats: Repeats,
) -> anyhow::Result<()> {
    ends_by(mode, service, &format!("{point}=return"), repeats).await
}

async fn ends_by(
    mode: Mode,
    service: Service,
    fault: &str,
    repeats: Repeats,
) -> anyhow::Result<()> {
    let deployment = Deployment::start(mode).await?;
    let tenant = deployment.tenant().await?;
    let receiver = Receiver::with(|request, _| match request.header("x-webhook-attempt") {
        Ok("1") => Reply::status(500),
        _ => Reply::status(200),
    })?;
    let subscription = tenant.subscribe(&receiver, &["workflow.failed"]).await?;

    deployment
        .restart(service, &[("FAILPOINTS", fault)])
        .await?;
    // In the standalone deployment the answer may not come any more, for the process dies of it.
    let published = tenant.publish_one("workflow.failed").await;
    if mode == Mode::Distributed {
        published?;
    }
    deployment.replace_crashed(service).await?;

    let log = tenant.client.wait_for_log(subscription, 2).await?;
    let attempts: Vec<_> = log.iter().map(|entry| entry["attempt"].as_u64()).collect();
    ensure!(attempts == [Some(1), Some(2)], "{log:#?}");
    let statuses: Vec<_> = log.iter().map(|entry| entry["status"].as_str()).collect();
    ensure!(statuses == [Some("failed"), Some("success")], "{log:#?}");

    // Another event takes the same way through the queues and the delay, behind whatever is left
    // of the first: a second message of that would have made its request by then.
    tenant.publish_one("workflow.failed").await?;
    tenant.client.wait_for_log(subscription, 4).await?;
    let received = receiver.received();
    let ids = distinct(&received);
    ensure!(ids.len() == 2, "{} deliveries of two events", ids.len());
    let expected = match (repeats, mode) {
        (Repeats::First, _) => 5..=5,
        // The dispatcher ends with ingest, and sees the row as soon as it is committed: its request
        // may have been made and not recorded.
        (_, Mode::Standalone) if service == Service::Ingest => 4..=5,
        (Repeats::None, _) => 4..=4,
    };
    ensure!(
        expected.contains(&received.len()),
        "{} requests instead of {expected:?}",
        received.len()
    );
    deployment.end().await
}
