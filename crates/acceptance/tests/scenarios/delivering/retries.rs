//! Retries after a failure.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use hookline_acceptance::scenarios;
use hookline_acceptance::suite::SharedScenario;
use hookline_core::timestamp::Timestamp;
use hookline_testkit::deployment::Deployment;
use hookline_testkit::receiver::{ReceivedRequest, Receiver, Reply};
use serde_json::{Value, json};

pub(crate) fn shared() -> Vec<SharedScenario> {
    scenarios![
        a_delivery_is_exhausted_after_the_last_attempt_of_its_schedule,
        retry_after_is_honoured_only_on_429_and_503,
        a_redirect_is_a_failure_and_is_not_followed,
        a_retry_uses_the_subscription_as_it_is_then,
    ]
}

/// How much later than due something may come on a busy machine.
const LATE: Duration = Duration::from_millis(2_500);

fn time_of(value: &Value) -> anyhow::Result<Timestamp> {
    Ok(Timestamp::parse(value.as_str().context("no time")?)?)
}

/// Whether `wait` passed between two requests, a little more for the way, and no retry's wait less.
fn ensure_wait(received: &[ReceivedRequest], wait: Duration) -> anyhow::Result<()> {
    let passed = received[1].at - received[0].at;
    ensure!(
        passed + Duration::from_millis(50) >= wait && passed <= wait + LATE,
        "{passed:?} instead of {wait:?}"
    );
    Ok(())
}

async fn a_delivery_is_exhausted_after_the_last_attempt_of_its_schedule(
    deployment: Arc<Deployment>,
) -> anyhow::Result<()> {
    let tenant = deployment.tenant().await?;
    let receiver =
        Receiver::with(|_, before| Reply::status(500).with_body(format!("no {before}")))?;
    let subscription = tenant.subscribe(&receiver, &["workflow.failed"]).await?;
    tenant.publish_one("workflow.failed").await?;
    let log = tenant.client.wait_for_log(subscription, 4).await?;
    let received = receiver.received();
    for (index, wait) in [1, 1, 2].into_iter().enumerate() {
        let wait = Duration::from_secs(wait);
        ensure_wait(&received[index..], wait)?;
        let entry = &log[index];
        let due = time_of(&entry["next_attempt_at"])?;
        let planned = due.remaining(time_of(&entry["created_at"])?);
        ensure!(planned >= wait && planned <= wait + LATE, "{entry}");
    }
    for (index, entry) in log.iter().enumerate() {
        ensure!(entry["attempt"] == index + 1, "{entry}");
        ensure!(entry["status"] == "failed", "{entry}");
        ensure!(entry["response_status"] == 500, "{entry}");
        ensure!(entry["response_body"] == format!("no {index}"), "{entry}");
        ensure!(entry["error"]["kind"] == "http_status", "{entry}");
    }
    ensure!(log[3]["next_attempt_at"].is_null(), "{}", log[3]);
    ensure!(received.len() == 4, "{} requests", received.len());
    Ok(())
}

async fn retry_after_is_honoured_only_on_429_and_503(
    deployment: Arc<Deployment>,
) -> anyhow::Result<()> {
    let dated = |status| {
        // A receiver with a clock that is years behind still says three seconds.
        Reply::status(status)
            .with_header("date", "Sun, 06 Nov 1994 08:49:37 GMT")
            .with_header("retry-after", "Sun, 06 Nov 1994 08:49:40 GMT")
    };
    let cases = [
        (Reply::status(429).with_header("retry-after", "3"), 3),
        (Reply::status(503).with_header("retry-after", "2"), 2),
        (dated(429), 3),
        (dated(503), 3),
        (Reply::status(429).with_header("retry-after", "0"), 1),
        (Reply::status(503).with_header("retry-after", "soon"), 1),
        (Reply::status(500).with_header("retry-after", "4"), 1),
        (Reply::status(404).with_header("retry-after", "4"), 1),
    ];
    let tenant = deployment.tenant().await?;
    let mut receivers = Vec::new();
    for (reply, wait) in cases {
        let description = format!("{reply:?}");
        let receiver = Receiver::answering(vec![reply, Reply::status(200)])?;
        tenant.subscribe(&receiver, &["workflow.completed"]).await?;
        receivers.push((receiver, wait, description));
    }
    tenant.publish_one("workflow.completed").await?;
    for (receiver, wait, description) in receivers {
        let received = receiver.wait_for(2).await.context(description.clone())?;
        ensure_wait(&received, Duration::from_secs(wait)).context(description)?;
    }
    Ok(())
}

async fn a_redirect_is_a_failure_and_is_not_followed(
    deployment: Arc<Deployment>,
) -> anyhow::Result<()> {
    const STATUSES: [u16; 6] = [300, 301, 302, 303, 307, 308];
    let tenant = deployment.tenant().await?;
    let elsewhere = Receiver::healthy()?;
    let location = elsewhere.url("/elsewhere");
    let receiver = Receiver::with(move |request, _| {
        let status = request.path[1..].parse().unwrap_or(500);
        Reply::status(status).with_header("location", &location)
    })?;
    let mut subscriptions = Vec::new();
    for status in STATUSES {
        let url = receiver.url(&format!("/{status}"));
        let body = json!({"name": "moved", "url": url, "events": ["workflow.completed"]});
        subscriptions.push((status, tenant.client.subscribe(&body).await?));
    }
    tenant.publish_one("workflow.completed").await?;
    for (status, subscription) in subscriptions {
        let entry = &tenant.client.wait_for_log(subscription, 1).await?[0];
        ensure!(entry["status"] == "failed", "{entry}");
        ensure!(entry["response_status"] == status, "{entry}");
        ensure!(entry["error"]["kind"] == "http_status", "{entry}");
        ensure!(!entry["next_attempt_at"].is_null(), "{entry}");
    }
    ensure!(elsewhere.received().is_empty(), "a redirect was followed");
    Ok(())
}

async fn a_retry_uses_the_subscription_as_it_is_then(
    deployment: Arc<Deployment>,
) -> anyhow::Result<()> {
    let tenant = deployment.tenant().await?;
    let before = Receiver::with(|_, _| Reply::status(503).with_header("retry-after", "2"))?;
    let after = Receiver::healthy()?;
    let subscription = tenant
        .client
        .subscribe(&json!({
            "name": "moving", "url": before.url("/old"), "events": ["workflow.failed"],
            "secret": "old", "headers": {"X-Kept": "old", "X-Gone": "old"},
        }))
        .await?;
    tenant.publish_one("workflow.failed").await?;
    let old = before.wait_for(1).await?.remove(0);
    old.verify("old")?;
    let changes = json!({
        "url": after.url("/new"), "secret": "whsec_bmV3", "headers": {"X-Kept": "new"},
        // An event on its way is not called back because its type is no longer wanted.
        "events": ["workflow.started"],
    });
    let path = format!("/webhooks/{subscription}");
    tenant.client.patch(&path, &changes).await?.expect(200)?;
    let new = after.wait_for(1).await?.remove(0);
    new.verify("whsec_bmV3")?;
    ensure!(new.path == "/new");
    ensure!(new.header("x-webhook-attempt")? == "2");
    ensure!(new.header("x-kept")? == "new");
    ensure!(new.header("x-gone").is_err());
    ensure!(new.header("webhook-id")? == old.header("webhook-id")?);
    ensure!(new.body == old.body);
    let log = tenant.client.wait_for_log(subscription, 2).await?;
    ensure!(log[0]["url"] == before.url("/old"), "{log:#?}");
    ensure!(log[1]["url"] == after.url("/new"), "{log:#?}");
    ensure!(before.received().len() == 1);
    Ok(())
}
