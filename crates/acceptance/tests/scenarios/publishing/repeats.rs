//! Repeated events, and the largest event and request.

use std::sync::Arc;

use anyhow::ensure;
use futures::future::try_join_all;
use hookline_acceptance::scenarios;
use hookline_acceptance::suite::SharedScenario;
use hookline_testkit::deployment::Deployment;
use hookline_testkit::receiver::Receiver;
use serde_json::{Value, json};

use super::sent_as;

pub(crate) fn shared() -> Vec<SharedScenario> {
    scenarios![
        the_same_event_id_in_an_organization_is_one_event,
        concurrent_events_with_one_id_are_one_event,
        the_largest_event_and_the_largest_request_are_delivered,
    ]
}

async fn the_same_event_id_in_an_organization_is_one_event(
    deployment: Arc<Deployment>,
) -> anyhow::Result<()> {
    let (tenant, other) = (deployment.tenant().await?, deployment.tenant().await?);
    let (receiver, others) = (Receiver::healthy()?, Receiver::healthy()?);
    let all = ["workflow.started", "workflow.completed"];
    tenant.subscribe(&receiver, &all).await?;
    other.subscribe(&others, &all).await?;
    let first = tenant.event("workflow.completed");
    tenant.publish(std::slice::from_ref(&first)).await?;
    receiver.wait_for(1).await?;
    // Again as it was, with another body, with another type, over HTTP, twice in one request.
    let mut changed = first.clone();
    changed["data"] = json!({"changed": true});
    let mut retyped = first.clone();
    retyped["event_type"] = json!("workflow.started");
    tenant.publish(std::slice::from_ref(&first)).await?;
    tenant.publish(std::slice::from_ref(&changed)).await?;
    tenant.post_bytes(&retyped.to_string(), None).await?;
    let twice = json!([first, first]).to_string();
    tenant.post_bytes(&twice, None).await?;
    // With two bodies for one id in a request it is not known which one is meant.
    let both = json!([changed, first]);
    let refused = tenant.client.post("/events", &both).await?.problem(422)?;
    ensure!(refused.bad_fields() == ["[1].event_id"], "{}", refused.json);
    let mut elsewhere = first.clone();
    elsewhere["organization_id"] = json!(other.organization);
    other.publish(std::slice::from_ref(&elsewhere)).await?;
    let last = tenant.event("workflow.started");
    tenant.post_bytes(&last.to_string(), None).await?;

    let received = receiver.wait_for(2).await?;
    let expected = [sent_as(&first.to_string())?, sent_as(&last.to_string())?];
    ensure!(received.len() == 2, "{} deliveries", received.len());
    ensure!(received[0].body == expected[0] && received[1].body == expected[1]);
    let elsewhere = sent_as(&elsewhere.to_string())?;
    let others = others.wait_for(1).await?;
    ensure!(others[0].body == elsewhere);
    ensure!(others[0].header("webhook-id")? != received[0].header("webhook-id")?);
    Ok(())
}

async fn concurrent_events_with_one_id_are_one_event(
    deployment: Arc<Deployment>,
) -> anyhow::Result<()> {
    let tenant = deployment.tenant().await?;
    let receiver = Receiver::healthy()?;
    tenant.subscribe(&receiver, &["workflow.completed"]).await?;
    let event = tenant.event("workflow.completed");
    let copies: Vec<Value> = (0..20)
        .map(|number| {
            let mut copy = event.clone();
            copy["data"] = json!({"copy": number});
            copy
        })
        .collect();
    let (in_its_way, over_http) = copies.split_at(10);
    let publishing = in_its_way
        .iter()
        .map(|copy| tenant.publish(std::slice::from_ref(copy)));
    let bodies: Vec<String> = over_http.iter().map(Value::to_string).collect();
    let posting = bodies.iter().map(|body| tenant.post_bytes(body, None));
    tokio::try_join!(try_join_all(publishing), try_join_all(posting))?;
    tenant.publish_one("workflow.completed").await?;
    receiver.wait_for(2).await?;
    let log = tenant.client.get("/webhooks/logs/all").await?.expect(200)?;
    let received = receiver.received();
    let ids: Vec<_> = received
        .iter()
        .map(|request| request.header("webhook-id"))
        .collect::<Result<_, _>>()?;
    ensure!(ids.len() == 2 && ids[0] != ids[1], "{ids:?}, {}", log.json);
    Ok(())
}

async fn the_largest_event_and_the_largest_request_are_delivered(
    deployment: Arc<Deployment>,
) -> anyhow::Result<()> {
    const LARGEST: usize = 256 * 1024;
    const MANY: usize = 300;
    let tenant = deployment.tenant().await?;
    let receiver = Receiver::healthy()?;
    tenant.subscribe(&receiver, &["workflow.completed"]).await?;
    let padded = |to: usize| {
        let mut event = tenant.event("workflow.completed");
        event["data"] = json!({"padding": ""});
        let missing = to - sent_as(&event.to_string())?.len();
        event["data"]["padding"] = json!("x".repeat(missing));
        sent_as(&event.to_string())
    };
    let largest = [padded(LARGEST)?, padded(LARGEST)?];
    tenant.publish_bytes(&largest[0], None).await?;
    tenant.post_bytes(&largest[1], None).await?;
    let mut expected = largest.to_vec();
    let many = (0..MANY)
        .map(|_| padded(27 * 1024))
        .collect::<anyhow::Result<Vec<_>>>()?;
    tenant
        .post_bytes(&format!("[{}]", many.join(",")), None)
        .await?;
    expected.extend(many);
    let mut received: Vec<_> = receiver
        .wait_for(expected.len())
        .await?
        .into_iter()
        .map(|request| request.body)
        .collect();
    received.sort_unstable();
    expected.sort_unstable();
    ensure!(received == expected, "{} requests", received.len());
    Ok(())
}
