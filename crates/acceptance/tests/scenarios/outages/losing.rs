//! A connection to a server breaks in the midst of work, at the worst moments.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use hookline_acceptance::scenarios;
use hookline_acceptance::suite::IsolatedScenario;
use hookline_testkit::deployment::{Deployment, Mode};
use hookline_testkit::proxy::{Link, Proxy};
use hookline_testkit::receiver::{Receiver, Reply, distinct};
use hookline_testkit::tenant::Tenant;
use hookline_testkit::waiting::until;
use serde_json::{Value, json};

use super::wait_for_readiness;

pub(crate) fn distributed() -> Vec<IsolatedScenario> {
    scenarios![
        a_lost_response_of_a_dependency_loses_no_delivery,
        cuts_under_load_lose_nothing,
    ]
}

/// A service did its work, and the answer that says so is lost. It does the work again, or not. Later events arrive
/// all the same.
async fn a_lost_response_of_a_dependency_loses_no_delivery(mode: Mode) -> anyhow::Result<()> {
    let deployment = Deployment::start(mode).await?;
    let dependencies = deployment.dependencies()?;
    let (postgres, rabbitmq) = (&dependencies.postgres, &dependencies.rabbitmq);
    let (commit, wake_up, delayed) = (
        Link::LosesResponseTo(b"COMMIT"),
        Link::LosesResponseTo(b"hookline.wake"),
        Link::LosesResponseTo(b"hookline.wake."),
    );
    // A single statement that takes an event in or records an attempt names the event's type.
    let (taken_in, recorded) = (
        Link::LosesResponseTo(b"workflow.started"),
        Link::LosesResponseTo(b"workflow.failed"),
    );
    let tenant = deployment.tenant().await?;
    lost_before(&deployment, &tenant, Ingest::IsNew, postgres, commit)
        .await
        .context("ingest's commit")?;
    lost_before(&deployment, &tenant, Ingest::Knows, postgres, taken_in)
        .await
        .context("ingest's statement")?;
    lost_before(&deployment, &tenant, Ingest::IsNew, rabbitmq, wake_up)
        .await
        .context("ingest's wake-up")?;
    lost_after(&deployment, &tenant, postgres, recorded)
        .await
        .context("the dispatcher's statement")?;
    lost_after(&deployment, &tenant, rabbitmq, delayed)
        .await
        .context("the dispatcher's wake-up")?;
    deployment.end().await
}

/// How much ingest knows of the subscription that an event is for.
#[derive(Clone, Copy, PartialEq)]
enum Ingest {
    /// Nothing yet: it takes the event in within a transaction.
    IsNew,
    /// All, for it has taken another event in since; one statement will do.
    Knows,
}

async fn lost_before(
    deployment: &Deployment,
    tenant: &Tenant<'_>,
    ingest: Ingest,
    proxy: &Proxy,
    loss: Link,
) -> anyhow::Result<()> {
    let receiver = Receiver::healthy()?;
    let subscription = tenant.subscribe(&receiver, &["workflow.started"]).await?;
    if ingest == Ingest::Knows {
        let event = tenant.publish_one("workflow.completed").await?;
        let path = format!("/events/{event}");
        until("an event that nobody wants", async || {
            let details = tenant.client.get(&path).await?;
            Ok((details.status == 200).then_some(()))
        })
        .await?;
    }
    proxy.set(loss);
    tenant.publish_one("workflow.started").await?;
    receiver.wait_for(1).await?;
    delivered_at(deployment, tenant, subscription, 1).await?;
    ensure!(proxy.link() == Link::Up, "nothing was lost");
    Ok(())
}

async fn lost_after(
    deployment: &Deployment,
    tenant: &Tenant<'_>,
    proxy: &Proxy,
    loss: Link,
) -> anyhow::Result<()> {
    let armed = proxy.clone();
    let receiver = Receiver::with(move |_, before| {
        if before > 0 {
            return Reply::status(200);
        }
        armed.set(loss);
        Reply::status(500)
    })?;
    let subscription = tenant.subscribe(&receiver, &["workflow.failed"]).await?;
    tenant.publish_one("workflow.failed").await?;
    receiver.wait_for(2).await?;
    delivered_at(deployment, tenant, subscription, 2).await?;
    ensure!(proxy.link() == Link::Up, "nothing was lost");
    Ok(())
}

/// The log has each attempt once, and the last of them arrived; the subscription is done with.
async fn delivered_at(
    deployment: &Deployment,
    tenant: &Tenant<'_>,
    subscription: i64,
    attempts: usize,
) -> anyhow::Result<()> {
    let log = tenant.client.wait_for_log(subscription, attempts).await?;
    let numbers: Vec<_> = log
        .iter()
        .filter_map(|entry| entry["attempt"].as_u64())
        .collect();
    ensure!(numbers.into_iter().eq(1..=attempts as u64), "{log:#?}");
    ensure!(log[attempts - 1]["status"] == "success", "{log:#?}");
    let path = format!("/webhooks/{subscription}");
    tenant.client.delete(&path).await?.expect(204)?;
    deployment.wait_ready().await
}

async fn cuts_under_load_lose_nothing(mode: Mode) -> anyhow::Result<()> {
    const AT_A_TIME: usize = 40;
    let deployment = Deployment::start(mode).await?;
    let tenant = deployment.tenant().await?;
    let receiver = Receiver::with(|request, before| {
        let failing = request.body.len() % 4 == 0 && before == 0;
        Reply::status(if failing { 500 } else { 200 }).after(Duration::from_millis(20))
    })?;
    let subscription = tenant
        .subscribe(&receiver, &["workflow.step.completed"])
        .await?;
    let dependencies = deployment.dependencies()?;
    let mut events = 0;
    for proxy in [
        &dependencies.postgres,
        &dependencies.rabbitmq,
        &dependencies.postgres,
    ] {
        publish_some(&tenant, AT_A_TIME).await?;
        // In the midst of it.
        receiver.wait_for(events + AT_A_TIME / 4).await?;
        proxy.set(Link::Cut);
        publish_some(&tenant, AT_A_TIME).await?;
        wait_for_readiness(&deployment, 503).await?;
        proxy.set(Link::Up);
        events += 2 * AT_A_TIME;
    }
    deployment.wait_ready().await?;
    let path = format!("/webhooks/{subscription}/logs?limit=1&status=success");
    until("every delivery in the log", async || {
        let page = tenant.client.get(&path).await?.expect(200)?;
        let total = page.json["total"].as_u64().unwrap_or_default();
        ensure!(
            total <= events as u64,
            "{total} successes of {events} events"
        );
        Ok((total == events as u64).then_some(()))
    })
    .await?;
    let received = receiver.received();
    let ids = distinct(&received);
    ensure!(ids.len() == events, "{} deliveries", ids.len());
    deployment.end().await
}

async fn publish_some(tenant: &Tenant<'_>, count: usize) -> anyhow::Result<()> {
    let events: Vec<Value> = (0..count)
        .map(|number| {
            let mut event = tenant.event("workflow.step.completed");
            event["data"] = json!({"padding": "x".repeat(number % 4)});
            event
        })
        .collect();
    tenant.publish(&events).await
}
