//! Retries by hand, of ended deliveries and of waiting ones, and cancellations.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use hookline_acceptance::scenarios;
use hookline_acceptance::suite::SharedScenario;
use hookline_testkit::deployment::Deployment;
use hookline_testkit::receiver::{Receiver, Reply};
use hookline_testkit::tenant::Tenant;
use hookline_testkit::waiting::until;
use serde_json::{Value, json};

pub(crate) fn shared() -> Vec<SharedScenario> {
    scenarios![
        a_retried_delivery_keeps_its_id_and_restarts_the_schedule,
        concurrent_retries_make_one_attempt,
        a_test_delivery_is_retried_only_on_request,
        a_retry_that_would_send_nothing_is_refused,
        a_waiting_delivery_is_retried_now_and_goes_on_counting,
        a_request_in_flight_is_not_repeated_by_a_retry,
        a_cancelled_delivery_is_not_attempted_again,
        a_delivery_cancelled_in_flight_stays_cancelled,
    ]
}

/// The one delivery of a subscription, once it has this status.
async fn delivery(tenant: &Tenant<'_>, subscription: i64, status: &str) -> anyhow::Result<Value> {
    let path = format!("/webhooks/{subscription}/deliveries?status={status}");
    until(&format!("a delivery that is {status}"), async || {
        let page = tenant.client.get(&path).await?.expect(200)?.json;
        Ok(page["deliveries"].get(0).cloned())
    })
    .await
}

fn path_of(delivery: &Value) -> anyhow::Result<String> {
    let id = delivery["id"].as_str().context("an id")?;
    Ok(format!("/deliveries/{id}/retry"))
}

async fn a_retried_delivery_keeps_its_id_and_restarts_the_schedule(
    deployment: Arc<Deployment>,
) -> anyhow::Result<()> {
    let tenant = deployment.tenant().await?;
    let client = &tenant.client;
    // The whole schedule, the retry and its first wait; then it takes what comes.
    let receiver = Receiver::with(|_, before| match before {
        0..5 => Reply::status(500),
        _ => Reply::status(200),
    })?;
    let subscription = tenant.subscribe(&receiver, &["workflow.failed"]).await?;
    tenant.publish_one("workflow.failed").await?;
    let exhausted = delivery(&tenant, subscription, "exhausted").await?;
    ensure!(exhausted["attempts_made"] == 4, "{exhausted}");

    let retry = path_of(&exhausted)?;
    let started = client.post(&retry, &json!({})).await?.expect(202)?.json;
    let expected = json!({"delivery_id": exhausted["id"], "attempt": 5});
    ensure!(started == expected, "{started}");
    let log = client.wait_for_log(subscription, 5).await?;
    ensure!(log[4]["next_attempt_at"].is_string(), "{log:#?}");
    let pending = client.post(&retry, &json!({})).await?.problem(409)?;
    let detail = pending.json["detail"].as_str().context("a detail")?;
    ensure!(detail.contains("the delivery is pending"), "{detail}");

    let delivered = delivery(&tenant, subscription, "delivered").await?;
    ensure!(delivered["attempts_made"] == 6 && delivered["exhausted_reason"].is_null());
    // One that has arrived can be had again.
    let started = client.post(&retry, &json!({})).await?.expect(202)?.json;
    ensure!(started["attempt"] == 7, "{started}");
    let log = client.wait_for_log(subscription, 7).await?;
    let triggers: Vec<_> = log.iter().map(|entry| entry["trigger"].as_str()).collect();
    ensure!(triggers[0] == Some("event"), "{triggers:?}");
    ensure!(
        triggers[1..].iter().all(|one| *one == Some("retry")),
        "{triggers:?}"
    );
    let received = receiver.received();
    for (index, request) in received.iter().enumerate() {
        ensure!(request.header("webhook-id")? == exhausted["id"]);
        ensure!(request.header("x-webhook-attempt")? == (index + 1).to_string());
        ensure!(request.body == received[0].body);
        request.verify("hush")?;
    }
    Ok(())
}

async fn concurrent_retries_make_one_attempt(deployment: Arc<Deployment>) -> anyhow::Result<()> {
    let tenant = deployment.tenant().await?;
    let receiver = Receiver::answering(vec![
        Reply::status(200),
        Reply::status(429).with_header("retry-after", "600"),
    ])?;
    let subscription = tenant.subscribe(&receiver, &["workflow.failed"]).await?;
    tenant.publish_one("workflow.failed").await?;
    let delivered = delivery(&tenant, subscription, "delivered").await?;
    let path = path_of(&delivered)?;
    let mut calls = tokio::task::JoinSet::new();
    for _ in 0..12 {
        let (client, path) = (tenant.client.clone(), path.clone());
        calls.spawn(async move { client.post(&path, &json!({})).await });
    }
    let mut won = 0;
    for answer in calls.join_all().await {
        match answer?.status.as_u16() {
            202 => won += 1,
            409 => {}
            other => anyhow::bail!("answered with {other}"),
        }
    }
    ensure!(won == 1, "{won} retries were made");
    tenant.client.wait_for_log(subscription, 2).await?;
    // Had there been another message, its request would have come before this one's.
    tenant.publish_one("workflow.failed").await?;
    receiver.wait_for(3).await?;
    ensure!(receiver.received().len() == 3);
    Ok(())
}

async fn a_test_delivery_is_retried_only_on_request(
    deployment: Arc<Deployment>,
) -> anyhow::Result<()> {
    let tenant = deployment.tenant().await?;
    let client = &tenant.client;
    let receiver = Receiver::answering(vec![Reply::status(500)])?;
    let subscription = tenant.subscribe(&receiver, &["workflow.failed"]).await?;
    let test = format!("/webhooks/{subscription}/test");
    client.post(&test, &json!({})).await?.expect(202)?;
    let exhausted = delivery(&tenant, subscription, "exhausted").await?;
    // Also while its subscription is off, as a test is.
    let off = json!({"is_active": false});
    client
        .patch(&format!("/webhooks/{subscription}"), &off)
        .await?
        .expect(200)?;
    let retry = path_of(&exhausted)?;
    client.post(&retry, &json!({})).await?.expect(202)?;
    let log = client.wait_for_log(subscription, 2).await?;
    ensure!(log[1]["trigger"] == "retry" && log[1]["next_attempt_at"].is_null());
    let again = delivery(&tenant, subscription, "exhausted").await?;
    ensure!(again["attempts_made"] == 2, "{again}");
    Ok(())
}

async fn a_retry_that_would_send_nothing_is_refused(
    deployment: Arc<Deployment>,
) -> anyhow::Result<()> {
    let (tenant, other) = (deployment.tenant().await?, deployment.tenant().await?);
    let client = &tenant.client;
    let receiver = Receiver::healthy()?;
    let subscription = tenant.subscribe(&receiver, &["workflow.failed"]).await?;
    tenant.publish_one("workflow.failed").await?;
    let delivered = delivery(&tenant, subscription, "delivered").await?;
    let retry = path_of(&delivered)?;
    other.client.post(&retry, &json!({})).await?.problem(404)?;
    for bad in ["1", "00000000-0000-0000-0000-000000000000"] {
        let path = format!("/deliveries/{bad}/retry");
        client.post(&path, &json!({})).await?.problem(404)?;
    }
    let path = format!("/webhooks/{subscription}");
    let off = json!({"is_active": false});
    client.patch(&path, &off).await?.expect(200)?;
    let refused = client.post(&retry, &json!({})).await?.problem(409)?;
    ensure!(refused.json["detail"] == "the subscription is inactive");
    client.delete(&path).await?.expect(204)?;
    let refused = client.post(&retry, &json!({})).await?.problem(409)?;
    ensure!(refused.json["detail"] == "the subscription was deleted");
    ensure!(receiver.received().len() == 1);
    Ok(())
}

/// The receiver wants to be asked again in ten minutes.
fn busy() -> Reply {
    Reply::status(503).with_header("retry-after", "600")
}

/// A delivery whose next attempt is ten minutes away.
async fn waiting(tenant: &Tenant<'_>, receiver: &Receiver) -> anyhow::Result<(i64, Value)> {
    let subscription = tenant.subscribe(receiver, &["workflow.failed"]).await?;
    tenant.publish_one("workflow.failed").await?;
    tenant.client.wait_for_log(subscription, 1).await?;
    let waiting = delivery(tenant, subscription, "pending").await?;
    ensure!(waiting["attempts_made"] == 1, "{waiting}");
    Ok((subscription, waiting))
}

async fn a_waiting_delivery_is_retried_now_and_goes_on_counting(
    deployment: Arc<Deployment>,
) -> anyhow::Result<()> {
    let tenant = deployment.tenant().await?;
    let client = &tenant.client;
    let receiver = Receiver::answering(vec![busy(), Reply::status(500), Reply::status(200)])?;
    let (subscription, waiting) = waiting(&tenant, &receiver).await?;
    let retry = path_of(&waiting)?;
    client.post(&retry, &json!({})).await?.problem(409)?;
    let started = client.post(&retry, &json!({"now": true})).await?;
    let expected = json!({"delivery_id": waiting["id"], "attempt": 2});
    ensure!(started.expect(202)?.json == expected);
    // The schedule goes on: its second wait comes after the second attempt.
    let log = client.wait_for_log(subscription, 3).await?;
    let made: Vec<_> = log.iter().map(|entry| entry["attempt"].as_u64()).collect();
    ensure!(made == [Some(1), Some(2), Some(3)], "{made:?}");
    let delivered = delivery(&tenant, subscription, "delivered").await?;
    ensure!(delivered["attempts_made"] == 3, "{delivered}");
    let gentle = json!({"now": true, "force": false});
    client.post(&retry, &gentle).await?.problem(409)?;
    let forced = json!({"now": true, "force": true});
    let started = client.post(&retry, &forced).await?.expect(202)?.json;
    ensure!(started["attempt"] == 4, "{started}");
    client.wait_for_log(subscription, 4).await?;
    Ok(())
}

async fn a_request_in_flight_is_not_repeated_by_a_retry(
    deployment: Arc<Deployment>,
) -> anyhow::Result<()> {
    let tenant = deployment.tenant().await?;
    let client = &tenant.client;
    let slow = Reply::status(200).after(Duration::from_secs(2));
    let receiver = Receiver::answering(vec![slow])?;
    let subscription = tenant.subscribe(&receiver, &["workflow.failed"]).await?;
    tenant.publish_one("workflow.failed").await?;
    receiver.wait_for(1).await?;
    let pending = delivery(&tenant, subscription, "pending").await?;
    let retry = path_of(&pending)?;
    for _ in 0..3 {
        let started = client.post(&retry, &json!({"now": true})).await?;
        ensure!(started.expect(202)?.json["attempt"] == 1);
    }
    let log = client.wait_for_log(subscription, 1).await?;
    ensure!(log[0]["status"] == "success", "{log:?}");
    // Had there been another request, it would have come before this one's.
    tenant.publish_one("workflow.failed").await?;
    client.wait_for_log(subscription, 2).await?;
    ensure!(receiver.received().len() == 2);
    Ok(())
}

fn cancel_of(delivery: &Value) -> anyhow::Result<String> {
    let id = delivery["id"].as_str().context("an id")?;
    Ok(format!("/deliveries/{id}/cancel"))
}

async fn a_cancelled_delivery_is_not_attempted_again(
    deployment: Arc<Deployment>,
) -> anyhow::Result<()> {
    let (tenant, other) = (deployment.tenant().await?, deployment.tenant().await?);
    let client = &tenant.client;
    let receiver = Receiver::answering(vec![Reply::status(500), Reply::status(200)])?;
    let subscription = tenant.subscribe(&receiver, &["workflow.failed"]).await?;
    tenant.publish_one("workflow.failed").await?;
    client.wait_for_log(subscription, 1).await?;
    let waiting = delivery(&tenant, subscription, "pending").await?;
    let cancel = cancel_of(&waiting)?;
    other.client.post(&cancel, &json!({})).await?.problem(404)?;
    let ended = client.post(&cancel, &json!({})).await?.expect(202)?.json;
    ensure!(ended == json!({"delivery_id": waiting["id"], "status": "cancelled"}));
    client.post(&cancel, &json!({})).await?.problem(409)?;
    let due = waiting["next_attempt_at"].clone();
    let cancelled = delivery(&tenant, subscription, "cancelled").await?;
    ensure!(cancelled["next_attempt_at"].is_null() && due.is_string());
    // The wake-up of its second attempt finds nothing to do; the event behind it is delivered.
    tenant.publish_one("workflow.failed").await?;
    receiver.wait_for(2).await?;
    let log = client.wait_for_log(subscription, 2).await?;
    ensure!(log[1]["delivery_id"] != waiting["id"], "{log:?}");
    // It is counted, and can be had after all.
    let path = format!("/stats?subscription_id={subscription}");
    until("the cancellation in the numbers", async || {
        let stats = client.get(&path).await?.expect(200)?.json;
        Ok((stats["series"][0]["total"]["cancelled"] == 1).then_some(()))
    })
    .await?;
    let retry = path_of(&waiting)?;
    let started = client.post(&retry, &json!({})).await?.expect(202)?.json;
    ensure!(started["attempt"] == 2, "{started}");
    client.wait_for_log(subscription, 3).await?;
    Ok(())
}

async fn a_delivery_cancelled_in_flight_stays_cancelled(
    deployment: Arc<Deployment>,
) -> anyhow::Result<()> {
    let tenant = deployment.tenant().await?;
    let client = &tenant.client;
    let slow = Reply::status(200).after(Duration::from_secs(2));
    let receiver = Receiver::answering(vec![slow])?;
    let subscription = tenant.subscribe(&receiver, &["workflow.failed"]).await?;
    tenant.publish_one("workflow.failed").await?;
    receiver.wait_for(1).await?;
    let pending = delivery(&tenant, subscription, "pending").await?;
    client
        .post(&cancel_of(&pending)?, &json!({}))
        .await?
        .expect(202)?;
    // Its answer comes before that of the next one.
    tenant.publish_one("workflow.failed").await?;
    let log = client.wait_for_log(subscription, 1).await?;
    ensure!(
        log.len() == 1 && log[0]["delivery_id"] != pending["id"],
        "{log:?}"
    );
    let cancelled = delivery(&tenant, subscription, "cancelled").await?;
    ensure!(cancelled["id"] == pending["id"], "{cancelled}");
    ensure!(receiver.received().len() == 2);
    Ok(())
}
