//! Subscriptions that are switched off, by their owner or by the receiver, and deleted ones.
//!
//! A control shows that nothing is sent: a second subscription to the same events, with the same waits. When the
//! control has had its retry, the other would have had one, too.

use std::sync::Arc;

use anyhow::ensure;
use hookline_acceptance::scenarios;
use hookline_acceptance::suite::SharedScenario;
use hookline_testkit::deployment::Deployment;
use hookline_testkit::receiver::{Receiver, Reply};
use hookline_testkit::tenant::Tenant;
use hookline_testkit::waiting::until;
use serde_json::{Value, json};

pub(crate) fn shared() -> Vec<SharedScenario> {
    scenarios![
        an_inactive_subscription_receives_only_test_deliveries,
        a_retry_that_was_skipped_stays_so_after_reactivation,
        a_deleted_subscription_receives_no_more_requests,
        a_410_disables_the_subscription,
    ]
}

/// A subscription and its control, each with a first attempt that failed and a retry that waits.
struct Waiting {
    receiver: Receiver,
    subscription: i64,
    control: Receiver,
}

impl Waiting {
    async fn of(tenant: &Tenant<'_>) -> anyhow::Result<Self> {
        let (receiver, control) = (Self::receiver()?, Self::receiver()?);
        let subscription = tenant.subscribe(&receiver, &["workflow.failed"]).await?;
        let other = tenant.subscribe(&control, &["workflow.failed"]).await?;
        tenant.publish_one("workflow.failed").await?;
        tenant.client.wait_for_log(subscription, 1).await?;
        tenant.client.wait_for_log(other, 1).await?;
        Ok(Self {
            receiver,
            subscription,
            control,
        })
    }

    /// Fails an event's first two attempts; two seconds and one pass between them.
    fn receiver() -> anyhow::Result<Receiver> {
        Receiver::with(
            |request, before| match (request.header("x-webhook-event"), before) {
                (Ok("workflow.failed"), 0) => Reply::status(429).with_header("retry-after", "2"),
                (Ok("workflow.failed"), 1) => Reply::status(500),
                _ => Reply::status(200),
            },
        )
    }

    /// Waits until the retry that waited would have come a second ago.
    async fn until_long_past(&self) -> anyhow::Result<()> {
        self.control.wait_for(3).await?;
        Ok(())
    }

    async fn patch(&self, tenant: &Tenant<'_>, body: Value) -> anyhow::Result<Value> {
        let path = format!("/webhooks/{}", self.subscription);
        Ok(tenant.client.patch(&path, &body).await?.expect(200)?.json)
    }
}

async fn an_inactive_subscription_receives_only_test_deliveries(
    deployment: Arc<Deployment>,
) -> anyhow::Result<()> {
    let tenant = deployment.tenant().await?;
    let waiting = Waiting::of(&tenant).await?;
    waiting.patch(&tenant, json!({"is_active": false})).await?;
    tenant.publish_one("workflow.failed").await?;
    let path = format!("/webhooks/{}/test", waiting.subscription);
    let sent = tenant.client.post(&path, &json!({})).await?.expect(202)?;
    waiting.until_long_past().await?;
    let log = tenant.client.wait_for_log(waiting.subscription, 2).await?;
    let triggers: Vec<_> = log.iter().map(|entry| entry["trigger"].as_str()).collect();
    ensure!(triggers == [Some("event"), Some("test")], "{log:#?}");
    ensure!(
        log[1]["delivery_id"] == sent.json["delivery_id"],
        "{log:#?}"
    );
    ensure!(log[1]["event_id"] == sent.json["event_id"], "{log:#?}");
    ensure!(log[1]["event_type"] == "workflow.completed", "{log:#?}");
    ensure!(log[1]["status"] == "success", "{log:#?}");
    let received = waiting.receiver.received();
    ensure!(received.len() == 2, "{} requests", received.len());
    received[1].verify("hush")?;
    if let Ok(dependencies) = deployment.dependencies() {
        let states = format!(
            "SELECT string_agg(state, ' ' ORDER BY state) FROM deliveries WHERE subscription_id = {}",
            waiting.subscription
        );
        let states = dependencies.sql(&states).await?;
        ensure!(states == "delivered skipped skipped", "{states}");
    }
    Ok(())
}

async fn a_retry_that_was_skipped_stays_so_after_reactivation(
    deployment: Arc<Deployment>,
) -> anyhow::Result<()> {
    let tenant = deployment.tenant().await?;
    let waiting = Waiting::of(&tenant).await?;
    waiting.patch(&tenant, json!({"is_active": false})).await?;
    waiting.patch(&tenant, json!({"is_active": true})).await?;
    waiting.until_long_past().await?;
    let received = waiting.receiver.received();
    ensure!(received.len() == 1, "{} requests", received.len());
    // It is alive otherwise, retries included.
    tenant.publish_one("workflow.failed").await?;
    let received = waiting.receiver.wait_for(4).await?;
    ensure!(received[1].header("webhook-id")? != received[0].header("webhook-id")?);
    ensure!(received[3].header("webhook-id")? == received[1].header("webhook-id")?);
    Ok(())
}

async fn a_deleted_subscription_receives_no_more_requests(
    deployment: Arc<Deployment>,
) -> anyhow::Result<()> {
    let tenant = deployment.tenant().await?;
    let waiting = Waiting::of(&tenant).await?;
    let path = format!("/webhooks/{}", waiting.subscription);
    tenant.client.delete(&path).await?.expect(204)?;
    tenant.publish_one("workflow.failed").await?;
    for path in [path.clone(), format!("{path}/logs")] {
        tenant.client.get(&path).await?.expect(404)?;
    }
    tenant
        .client
        .post(&format!("{path}/test"), &json!({}))
        .await?
        .expect(404)?;
    waiting.until_long_past().await?;
    let received = waiting.receiver.received();
    ensure!(received.len() == 1, "{} requests", received.len());
    let page = tenant
        .client
        .get("/webhooks/logs/all?limit=100")
        .await?
        .expect(200)?;
    let kept = page.json["logs"]
        .as_array()
        .into_iter()
        .flatten()
        .filter(|entry| entry["subscription_id"] == waiting.subscription)
        .count();
    ensure!(kept == 1, "{kept} entries of the deleted one are left");
    Ok(())
}

async fn a_410_disables_the_subscription(deployment: Arc<Deployment>) -> anyhow::Result<()> {
    let tenant = deployment.tenant().await?;
    let gone = std::sync::atomic::AtomicBool::new(true);
    let receiver =
        Receiver::with(
            move |_, _| match gone.swap(false, std::sync::atomic::Ordering::Relaxed) {
                true => Reply::status(410).with_header("retry-after", "1"),
                false => Reply::status(200),
            },
        )?;
    let control = Receiver::healthy()?;
    let subscription = tenant.subscribe(&receiver, &["workflow.failed"]).await?;
    tenant.subscribe(&control, &["workflow.failed"]).await?;
    tenant.publish_one("workflow.failed").await?;
    let path = format!("/webhooks/{subscription}");
    until("the subscription to be off", async || {
        let found = tenant.client.get(&path).await?.expect(200)?.json;
        Ok((found["is_active"] == false && found["disabled_reason"] == "gone").then_some(()))
    })
    .await?;
    let entry = &tenant.client.wait_for_log(subscription, 1).await?[0];
    ensure!(entry["response_status"] == 410, "{entry}");
    ensure!(entry["next_attempt_at"].is_null(), "{entry}");

    tenant.publish_one("workflow.failed").await?;
    control.wait_for(2).await?;
    let on = tenant
        .client
        .patch(&path, &json!({"is_active": true}))
        .await?
        .expect(200)?;
    ensure!(
        on.json["is_active"] == true && on.json["disabled_reason"].is_null(),
        "{}",
        on.json
    );
    tenant.publish_one("workflow.failed").await?;
    let received = receiver.wait_for(2).await?;
    let sent = control.wait_for(3).await?;
    ensure!(received[0].body == sent[0].body && received[1].body == sent[2].body);
    ensure!(receiver.received().len() == 2);
    Ok(())
}
