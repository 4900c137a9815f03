//! A test call sends one event to one subscription, once. It works for every event type, and while the subscription is
//! inactive.

use std::sync::Arc;

use anyhow::{Context as _, ensure};
use hookline_acceptance::scenarios;
use hookline_acceptance::suite::SharedScenario;
use hookline_testkit::deployment::Deployment;
use hookline_testkit::receiver::{Receiver, Reply};
use serde_json::{Value, json};

pub(crate) fn shared() -> Vec<SharedScenario> {
    scenarios![
        a_test_delivery_reaches_only_its_subscription,
        a_failed_test_is_not_retried,
        a_test_sends_the_type_and_the_data_of_its_caller,
    ]
}

async fn a_test_delivery_reaches_only_its_subscription(
    deployment: Arc<Deployment>,
) -> anyhow::Result<()> {
    let tenant = deployment.tenant().await?;
    let client = tenant.client.at(&deployment.api());
    let (receiver, bystander) = (Receiver::healthy()?, Receiver::healthy()?);
    tenant
        .subscribe(&bystander, &["workflow.completed"])
        .await?;
    let id = client
        .subscribe(&json!({
            "name": "n", "url": receiver.url("/hook"), "events": ["workflow.step.started"],
            "secret": "hush", "is_active": false,
        }))
        .await?;
    let sent = client
        .post(&format!("/webhooks/{id}/test"), &json!({}))
        .await?
        .expect(202)?
        .json;
    ensure!(
        sent.as_object().is_some_and(|fields| fields.len() == 2),
        "{sent}"
    );

    let received = receiver.wait_for(1).await?;
    received[0].verify("hush")?;
    let body: Value = serde_json::from_slice(&received[0].body)?;
    ensure!(
        body["event_type"] == "workflow.completed" && body["event_id"] == sent["event_id"],
        "{body}"
    );
    ensure!(
        body["organization_id"] == tenant.organization.as_str(),
        "{body}"
    );
    ensure!(sent["delivery_id"] == received[0].header("webhook-id")?);
    let log = client.wait_for_log(id, 1).await?;
    ensure!(log[0]["trigger"] == "test" && log[0]["attempt"] == 1 && log[0]["status"] == "success");
    ensure!(log[0]["event_id"] == sent["event_id"] && log[0]["delivery_id"] == sent["delivery_id"]);
    ensure!(
        log[0]["event_type"] == "workflow.completed"
            && log[0]["request_body"] == String::from_utf8_lossy(&received[0].body).as_ref()
    );

    // It needs no body, and each is an event of its own.
    let request = client.request(reqwest::Method::POST, &format!("/webhooks/{id}/test"));
    let again = client.send(request).await?.expect(202)?.json;
    ensure!(again["event_id"] != sent["event_id"] && again["delivery_id"] != sent["delivery_id"]);
    client.wait_for_log(id, 2).await?;

    let shown = client
        .get(&format!("/webhooks/{id}"))
        .await?
        .expect(200)?
        .json;
    ensure!(
        shown["is_active"] == false && shown["created_at"] == shown["updated_at"],
        "{shown}"
    );
    let event = tenant.publish_one("workflow.completed").await?;
    let bystanders = bystander.wait_for(1).await?;
    let body: Value = serde_json::from_slice(&bystanders[0].body)?;
    ensure!(
        body["event_id"] == event.as_str(),
        "a test went to another subscription: {body}"
    );
    Ok(())
}

async fn a_failed_test_is_not_retried(deployment: Arc<Deployment>) -> anyhow::Result<()> {
    let tenant = deployment.tenant().await?;
    let receiver = Receiver::answering(vec![Reply::status(500), Reply::status(200)])?;
    let id = tenant.subscribe(&receiver, &["workflow.failed"]).await?;
    let test = tenant
        .client
        .post(&format!("/webhooks/{id}/test"), &json!({}))
        .await?
        .expect(202)?;
    let log = tenant.client.wait_for_log(id, 1).await?;
    ensure!(
        log[0]["status"] == "failed" && log[0]["next_attempt_at"].is_null(),
        "{log:?}"
    );

    // An event that fails now is retried, and by then so would have been the test before it.
    tenant.publish_one("workflow.failed").await?;
    let log = tenant.client.wait_for_log(id, 3).await?;
    let tests: Vec<_> = log
        .iter()
        .filter(|entry| entry["trigger"] == "test")
        .collect();
    ensure!(
        tests.len() == 1 && tests[0]["delivery_id"] == test.json["delivery_id"],
        "{log:?}"
    );
    ensure!(receiver.received().len() == 3);
    Ok(())
}

async fn a_test_sends_the_type_and_the_data_of_its_caller(
    deployment: Arc<Deployment>,
) -> anyhow::Result<()> {
    let tenant = deployment.tenant().await?;
    let receiver = Receiver::healthy()?;
    let id = tenant.subscribe(&receiver, &["workflow.failed"]).await?;
    let types = tenant.client.get("/event-types").await?.expect(200)?.json;
    let types = types["event_types"].as_array().context("event types")?;
    for one in types {
        let body = json!({"event_type": one["event_type"], "data": one["sample"]["data"]});
        let sent = tenant
            .client
            .post(&format!("/webhooks/{id}/test"), &body)
            .await?;
        sent.expect(202)?;
    }
    let mut received: Vec<Value> = Vec::new();
    for request in receiver.wait_for(types.len()).await? {
        request.verify("hush")?;
        received.push(serde_json::from_slice(&request.body)?);
    }
    for one in types {
        let event = received
            .iter()
            .find(|event| event["event_type"] == one["event_type"])
            .with_context(|| format!("no test event {one}"))?;
        ensure!(event["data"] == one["sample"]["data"], "{event}");
    }
    let text = r#"{"data": {"b":1.0000000000000000001, "a":"\u0041"}}"#;
    let request = tenant
        .client
        .request(reqwest::Method::POST, &format!("/webhooks/{id}/test"))
        .header("content-type", "application/json")
        .body(text);
    tenant.client.send(request).await?.expect(202)?;
    let received = receiver.wait_for(types.len() + 1).await?;
    let is_ours = |body: &[u8]| {
        let body = String::from_utf8_lossy(body);
        body.ends_with(r#""data":{"b":1.0000000000000000001, "a":"\u0041"}}"#)
    };
    ensure!(received.iter().any(|request| is_ours(&request.body)));
    Ok(())
}
