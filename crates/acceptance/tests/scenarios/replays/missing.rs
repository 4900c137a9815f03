//! Events that came before their subscription, or before it selected their type, are sent to it.

use std::sync::Arc;

use anyhow::{Context as _, ensure};
use hookline_testkit::client::ApiClient;
use hookline_testkit::deployment::{Deployment, Mode, Service};
use hookline_testkit::receiver::Receiver;
use hookline_testkit::tenant::Tenant;
use hookline_testkit::waiting::until;
use serde_json::{Value, json};

use super::{ended, times};

/// Events that are stored and have no delivery.
async fn stored(tenant: &Tenant<'_>, count: usize) -> anyhow::Result<Vec<Value>> {
    let events = tenant.events("workflow.failed", count);
    tenant.publish(&events).await?;
    let path = "/events?event_type=workflow.failed&limit=100";
    until(&format!("{count} stored events"), async || {
        let (mut found, mut next) = (0, path.to_owned());
        loop {
            let page = tenant.client.get(&next).await?.expect(200)?.json;
            found += page["events"].as_array().context("a list")?.len();
            match page["next_cursor"].as_str() {
                Some(cursor) => next = format!("{path}&cursor={cursor}"),
                None => return Ok((found == count).then_some(())),
            }
        }
    })
    .await?;
    Ok(events)
}

/// Starts a replay of what a subscription missed.
async fn missing(client: &ApiClient, id: i64, body: Value) -> anyhow::Result<(String, u64)> {
    let path = format!("/webhooks/{id}/replay-missing");
    let answer = client.post(&path, &body).await?.expect(202)?.json;
    let replay = answer["replay_id"].as_str().context("an id")?;
    let count = answer["count"].as_u64().context("a count")?;
    Ok((format!("/replays/{replay}"), count))
}

pub(super) async fn events_before_a_subscription_are_sent_to_it_once(
    deployment: Arc<Deployment>,
) -> anyhow::Result<()> {
    let (tenant, other) = (deployment.tenant().await?, deployment.tenant().await?);
    let client = &tenant.client;
    let events = stored(&tenant, 3).await?;
    let receiver = Receiver::healthy()?;
    let id = tenant.subscribe(&receiver, &["workflow.started"]).await?;
    // A test event is of this subscription alone.
    let tested = tenant.subscribe(&receiver, &["workflow.started"]).await?;
    let test = format!("/webhooks/{tested}/test");
    let failed = json!({"event_type": "workflow.failed"});
    client.post(&test, &failed).await?.expect(202)?;
    client.wait_for_log(tested, 1).await?;
    let path = format!("/webhooks/{id}/replay-missing");
    let dry = json!({"dry_run": true});
    other.client.post(&path, &dry).await?.problem(404)?;
    let counted = client.post(&path, &dry).await?.expect(200)?.json;
    ensure!(counted == json!({"count": 0}), "{counted}");
    let wants = json!({"events": ["workflow.*"]});
    let webhook = format!("/webhooks/{id}");
    client.patch(&webhook, &wants).await?.expect(200)?;
    for (mut body, expected) in [
        (json!({}), 3),
        (json!({"event_types": ["workflow.failed"]}), 3),
        (json!({"event_types": ["workflow.started"]}), 0),
        (json!({"until": "2025-12-21T10:30:00Z"}), 0),
        (json!({"since": "2025-12-21T10:30:00Z"}), 3),
    ] {
        body["dry_run"] = json!(true);
        let counted = client.post(&path, &body).await?.expect(200)?.json;
        ensure!(counted == json!({"count": expected}), "{body}: {counted}");
    }
    let bad = json!({"status": "skipped", "since": "x"});
    let mut fields = client.post(&path, &bad).await?.problem(422)?.bad_fields();
    fields.sort();
    ensure!(fields == ["since", "status"], "{fields:?}");
    let story = format!(
        "/events/{}",
        events[0]["event_id"].as_str().context("an id")?
    );
    let before = client.get(&story).await?.expect(200)?.json;
    ensure!(
        before["subscriptions"][0]["outcome"] == "created_later",
        "{before}"
    );

    let (running, count) = missing(client, id, json!({})).await?;
    ensure!(count == 3, "{count}");
    let shown = ended(client, &running).await?;
    ensure!(
        shown["kind"] == "missing" && shown["replayed"] == 3,
        "{shown}"
    );
    let log = client.wait_for_log(id, 3).await?;
    for entry in &log {
        ensure!(
            entry["trigger"] == "replay" && entry["attempt"] == 1,
            "{entry}"
        );
    }
    let after = client.get(&story).await?.expect(200)?.json;
    ensure!(
        after["subscriptions"][0]["outcome"] == "delivered",
        "{after}"
    );

    // Neither another replay nor a repeated event makes a second delivery.
    let (again, count) = missing(client, id, json!({})).await?;
    ensure!(count == 0, "{count}");
    ended(client, &again).await?;
    tenant.publish(&events).await?;
    tenant.publish_one("workflow.failed").await?;
    client.wait_for_log(id, 4).await?;
    let sent = times(&receiver)?;
    ensure!(sent.len() == 5 && sent.values().all(|times| *times == 1));
    let off = json!({"is_active": false});
    client.patch(&webhook, &off).await?.expect(200)?;
    client.post(&path, &dry).await?.problem(409)?;
    Ok(())
}

pub(super) async fn two_dispatchers_make_each_missing_delivery_once(
    mode: Mode,
) -> anyhow::Result<()> {
    const EVENTS: usize = 150;
    let deployment = Deployment::start(mode).await?;
    deployment.start_service(Service::Dispatcher, &[]).await?;
    deployment.wait_ready().await?;
    let tenant = deployment.tenant().await?;
    let client = &tenant.client;
    stored(&tenant, EVENTS).await?;
    let receiver = Receiver::healthy()?;
    let id = tenant.subscribe(&receiver, &["workflow.failed"]).await?;
    let (first, count) = missing(client, id, json!({})).await?;
    ensure!(count == EVENTS as u64, "{count}");
    let (second, _) = missing(client, id, json!({})).await?;
    let mut replayed = 0;
    for replay in [first, second] {
        let shown = ended(client, &replay).await?;
        ensure!(shown["status"] == "finished", "{shown}");
        replayed += shown["replayed"].as_u64().context("a number")?;
    }
    ensure!(replayed == EVENTS as u64, "{replayed}");
    receiver.wait_for(EVENTS).await?;
    // Behind all of them: a second message of one would have made its request by then.
    tenant.publish_one("workflow.failed").await?;
    receiver.wait_for(EVENTS + 1).await?;
    let times = times(&receiver)?;
    ensure!(times.len() == EVENTS + 1, "{}", times.len());
    ensure!(times.values().all(|times| *times == 1), "{times:?}");
    deployment.end().await
}

pub(super) async fn missing_deliveries_are_made_on_when_the_dispatcher_dies(
    mode: Mode,
) -> anyhow::Result<()> {
    const EVENTS: usize = 60;
    let deployment = Deployment::start(mode).await?;
    let tenant = deployment.tenant().await?;
    let client = &tenant.client;
    stored(&tenant, EVENTS).await?;
    let receiver = Receiver::healthy()?;
    let id = tenant.subscribe(&receiver, &["workflow.failed"]).await?;
    deployment.stop(Service::Dispatcher).await?;
    let dies = "replay::committed=1*off->return";
    deployment
        .start_service(Service::Dispatcher, &[("FAILPOINTS", dies)])
        .await?;
    deployment.wait_ready().await?;
    let (running, _) = missing(client, id, json!({})).await?;
    deployment.replace_crashed(Service::Dispatcher).await?;
    let shown = ended(client, &running).await?;
    ensure!(shown["status"] == "finished", "{shown}");
    ensure!(shown["replayed"] == EVENTS, "{shown}");
    // Deliveries that it had in hand may come twice: requests are counted by id.
    until("each delivery to arrive", async || {
        Ok((times(&receiver)?.len() == EVENTS).then_some(()))
    })
    .await?;
    deployment.end().await
}
