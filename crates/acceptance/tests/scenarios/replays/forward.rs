//! Replays of waiting deliveries, and the filters of replays.

use std::sync::Arc;

use anyhow::{Context as _, ensure};
use hookline_testkit::deployment::{Deployment, Mode, Service};
use hookline_testkit::receiver::{Receiver, Reply};
use hookline_testkit::tenant::Tenant;
use hookline_testkit::waiting::until;
use serde_json::{Value, json};

use super::{ended, replay, times};

/// A receiver that wants to be asked again in ten minutes, until it is well.
fn busy() -> Reply {
    Reply::status(503).with_header("retry-after", "600")
}

/// Waits until so many deliveries have had their first attempt and wait for the second.
async fn waiting(tenant: &Tenant<'_>, count: usize) -> anyhow::Result<()> {
    let path = "/deliveries?status=pending&attempt=1&limit=100";
    until(&format!("{count} waiting deliveries"), async || {
        let (mut found, mut next) = (0, path.to_owned());
        loop {
            let page = tenant.client.get(&next).await?.expect(200)?.json;
            found += page["deliveries"].as_array().context("a list")?.len();
            match page["next_cursor"].as_str() {
                Some(cursor) => next = format!("{path}&cursor={cursor}"),
                None => return Ok((found == count).then_some(())),
            }
        }
    })
    .await
}

pub(super) async fn waiting_deliveries_are_sent_when_their_receiver_is_well(
    deployment: Arc<Deployment>,
) -> anyhow::Result<()> {
    let tenant = deployment.tenant().await?;
    let client = &tenant.client;
    let (receiver, well) = Receiver::until_well(busy())?;
    let id = tenant.subscribe(&receiver, &["workflow.failed"]).await?;
    tenant.publish(&tenant.events("workflow.failed", 3)).await?;
    waiting(&tenant, 3).await?;
    well.store(true, std::sync::atomic::Ordering::Relaxed);
    let path = format!("/webhooks/{id}/replay");
    for (body, expected) in [
        (json!({"dry_run": true}), 0),
        (json!({"dry_run": true, "status": "pending"}), 3),
        (
            json!({"dry_run": true, "status": ["pending", "exhausted"]}),
            3,
        ),
    ] {
        let counted = client.post(&path, &body).await?.expect(200)?.json;
        ensure!(counted == json!({"count": expected}), "{body}: {counted}");
    }
    let (running, count) = replay(client, id, json!({"status": ["pending"]})).await?;
    ensure!(count == 3, "{count}");
    let shown = ended(client, &running).await?;
    ensure!(shown["replayed"] == 3, "{shown}");
    ensure!(shown["filter"]["status"] == "pending", "{shown}");
    let log = client.wait_for_log(id, 6).await?;
    for entry in log.iter().filter(|entry| entry["status"] == "success") {
        // The attempts count on, in the same run through the schedule.
        ensure!(entry["attempt"] == 2 && entry["trigger"] == "retry");
    }
    let times = times(&receiver)?;
    ensure!(times.len() == 3 && times.values().all(|times| *times == 2));
    let none = json!({"status": "pending", "dry_run": true});
    let counted = client.post(&path, &none).await?.expect(200)?.json;
    ensure!(counted == json!({"count": 0}), "{counted}");
    Ok(())
}

/// The code that an event asks its receiver for.
fn code_of(body: &[u8]) -> Option<u64> {
    serde_json::from_slice::<Value>(body).ok()?["data"]["code"].as_u64()
}

pub(super) async fn a_replay_takes_the_filters_of_lists(
    deployment: Arc<Deployment>,
) -> anyhow::Result<()> {
    let tenant = deployment.tenant().await?;
    let client = &tenant.client;
    // 410 would disable the subscription.
    let receiver = Receiver::with(|request, _| {
        let code = code_of(&request.body).and_then(|code| u16::try_from(code).ok());
        Reply::status(code.unwrap_or(500))
    })?;
    let id = tenant.subscribe(&receiver, &["workflow.failed"]).await?;
    let mut events = tenant.events("workflow.failed", 3);
    for (event, code) in events.iter_mut().zip([404, 502, 503]) {
        event["data"] = json!({"code": code});
        event["workflow_id"] = json!(format!("wf_{code}"));
    }
    tenant.publish(&events).await?;
    until("three exhausted deliveries", async || {
        let path = format!("/webhooks/{id}/deliveries?status=exhausted");
        let page = client.get(&path).await?.expect(200)?.json;
        Ok((page["total"] == 3).then_some(()))
    })
    .await?;
    let path = format!("/webhooks/{id}/replay");
    for (mut body, expected) in [
        (json!({"response_status": "5xx"}), 2),
        (json!({"response_status": "404-502"}), 2),
        (
            json!({"response_status": "503", "workflow_id": "wf_503"}),
            1,
        ),
        (
            json!({"response_status": "503", "workflow_id": "wf_404"}),
            0,
        ),
        (json!({"event_id": events[0]["event_id"]}), 1),
        (json!({"error_kind": "http_status"}), 3),
        (json!({"error_kind": "tls"}), 0),
        (json!({"attempt": 4, "min_duration_ms": 0}), 3),
        (json!({"attempt": 1}), 0),
        (json!({"event_type": "workflow.started"}), 0),
    ] {
        body["dry_run"] = json!(true);
        let counted = client.post(&path, &body).await?.expect(200)?.json;
        ensure!(counted == json!({"count": expected}), "{body}: {counted}");
    }
    let bad =
        json!({"response_status": 500, "error_kind": "x", "attempt": 0, "subscription_id": id});
    let refused = client.post(&path, &bad).await?.problem(422)?;
    let mut fields = refused.bad_fields();
    fields.sort();
    ensure!(
        fields
            == [
                "attempt",
                "error_kind",
                "response_status",
                "subscription_id"
            ]
    );

    let before = receiver.received().len();
    let (running, count) = replay(client, id, json!({"response_status": "404"})).await?;
    ensure!(count == 1, "{count}");
    let shown = ended(client, &running).await?;
    ensure!(shown["replayed"] == 1, "{shown}");
    ensure!(shown["filter"]["response_status"] == "404", "{shown}");
    let received = receiver.wait_for(before + 1).await?;
    ensure!(code_of(&received[before].body) == Some(404));
    Ok(())
}

/// No circuit breaker opens.
const WITHOUT_BREAKER: &[(&str, &str)] = &[("HOOKLINE__DISPATCHER__BREAKER_FAILURES", "1000000")];

pub(super) async fn two_dispatchers_bring_each_delivery_forward_once(
    mode: Mode,
) -> anyhow::Result<()> {
    const EACH: usize = 60;
    let deployment = Deployment::start_with(mode, WITHOUT_BREAKER).await?;
    deployment.start_service(Service::Dispatcher, &[]).await?;
    deployment.wait_ready().await?;
    let tenant = deployment.tenant().await?;
    let client = &tenant.client;
    let (receiver, well) = Receiver::until_well(busy())?;
    // In several partitions, so both dispatchers own some.
    let mut ids = Vec::new();
    for _ in 0..4 {
        ids.push(tenant.subscribe(&receiver, &["workflow.failed"]).await?);
    }
    tenant
        .publish(&tenant.events("workflow.failed", EACH))
        .await?;
    let all = EACH * ids.len();
    waiting(&tenant, all).await?;
    well.store(true, std::sync::atomic::Ordering::Relaxed);
    // Two replays at once, and retries by hand beside them.
    let body = json!({"status": "pending"});
    let one = client.post("/replays", &body).await?.expect(202)?.json;
    ensure!(one["count"] == all, "{one}");
    let other = client.post("/replays", &body).await?.expect(202)?.json;
    let page = client.get("/deliveries?status=pending&limit=20").await?;
    let page = page.expect(200)?.json;
    for delivery in page["deliveries"].as_array().context("a list")? {
        let id = delivery["id"].as_str().context("an id")?;
        let path = format!("/deliveries/{id}/retry");
        let gentle = json!({"now": true, "force": false});
        let retried = client.post(&path, &gentle).await?;
        // It is 409 once it is delivered.
        ensure!([202, 409].contains(&retried.status.as_u16()));
    }
    for started in [&one, &other] {
        let path = format!(
            "/replays/{}",
            started["replay_id"].as_str().context("an id")?
        );
        let shown = ended(client, &path).await?;
        ensure!(shown["status"] == "finished", "{shown}");
    }
    until("all to be delivered", async || {
        let stats = client.get("/stats").await?.expect(200)?.json;
        Ok((stats["series"][0]["total"]["delivered"] == all).then_some(()))
    })
    .await?;
    let times = times(&receiver)?;
    ensure!(times.len() == all, "{}", times.len());
    let twice = times.values().all(|times| *times == 2);
    ensure!(twice, "{times:?}");
    deployment.end().await
}

/// The dispatcher dies in the middle of a replay of the organization; the next one goes on with its filter.
pub(super) async fn a_replay_of_an_organization_continues_when_the_dispatcher_dies(
    mode: Mode,
) -> anyhow::Result<()> {
    const EACH: usize = 40;
    let deployment = Deployment::start_with(mode, WITHOUT_BREAKER).await?;
    let tenant = deployment.tenant().await?;
    let client = &tenant.client;
    let (receiver, well) = Receiver::until_well(busy())?;
    for _ in 0..2 {
        tenant.subscribe(&receiver, &["workflow.failed"]).await?;
    }
    tenant
        .publish(&tenant.events("workflow.failed", EACH))
        .await?;
    waiting(&tenant, 2 * EACH).await?;
    well.store(true, std::sync::atomic::Ordering::Relaxed);
    deployment.stop(Service::Dispatcher).await?;
    let dies = "replay::committed=1*off->return";
    deployment
        .start_service(Service::Dispatcher, &[("FAILPOINTS", dies)])
        .await?;
    deployment.wait_ready().await?;
    let body = json!({"status": "pending", "response_status": "503", "attempt": 1});
    let started = client.post("/replays", &body).await?.expect(202)?.json;
    ensure!(started["count"] == 2 * EACH, "{started}");
    deployment.replace_crashed(Service::Dispatcher).await?;
    let path = format!(
        "/replays/{}",
        started["replay_id"].as_str().context("an id")?
    );
    let shown: Value = ended(client, &path).await?;
    ensure!(shown["status"] == "finished", "{shown}");
    ensure!(shown["replayed"] == 2 * EACH, "{shown}");
    until("each delivery to arrive", async || {
        let page = client.get("/stats").await?.expect(200)?.json;
        Ok((page["series"][0]["total"]["delivered"] == 2 * EACH).then_some(()))
    })
    .await?;
    deployment.end().await
}
