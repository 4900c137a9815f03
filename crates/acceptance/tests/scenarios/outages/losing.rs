//! A connection to a server breaks in the midst of work, at the worst moments.

use std::collections::HashSet;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use hookline_acceptance::sentences;
use hookline_acceptance::suite::Alone;
use hookline_testkit::deployment::{Home, Kind};
use hookline_testkit::proxy::{Proxy, Wire};
use hookline_testkit::receiver::{Receiver, Reply};
use hookline_testkit::tenant::Tenant;
use hookline_testkit::waiting::until;
use serde_json::{Value, json};

use super::wait_for_readiness;

pub(crate) fn distributed() -> Vec<Alone> {
    sentences![
        an_answer_that_is_lost_loses_no_delivery,
        cuts_under_load_lose_nothing,
    ]
}

/// A service did its work, and the answer that says so is lost. It does the work again, or not. Later events arrive
/// all the same.
async fn an_answer_that_is_lost_loses_no_delivery(kind: Kind) -> anyhow::Result<()> {
    let home = Home::start(kind).await?;
    let peers = home.peers()?;
    let (postgres, rabbitmq) = (&peers.postgres, &peers.rabbitmq);
    let (commit, wake_up, delayed) = (
        Wire::Losing(b"COMMIT"),
        Wire::Losing(b"hookline.wake"),
        Wire::Losing(b"hookline.wake."),
    );
    // A single statement that takes an event in or records an attempt names the event's type.
    let (taken_in, recorded) = (
        Wire::Losing(b"workflow.started"),
        Wire::Losing(b"workflow.failed"),
    );
    let tenant = home.tenant().await?;
    lost_before(&home, &tenant, Ingest::IsNew, postgres, commit)
        .await
        .context("ingest's commit")?;
    lost_before(&home, &tenant, Ingest::Knows, postgres, taken_in)
        .await
        .context("ingest's statement")?;
    lost_before(&home, &tenant, Ingest::IsNew, rabbitmq, wake_up)
        .await
        .context("ingest's wake-up")?;
    lost_after(&home, &tenant, postgres, recorded)
        .await
        .context("the dispatcher's statement")?;
    lost_after(&home, &tenant, rabbitmq, delayed)
        .await
        .context("the dispatcher's wake-up")?;
    home.end().await
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
    home: &Home,
    tenant: &Tenant<'_>,
    ingest: Ingest,
    proxy: &Proxy,
    loss: Wire,
) -> anyhow::Result<()> {
    let receiver = Receiver::healthy()?;
    let subscription = tenant.subscribe(&receiver, &["workflow.started"]).await?;
    if ingest == Ingest::Knows {
        let event = tenant.publish_one("workflow.completed").await?;
        let path = format!("/events/{event}");
        until("an event that nobody wants", async || {
            let story = tenant.client.get(&path).await?;
            Ok((story.status == 200).then_some(()))
        })
        .await?;
    }
    proxy.set(loss);
    tenant.publish_one("workflow.started").await?;
    receiver.wait_for(1).await?;
    delivered_at(home, tenant, subscription, 1).await?;
    ensure!(proxy.wire() == Wire::Whole, "nothing was lost");
    Ok(())
}

async fn lost_after(
    home: &Home,
    tenant: &Tenant<'_>,
    proxy: &Proxy,
    loss: Wire,
) -> anyhow::Result<()> {
    let armed = proxy.clone();
    let receiver = Receiver::that(move |_, before| {
        if before > 0 {
            return Reply::status(200);
        }
        armed.set(loss);
        Reply::status(500)
    })?;
    let subscription = tenant.subscribe(&receiver, &["workflow.failed"]).await?;
    tenant.publish_one("workflow.failed").await?;
    receiver.wait_for(2).await?;
    delivered_at(home, tenant, subscription, 2).await?;
    ensure!(proxy.wire() == Wire::Whole, "nothing was lost");
    Ok(())
}

/// The log has each attempt once, and the last of them arrived; the subscription is done with.
async fn delivered_at(
    home: &Home,
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
    home.wait_ready().await
}

async fn cuts_under_load_lose_nothing(kind: Kind) -> anyhow::Result<()> {
    const AT_A_TIME: usize = 40;
    let home = Home::start(kind).await?;
    let tenant = home.tenant().await?;
    let receiver = Receiver::that(|request, before| {
        let failing = request.body.len() % 4 == 0 && before == 0;
        Reply::status(if failing { 500 } else { 200 }).after(Duration::from_millis(20))
    })?;
    let subscription = tenant
        .subscribe(&receiver, &["workflow.step.completed"])
        .await?;
    let peers = home.peers()?;
    let mut events = 0;
    for proxy in [&peers.postgres, &peers.rabbitmq, &peers.postgres] {
        publish_some(&tenant, AT_A_TIME).await?;
        // In the midst of it.
        receiver.wait_for(events + AT_A_TIME / 4).await?;
        proxy.set(Wire::Cut);
        publish_some(&tenant, AT_A_TIME).await?;
        wait_for_readiness(&home, 503).await?;
        proxy.set(Wire::Whole);
        events += 2 * AT_A_TIME;
    }
    home.wait_ready().await?;
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
    let ids: HashSet<_> = received
        .iter()
        .filter_map(|request| request.header("webhook-id").ok())
        .collect();
    ensure!(ids.len() == events, "{} deliveries", ids.len());
    home.end().await
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
