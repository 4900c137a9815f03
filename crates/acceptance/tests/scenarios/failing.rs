//! Automatic switch-off: Hookline switches off subscriptions with receivers that take nothing, and tells operators.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use anyhow::{Context as _, ensure};
use hookline_acceptance::scenarios;
use hookline_acceptance::suite::IsolatedScenario;
use hookline_testkit::deployment::{Deployment, Mode, Service};
use hookline_testkit::operations::{OperationsListener, only_event};
use hookline_testkit::raw_receiver::{RawReceiver, read_request};
use hookline_testkit::receiver::{Receiver, Reply};
use hookline_testkit::tenant::Tenant;
use hookline_testkit::waiting::until;
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt as _;
use tokio::sync::Semaphore;

pub(crate) fn isolated() -> Vec<IsolatedScenario> {
    scenarios![
        a_subscription_failing_for_too_long_is_disabled_until_its_owner_enables_it,
        operators_are_notified_only_of_changes_by_the_system,
        operators_are_notified_when_the_process_dies_before_sending,
        operators_are_notified_again_when_the_process_dies_after_sending,
        a_late_410_does_not_disable_a_subscription_changed_meanwhile,
    ]
}

/// With retries after 1, 1 and 2 s.
const AFTER: (&str, &str) = ("HOOKLINE__DISPATCHER__FAILING_AFTER_SECONDS", "2");

async fn until_off(tenant: &Tenant<'_>, subscription: i64, reason: &str) -> anyhow::Result<Value> {
    until(&format!("it to be off: {reason}"), async || {
        let shown = show(tenant, subscription).await?;
        Ok((shown["is_active"] == false && shown["disabled_reason"] == reason).then_some(shown))
    })
    .await
}

async fn show(tenant: &Tenant<'_>, subscription: i64) -> anyhow::Result<Value> {
    let path = format!("/webhooks/{subscription}");
    Ok(tenant.client.get(&path).await?.expect(200)?.json)
}

async fn a_subscription_failing_for_too_long_is_disabled_until_its_owner_enables_it(
    mode: Mode,
) -> anyhow::Result<()> {
    let deployment = Deployment::start_with(mode, &[AFTER]).await?;
    let tenant = deployment.tenant().await?;
    let operators = OperationsListener::start(&deployment).await?;
    let (receiver, is_well) = Receiver::until_well(Reply::status(500))?;
    // It takes tests, and fails with all else.
    let fickle = Receiver::with(|request, _| match request.header("x-webhook-event") {
        Ok("workflow.completed") => Reply::status(200),
        _ => Reply::status(500),
    })?;
    let subscription = tenant.subscribe(&receiver, &["workflow.failed"]).await?;
    let control = tenant.subscribe(&fickle, &["workflow.failed"]).await?;
    tenant.publish_one("workflow.failed").await?;
    receiver.wait_for(3).await?;
    let waits = tenant.publish_one("workflow.failed").await?;
    // The control accepts a delivery while the last wait of both goes on.
    fickle.wait_for(3).await?;
    let path = format!("/webhooks/{control}/test");
    tenant.client.post(&path, &json!({})).await?.expect(202)?;

    until_off(&tenant, subscription, "failing").await?;
    let log = tenant.client.wait_for_log(subscription, 4).await?;
    let exhausted = log.iter().any(|entry| entry["next_attempt_at"].is_null());
    ensure!(exhausted, "nothing was exhausted: {log:#?}");
    let disabled = only_event(&operators.wait_for(1).await?, subscription, "failing")?;
    ensure!(
        disabled["organization_id"] == *tenant.organization,
        "{disabled}"
    );
    let path = format!("/events/{waits}");
    until("what waits to be skipped", async || {
        let details = tenant.client.get(&path).await?.expect(200)?.json;
        let text = details.to_string();
        Ok(text.contains("skipped").then_some(()))
    })
    .await?;
    ensure!(show(&tenant, control).await?["is_active"] == true);

    // Earlier failures do not count any more.
    is_well.store(true, Ordering::Relaxed);
    let path = format!("/webhooks/{subscription}");
    let on = json!({"is_active": true});
    let on = tenant.client.patch(&path, &on).await?.expect(200)?.json;
    ensure!(on["disabled_reason"].is_null(), "{on}");
    let before = receiver.received().len();
    tenant.publish_one("workflow.failed").await?;
    receiver.wait_for(before + 1).await?;
    ensure!(show(&tenant, subscription).await?["is_active"] == true);
    deployment.end().await
}

async fn operators_are_notified_only_of_changes_by_the_system(mode: Mode) -> anyhow::Result<()> {
    let deployment = Deployment::start(mode).await?;
    let tenant = deployment.tenant().await?;
    let gone = Receiver::answering(vec![Reply::status(410)])?;
    let [first, by_its_owner, second] = {
        let types: &[&str] = &["workflow.failed", "workflow.completed"];
        [
            tenant.subscribe(&gone, &types[..1]).await?,
            tenant.subscribe(&gone, &types[..1]).await?,
            tenant.subscribe(&gone, &types[1..]).await?,
        ]
    };
    let path = format!("/webhooks/{by_its_owner}");
    let off = json!({"is_active": false});
    tenant.client.patch(&path, &off).await?.expect(200)?;
    if mode == Mode::Distributed {
        // No operator listens yet, which holds nothing up.
        tenant.publish_one("workflow.failed").await?;
        until_off(&tenant, first, "gone").await?;
        let dependencies = deployment.dependencies()?;
        until("nothing to be left to tell", async || {
            let left = dependencies
                .sql("SELECT count(*) FROM operational_events")
                .await?;
            Ok((left == "0").then_some(()))
        })
        .await?;
    }
    let operators = OperationsListener::start(&deployment).await?;
    tenant.publish_one("workflow.completed").await?;
    until_off(&tenant, second, "gone").await?;
    let events = operators.wait_for(1).await?;
    let disabled = only_event(&events, second, "gone")?;
    ensure!(events.len() == 1, "{events:#?}");
    ensure!(disabled["type"] == "webhook.disabled", "{disabled}");
    if mode == Mode::Distributed {
        let fields: Vec<_> = disabled.as_object().context("an object")?.keys().collect();
        let expected = [
            "at",
            "id",
            "name",
            "organization_id",
            "reason",
            "subscription_id",
            "type",
        ];
        ensure!(fields == expected, "{disabled}");
        ensure!(disabled["name"] == "a subscription", "{disabled}");
        let shown = show(&tenant, second).await?;
        ensure!(disabled["at"] == shown["updated_at"], "{disabled} {shown}");
    }
    deployment.end().await
}

async fn operators_are_notified_when_the_process_dies_before_sending(
    mode: Mode,
) -> anyhow::Result<()> {
    next_process_publishes(mode, "operations::disabled", Announced::Once).await
}

async fn operators_are_notified_again_when_the_process_dies_after_sending(
    mode: Mode,
) -> anyhow::Result<()> {
    next_process_publishes(mode, "operations::announced", Announced::Twice).await
}

/// How often the exchange has it; the log of a standalone deployment always has it once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Announced {
    Once,
    Twice,
}

async fn next_process_publishes(
    mode: Mode,
    point: &str,
    announced: Announced,
) -> anyhow::Result<()> {
    let deployment = Deployment::start(mode).await?;
    let tenant = deployment.tenant().await?;
    let operators = OperationsListener::start(&deployment).await?;
    let gone = Receiver::answering(vec![Reply::status(410)])?;
    let subscription = tenant.subscribe(&gone, &["workflow.failed"]).await?;
    deployment.stop(Service::Dispatcher).await?;
    deployment
        .start_service(
            Service::Dispatcher,
            &[("FAILPOINTS", &format!("{point}=return"))],
        )
        .await?;
    deployment.wait_ready().await?;
    // In the standalone deployment the answer may not come any more, for the process dies of it.
    let published = tenant.publish_one("workflow.failed").await;
    if mode == Mode::Distributed {
        published?;
    }
    deployment.replace_crashed(Service::Dispatcher).await?;

    until_off(&tenant, subscription, "gone").await?;
    let times = match (mode, announced) {
        (Mode::Distributed, Announced::Twice) => 2,
        _ => 1,
    };
    let events = operators.wait_for(times).await?;
    ensure!(events.iter().all(|event| event["id"] == events[0]["id"]));
    only_event(&events[..1], subscription, "gone")?;
    let requests = gone.received().len();
    ensure!(requests == 1, "{requests} requests");
    deployment.end().await
}

async fn a_late_410_does_not_disable_a_subscription_changed_meanwhile(
    mode: Mode,
) -> anyhow::Result<()> {
    // Long enough for what is changed while receivers hold their answers.
    let settings = [("HOOKLINE__DISPATCHER__DEADLINE_SECONDS", "20")];
    let deployment = Deployment::start_with(mode, &settings).await?;
    let tenant = deployment.tenant().await?;
    let (asked, may_answer) = (Arc::new(Semaphore::new(0)), Arc::new(Semaphore::new(0)));
    let gone = RawReceiver::with({
        let (asked, may_answer) = (Arc::clone(&asked), Arc::clone(&may_answer));
        move |mut connection| {
            let (asked, may_answer) = (Arc::clone(&asked), Arc::clone(&may_answer));
            async move {
                read_request(&mut connection).await?;
                asked.add_permits(1);
                may_answer.acquire().await?.forget();
                let answer = b"HTTP/1.1 410 Gone\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
                Ok(connection.write_all(answer).await?)
            }
        }
    })
    .await?;
    let body = json!({"name": "late", "url": gone.url(), "events": ["workflow.failed"]});
    let moved = tenant.client.subscribe(&body).await?;
    let switched = tenant.client.subscribe(&body).await?;
    let unchanged = tenant.client.subscribe(&body).await?;
    tenant.publish_one("workflow.failed").await?;
    asked.acquire_many(3).await?.forget();
    let well = Receiver::healthy()?;
    for (subscription, change) in [
        (moved, json!({"url": well.url("/")})),
        (switched, json!({"is_active": false})),
        (switched, json!({"is_active": true})),
    ] {
        let path = format!("/webhooks/{subscription}");
        tenant.client.patch(&path, &change).await?.expect(200)?;
    }
    may_answer.add_permits(3);
    for subscription in [moved, switched, unchanged] {
        let log = tenant.client.wait_for_log(subscription, 1).await?;
        ensure!(log[0]["response_status"] == 410, "{}", log[0]);
        ensure!(log[0]["next_attempt_at"].is_null(), "{}", log[0]);
        let path = format!("/webhooks/{subscription}");
        let shown = tenant.client.get(&path).await?.expect(200)?.json;
        ensure!(shown["is_active"] == (subscription != unchanged), "{shown}");
    }
    tenant.publish_one("workflow.failed").await?;
    well.wait_for(1).await?;
    deployment.end().await
}
