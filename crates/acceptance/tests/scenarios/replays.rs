//! Replays: deliveries are made again, and a receiver gets the events that it does not have.

mod forward;
mod missing;
mod organizations;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use hookline_acceptance::scenarios;
use hookline_acceptance::suite::{IsolatedScenario, SharedScenario};
use hookline_testkit::client::ApiClient;
use hookline_testkit::deployment::{Deployment, Mode, Service};
use hookline_testkit::receiver::Receiver;
use hookline_testkit::tenant::Tenant;
use hookline_testkit::waiting::until;
use serde_json::{Value, json};

pub(crate) fn shared() -> Vec<SharedScenario> {
    scenarios![
        events_missed_by_an_inactive_subscription_are_replayed,
        a_replay_of_another_organization_is_404,
        forward::waiting_deliveries_are_sent_when_their_receiver_is_well,
        forward::a_replay_takes_the_filters_of_lists,
        organizations::the_missed_events_of_an_organization_are_replayed,
        missing::events_before_a_subscription_are_sent_to_it_once,
    ]
}

pub(crate) fn isolated() -> Vec<IsolatedScenario> {
    scenarios![
        a_replay_keeps_its_rate_and_can_be_cancelled,
        a_replay_continues_when_the_dispatcher_dies_after_its_commit,
        a_replay_continues_when_the_dispatcher_dies_after_handing_on,
        forward::a_replay_of_an_organization_continues_when_the_dispatcher_dies,
        missing::missing_deliveries_are_made_on_when_the_dispatcher_dies,
    ]
}

pub(crate) fn distributed() -> Vec<IsolatedScenario> {
    scenarios![
        two_dispatchers_replay_each_delivery_once,
        forward::two_dispatchers_bring_each_delivery_forward_once,
        missing::two_dispatchers_make_each_missing_delivery_once,
    ]
}

/// A subscription that was off while so many events came, and is on again.
async fn missed(tenant: &Tenant<'_>, receiver: &Receiver, events: usize) -> anyhow::Result<i64> {
    let client = &tenant.client;
    let id = tenant.subscribe(receiver, &["workflow.failed"]).await?;
    switch(client, id, false).await?;
    let events = tenant.events("workflow.failed", events);
    tenant.publish(&events).await?;
    skipped(client, id, events.len()).await?;
    switch(client, id, true).await?;
    Ok(id)
}

async fn switch(client: &ApiClient, id: i64, is_active: bool) -> anyhow::Result<()> {
    let body = json!({"is_active": is_active});
    let path = format!("/webhooks/{id}");
    client.patch(&path, &body).await?.expect(200)?;
    Ok(())
}

async fn skipped(client: &ApiClient, id: i64, count: usize) -> anyhow::Result<()> {
    let path = format!("/webhooks/{id}/deliveries?status=skipped&limit=1");
    until(&format!("{count} skipped deliveries"), async || {
        let page = client.get(&path).await?.expect(200)?.json;
        Ok((page["total"] == count).then_some(()))
    })
    .await
}

async fn replay(client: &ApiClient, id: i64, body: Value) -> anyhow::Result<(String, u64)> {
    let path = format!("/webhooks/{id}/replay");
    let answer = client.post(&path, &body).await?.expect(202)?.json;
    let replay = answer["replay_id"].as_str().context("an id")?;
    let count = answer["count"].as_u64().context("a count")?;
    Ok((format!("/replays/{replay}"), count))
}

/// Waits until the replay does not run any more.
async fn ended(client: &ApiClient, replay: &str) -> anyhow::Result<Value> {
    until("the replay to end", async || {
        let shown = client.get(replay).await?.expect(200)?.json;
        Ok((shown["status"] != "running").then_some(shown))
    })
    .await
}

/// How often each delivery came.
fn times(receiver: &Receiver) -> anyhow::Result<BTreeMap<String, usize>> {
    let mut times = BTreeMap::new();
    for request in receiver.received() {
        *times
            .entry(request.header("webhook-id")?.to_owned())
            .or_default() += 1;
    }
    Ok(times)
}

async fn events_missed_by_an_inactive_subscription_are_replayed(
    deployment: Arc<Deployment>,
) -> anyhow::Result<()> {
    let tenant = deployment.tenant().await?;
    let client = &tenant.client;
    let receiver = Receiver::healthy()?;
    let types = ["workflow.failed", "workflow.started"];
    let id = tenant.subscribe(&receiver, &types).await?;
    let path = format!("/webhooks/{id}/replay");
    switch(client, id, false).await?;
    for _ in 0..2 {
        tenant.publish_one("workflow.failed").await?;
    }
    let event = tenant.publish_one("workflow.started").await?;
    skipped(client, id, 3).await?;
    let event_path = format!("/events/{event}");
    let outcome = client.get(&event_path).await?.expect(200)?.json["subscriptions"][0].clone();
    ensure!(outcome["outcome"] == "skipped" && outcome["attempts_made"] == 0);
    ensure!(outcome["reason"] == "the subscription was inactive when the event came");
    for body in [json!({}), json!({"dry_run": true})] {
        let refused = client.post(&path, &body).await?.problem(409)?;
        ensure!(refused.json["detail"] == "the subscription is inactive");
    }

    switch(client, id, true).await?;
    for (body, expected) in [
        (json!({"dry_run": true}), 3),
        (json!({"dry_run": true, "status": "skipped"}), 3),
        (json!({"dry_run": true, "status": "exhausted"}), 0),
        (
            json!({"dry_run": true, "event_types": ["workflow.started"]}),
            1,
        ),
        (json!({"dry_run": true, "until": "2025-12-21T10:30:00Z"}), 0),
        (json!({"dry_run": true, "since": "2025-12-21T10:30:00Z"}), 3),
    ] {
        let counted = client.post(&path, &body).await?.expect(200)?.json;
        ensure!(counted == json!({"count": expected}), "{body}: {counted}");
    }
    ensure!(receiver.received().is_empty());

    let some = json!({"event_types": ["workflow.started"]});
    let (first, count) = replay(client, id, some).await?;
    ensure!(count == 1, "{count}");
    let shown = ended(client, &first).await?;
    ensure!(
        shown["status"] == "finished" && shown["replayed"] == 1,
        "{shown}"
    );
    let received = receiver.wait_for(1).await?;
    ensure!(received[0].header("webhook-id")? == outcome["delivery_id"]);
    let (rest, count) = replay(client, id, json!({})).await?;
    ensure!(count == 2, "{count}");
    ended(client, &rest).await?;
    receiver.wait_for(3).await?;
    let log = client.wait_for_log(id, 3).await?;
    for entry in &log {
        ensure!(
            entry["trigger"] == "replay" && entry["attempt"] == 1,
            "{entry}"
        );
    }
    let details = client.get(&event_path).await?.expect(200)?.json;
    ensure!(
        details["subscriptions"][0]["outcome"] == "delivered",
        "{details}"
    );

    // Deliveries that have arrived are replayed on request, with the ids that they had.
    let (all, count) = replay(client, id, json!({"status": "delivered"})).await?;
    ensure!(count == 3, "{count}");
    ended(client, &all).await?;
    receiver.wait_for(6).await?;
    let times = times(&receiver)?;
    ensure!(times.len() == 3 && times.values().all(|times| *times == 2));
    Ok(())
}

async fn a_replay_of_another_organization_is_404(
    deployment: Arc<Deployment>,
) -> anyhow::Result<()> {
    let (tenant, other) = (deployment.tenant().await?, deployment.tenant().await?);
    let receiver = Receiver::healthy()?;
    let id = missed(&tenant, &receiver, 1).await?;
    let path = format!("/webhooks/{id}/replay");
    other.client.post(&path, &json!({})).await?.problem(404)?;
    let (replay, _) = replay(&tenant.client, id, json!({})).await?;
    other.client.get(&replay).await?.problem(404)?;
    other.client.delete(&replay).await?.problem(404)?;
    ended(&tenant.client, &replay).await?;
    // It has ended; to cancel it changes nothing.
    tenant.client.delete(&replay).await?.expect(204)?;
    let shown = tenant.client.get(&replay).await?.expect(200)?.json;
    ensure!(shown["status"] == "finished", "{shown}");
    let bad = json!({"status": "waiting", "since": "now", "limit": 1});
    let refused = tenant.client.post(&path, &bad).await?.problem(422)?;
    let mut fields = refused.bad_fields();
    fields.sort();
    ensure!(fields == ["limit", "since", "status"], "{fields:?}");
    Ok(())
}

/// One delivery is started in a quarter of a second.
const SLOWLY: &[(&str, &str)] = &[("HOOKLINE__REPLAY__PER_SECOND", "4")];

async fn a_replay_keeps_its_rate_and_can_be_cancelled(mode: Mode) -> anyhow::Result<()> {
    const EVENTS: usize = 40;
    let deployment = Deployment::start_with(mode, SLOWLY).await?;
    let tenant = deployment.tenant().await?;
    let client = &tenant.client;
    let receiver = Receiver::healthy()?;
    let id = missed(&tenant, &receiver, EVENTS).await?;
    let (first, count) = replay(client, id, json!({})).await?;
    ensure!(count == EVENTS as u64, "{count}");
    let received = receiver.wait_for(5).await?;
    // Four waits, of which a busy machine may take some; without them all come at once.
    let elapsed = received[4].at - received[0].at;
    ensure!(
        elapsed >= Duration::from_millis(400),
        "five came in {elapsed:?}"
    );
    let shown = client.get(&first).await?.expect(200)?.json;
    ensure!(
        shown["status"] == "running" && shown["finished_at"].is_null(),
        "{shown}"
    );

    client.delete(&first).await?.expect(204)?;
    let cancelled = client.get(&first).await?.expect(200)?.json;
    ensure!(cancelled["status"] == "cancelled", "{cancelled}");
    ensure!(cancelled["cancelled_because"] == "requested", "{cancelled}");
    let replayed = cancelled["replayed"].as_u64().context("a number")?;
    ensure!(replayed < EVENTS as u64, "{cancelled}");
    client.delete(&first).await?.expect(204)?;

    // The next one takes what is left, until its subscription is switched off.
    let (second, count) = replay(client, id, json!({})).await?;
    ensure!(
        count == EVENTS as u64 - replayed,
        "{count} after {replayed}"
    );
    let before = usize::try_from(replayed)?;
    receiver.wait_for(before + 2).await?;
    switch(client, id, false).await?;
    let shown = ended(client, &second).await?;
    ensure!(shown["status"] == "cancelled", "{shown}");
    ensure!(
        shown["cancelled_because"] == "subscription_inactive",
        "{shown}"
    );
    let times = times(&receiver)?;
    ensure!(times.values().all(|times| *times == 1), "{times:?}");
    deployment.end().await
}

async fn a_replay_continues_when_the_dispatcher_dies_after_its_commit(
    mode: Mode,
) -> anyhow::Result<()> {
    dies_at(mode, "replay::committed").await
}

async fn a_replay_continues_when_the_dispatcher_dies_after_handing_on(
    mode: Mode,
) -> anyhow::Result<()> {
    dies_at(mode, "replay::published").await
}

/// The dispatcher ends at its second turn. The reconciler would need a minute, which is longer
/// than a scenario waits.
async fn dies_at(mode: Mode, point: &str) -> anyhow::Result<()> {
    const EVENTS: usize = 60;
    let deployment = Deployment::start(mode).await?;
    let tenant = deployment.tenant().await?;
    let client = &tenant.client;
    let receiver = Receiver::healthy()?;
    let id = missed(&tenant, &receiver, EVENTS).await?;
    deployment.stop(Service::Dispatcher).await?;
    let dies = format!("{point}=1*off->return");
    deployment
        .start_service(Service::Dispatcher, &[("FAILPOINTS", &dies)])
        .await?;
    deployment.wait_ready().await?;
    let (running, _) = replay(client, id, json!({})).await?;
    deployment.replace_crashed(Service::Dispatcher).await?;
    let shown = ended(client, &running).await?;
    ensure!(shown["status"] == "finished", "{shown}");
    ensure!(shown["replayed"] == EVENTS, "{shown}");
    // Deliveries that it had in hand may come twice, and are in the log twice: requests are counted by id.
    until("each delivery to arrive", async || {
        Ok((times(&receiver)?.len() == EVENTS).then_some(()))
    })
    .await?;
    deployment.end().await
}

async fn two_dispatchers_replay_each_delivery_once(mode: Mode) -> anyhow::Result<()> {
    const EVENTS: usize = 300;
    let deployment = Deployment::start(mode).await?;
    deployment.start_service(Service::Dispatcher, &[]).await?;
    deployment.wait_ready().await?;
    let tenant = deployment.tenant().await?;
    let receiver = Receiver::healthy()?;
    let id = missed(&tenant, &receiver, EVENTS).await?;
    let (running, count) = replay(&tenant.client, id, json!({})).await?;
    ensure!(count == EVENTS as u64, "{count}");
    let shown = ended(&tenant.client, &running).await?;
    ensure!(shown["status"] == "finished", "{shown}");
    ensure!(shown["replayed"] == EVENTS, "{shown}");
    receiver.wait_for(EVENTS).await?;
    // Behind all of them: a second message of one would have made its request by then.
    tenant.publish_one("workflow.failed").await?;
    receiver.wait_for(EVENTS + 1).await?;
    let times = times(&receiver)?;
    ensure!(times.len() == EVENTS + 1, "{}", times.len());
    ensure!(times.values().all(|times| *times == 1), "{times:?}");
    deployment.end().await
}
