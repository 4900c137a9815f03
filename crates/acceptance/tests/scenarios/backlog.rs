//! Backlog: deliveries that a receiver does not take wait in order, and go out as fast as the receiver takes them.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use hookline_acceptance::scenarios;
use hookline_acceptance::suite::{IsolatedScenario, SharedScenario};
use hookline_testkit::deployment::{Deployment, Mode, Service};
use hookline_testkit::receiver::{Receiver, Reply};
use hookline_testkit::tenant::Tenant;
use hookline_testkit::waiting::until;
use serde_json::{Value, json};

pub(crate) fn shared() -> Vec<SharedScenario> {
    scenarios![
        a_backlog_is_skipped_at_once_when_its_subscription_is_switched_off,
        a_replay_to_a_slow_receiver_delays_no_new_event,
    ]
}

pub(crate) fn isolated() -> Vec<IsolatedScenario> {
    scenarios![
        a_backlog_is_delivered_in_order_and_new_events_come_behind_it,
        a_circuit_breaker_outlives_its_dispatcher,
    ]
}

/// Publishes events and waits until they are deliveries.
async fn publish(
    tenant: &Tenant<'_>,
    subscription: i64,
    count: usize,
) -> anyhow::Result<Vec<String>> {
    let events = tenant.events("workflow.failed", count);
    let ids = events.iter().map(|event| event["event_id"].as_str());
    let ids: Option<Vec<String>> = ids.map(|id| id.map(str::to_owned)).collect();
    let before = total(tenant, subscription, "").await?;
    tenant.publish(&events).await?;
    until("the deliveries", async || {
        let now = total(tenant, subscription, "").await?;
        Ok((now == before + count as u64).then_some(()))
    })
    .await?;
    ids.context("events have ids")
}

async fn total(tenant: &Tenant<'_>, subscription: i64, filter: &str) -> anyhow::Result<u64> {
    let path = format!("/webhooks/{subscription}/deliveries?limit=1{filter}");
    let page = tenant.client.get(&path).await?.expect(200)?.json;
    page["total"].as_u64().context("a total")
}

async fn a_backlog_is_delivered_in_order_and_new_events_come_behind_it(
    mode: Mode,
) -> anyhow::Result<()> {
    // One request to a receiver at a time, and few deliveries in memory.
    let settings = [
        ("HOOKLINE__DISPATCHER__SLOTS", "2"),
        ("HOOKLINE__DISPATCHER__PREFETCH", "34"),
        ("HOOKLINE__DISPATCHER__BREAKER_FAILURES", "1"),
    ];
    let deployment = Deployment::start_with(mode, &settings).await?;
    let tenant = deployment.tenant().await?;
    let (receiver, is_well) = Receiver::refusing()?;
    let subscription = tenant.subscribe(&receiver, &["workflow.failed"]).await?;
    let first = publish(&tenant, subscription, 1).await?;
    tenant.client.wait_for_log(subscription, 1).await?;
    let mut order = Vec::new();
    for _ in 0..4 {
        order.extend(publish(&tenant, subscription, 50).await?);
    }
    let waiting = format!("/webhooks/{subscription}/deliveries?limit=100");
    until("all that is due to wait for the breaker", async || {
        let page = tenant.client.get(&waiting).await?.expect(200)?.json;
        let mut waits = page["deliveries"].as_array().context("a list")?.iter();
        Ok(waits
            .all(|one| one["waiting_for"] == "breaker")
            .then_some(()))
    })
    .await?;
    is_well.store(true, Ordering::Relaxed);
    receiver.wait_for(20).await?;
    order.extend(publish(&tenant, subscription, 10).await?);
    until("every delivery", async || {
        let delivered = total(&tenant, subscription, "&status=delivered").await?;
        Ok((delivered == order.len() as u64 + 1).then_some(()))
    })
    .await?;
    // The probes of the breaker are retried when their schedule says so.
    let path = format!("/webhooks/{subscription}/logs?status=failed&limit=100");
    let log = tenant.client.get(&path).await?.expect(200)?.json;
    let failed: Vec<String> = log["logs"]
        .as_array()
        .context("a log")?
        .iter()
        .filter_map(|entry| entry["event_id"].as_str().map(str::to_owned))
        .collect();
    ensure!(failed.contains(&first[0]), "the first one failed");
    let mut received = Vec::new();
    for request in receiver.received() {
        let body: Value = serde_json::from_slice(&request.body)?;
        let id = body["event_id"].as_str().context("an id")?.to_owned();
        if !failed.contains(&id) {
            received.push(id);
        }
    }
    // Events that were published together have no order. Where no other subscription wants a slot, two requests are in
    // flight at once.
    let published_in = |id: &String| Some(order.iter().position(|other| other == id)? / 50);
    let batches: Option<Vec<usize>> = received.iter().map(published_in).collect();
    let batches = batches.context("each was published")?;
    let turned_round = batches.windows(2).filter(|pair| pair[0] > pair[1]).count();
    ensure!(turned_round <= 4, "{batches:?}");
    deployment.end().await
}

/// A dispatcher that starts goes on at the pace of the one before, with one request at a time.
async fn a_circuit_breaker_outlives_its_dispatcher(mode: Mode) -> anyhow::Result<()> {
    const FAILURES: usize = 8;
    let settings = [("HOOKLINE__DISPATCHER__BREAKER_FAILURES", "8")];
    let deployment = Deployment::start_with(mode, &settings).await?;
    let tenant = deployment.tenant().await?;
    let (receiver, is_well) = Receiver::refusing()?;
    let subscription = tenant.subscribe(&receiver, &["workflow.failed"]).await?;
    publish(&tenant, subscription, 100).await?;
    receiver.wait_for(FAILURES).await?;
    until("the circuit breaker to be open", async || {
        let path = format!("/webhooks/{subscription}/deliveries?limit=100");
        let page = tenant.client.get(&path).await?.expect(200)?.json;
        let mut deliveries = page["deliveries"].as_array().context("a list")?.iter();
        Ok(deliveries
            .any(|one| one["waiting_for"] == "breaker")
            .then_some(()))
    })
    .await?;
    deployment.stop(Service::Dispatcher).await?;
    let before = receiver.received().len();
    deployment.start_service(Service::Dispatcher, &[]).await?;
    deployment.wait_ready().await?;
    receiver.wait_for(before + 1).await?;
    // One at a time, and the wait doubles.
    tokio::time::sleep(Duration::from_secs(3)).await;
    let more = receiver.received().len() - before;
    ensure!(more <= 4, "{more} requests after a restart");
    is_well.store(true, Ordering::Relaxed);
    until("every delivery that was not tried", async || {
        let delivered = total(&tenant, subscription, "&status=delivered").await?;
        Ok((delivered >= 50).then_some(()))
    })
    .await?;
    deployment.end().await
}

async fn a_backlog_is_skipped_at_once_when_its_subscription_is_switched_off(
    deployment: Arc<Deployment>,
) -> anyhow::Result<()> {
    let tenant = deployment.tenant().await?;
    let (receiver, _) = Receiver::refusing()?;
    let subscription = tenant.subscribe(&receiver, &["workflow.failed"]).await?;
    // Ten failures open the breaker.
    let events = 300;
    for _ in 0..3 {
        publish(&tenant, subscription, events / 3).await?;
    }
    receiver.wait_for(10).await?;
    let path = format!("/webhooks/{subscription}");
    tenant
        .client
        .patch(&path, &json!({"is_active": false}))
        .await?
        .expect(200)?;
    let begun = Instant::now();
    // A delivery that has had an attempt waits for its retry, and is noted then.
    until("what waited to be noted as skipped", async || {
        let path = format!("/webhooks/{subscription}/deliveries?limit=100&status=skipped");
        let page = tenant.client.get(&path).await?.expect(200)?.json;
        let skipped = page["deliveries"].as_array().context("a list")?;
        let untried = skipped.iter().filter(|one| one["attempts_made"] == 0);
        let noted = |one: &&Value| one["finished_at"].is_string();
        let all = untried.clone().count();
        Ok((all > 50 && untried.filter(noted).count() == all).then_some(()))
    })
    .await?;
    let elapsed = begun.elapsed();
    ensure!(elapsed < Duration::from_secs(70), "it took {elapsed:?}");
    Ok(())
}

async fn a_replay_to_a_slow_receiver_delays_no_new_event(
    deployment: Arc<Deployment>,
) -> anyhow::Result<()> {
    let tenant = deployment.tenant().await?;
    let receiver = Receiver::with(|_, _| Reply::status(200).after(Duration::from_millis(200)))?;
    let subscription = tenant.subscribe(&receiver, &["workflow.failed"]).await?;
    let path = format!("/webhooks/{subscription}");
    let switch = async |is_active: bool| {
        let body = json!({"is_active": is_active});
        tenant.client.patch(&path, &body).await?.expect(200)
    };
    switch(false).await?;
    publish(&tenant, subscription, 600).await?;
    switch(true).await?;
    let replay = format!("{path}/replay");
    let answer = tenant
        .client
        .post(&replay, &json!({"status": "skipped"}))
        .await?
        .expect(202)?;
    ensure!(answer.json["count"] == 600, "{:?}", answer.json);
    receiver.wait_for(20).await?;
    for _ in 0..5 {
        let at = Instant::now();
        let event = tenant.publish_one("workflow.failed").await?;
        until("the new event", async || {
            let received = receiver.received();
            let mut bodies = received.iter().map(|request| &request.body);
            let is_it = |body: &[u8]| String::from_utf8_lossy(body).contains(&event);
            Ok(bodies.any(|body| is_it(body)).then_some(()))
        })
        .await?;
        let elapsed = at.elapsed();
        ensure!(
            elapsed < Duration::from_secs(4),
            "a new event took {elapsed:?}"
        );
    }
    Ok(())
}
