//! Rate limit per origin: a customer does not prove that a target is theirs, and no origin gets more than its rate.

use std::time::Duration;

use anyhow::ensure;
use hookline_testkit::deployment::{Deployment, Mode};
use hookline_testkit::receiver::Receiver;
use serde_json::json;

/// Requests in a second, and test events in a minute.
const RATE: usize = 10;
const TESTS: usize = 3;

pub(super) async fn test_deliveries_are_rate_limited_by_origin_and_organization(
    mode: Mode,
) -> anyhow::Result<()> {
    let (rate, tests) = (RATE.to_string(), TESTS.to_string());
    let settings = [
        (
            "HOOKLINE__TARGETS__MAX_PER_SECOND_PER_ORIGIN",
            rate.as_str(),
        ),
        ("HOOKLINE__API__MAX_TESTS_PER_MINUTE", tests.as_str()),
    ];
    let deployment = Deployment::start_with(mode, &settings).await?;
    an_origin_has_a_rate(&deployment).await?;
    an_organization_sends_so_many_tests(&deployment).await?;
    deployment.end().await
}

/// Two subscriptions point at it, and each event goes to both.
async fn an_origin_has_a_rate(deployment: &Deployment) -> anyhow::Result<()> {
    const EVENTS: usize = 20;
    let tenant = deployment.tenant().await?;
    let (flooded, other) = (Receiver::healthy()?, Receiver::healthy()?);
    let mut subscriptions = Vec::new();
    for _ in 0..2 {
        subscriptions.push(tenant.subscribe(&flooded, &["workflow.completed"]).await?);
    }
    tenant.subscribe(&other, &["workflow.failed"]).await?;
    let events = tenant.events("workflow.completed", EVENTS);
    tenant.publish(&events).await?;
    flooded.wait_for(RATE).await?;
    tenant.publish_one("workflow.failed").await?;
    other.wait_for(1).await?;
    let begun = flooded.received().len();
    ensure!(begun < 2 * EVENTS, "all {begun} requests began at once");

    let received = flooded.wait_for(2 * EVENTS).await?;
    for (index, first) in received.iter().enumerate() {
        let second = received[index..]
            .iter()
            .filter(|next| next.at.duration_since(first.at) < Duration::from_secs(1));
        let count = second.count();
        ensure!(count <= 2 * RATE, "{count} requests in a second");
    }
    for request in &received {
        ensure!(
            request.header("x-webhook-attempt")? == "1",
            "being put off used up an attempt"
        );
    }
    for subscription in subscriptions {
        let log = tenant.client.wait_for_log(subscription, EVENTS).await?;
        ensure!(log.len() == EVENTS, "{} attempts", log.len());
    }
    Ok(())
}

async fn an_organization_sends_so_many_tests(deployment: &Deployment) -> anyhow::Result<()> {
    let tenant = deployment.tenant().await?;
    let receiver = Receiver::healthy()?;
    let id = tenant.subscribe(&receiver, &["workflow.failed"]).await?;
    let test = format!("/webhooks/{id}/test");
    for _ in 0..TESTS {
        tenant.client.post(&test, &json!({})).await?.expect(202)?;
    }
    let refused = tenant.client.post(&test, &json!({})).await?.problem(429)?;
    let wait: u64 = refused.header("retry-after").parse()?;
    ensure!((1..=60 / TESTS as u64).contains(&wait), "{wait} s");
    receiver.wait_for(TESTS).await?;

    // Another organization has its own.
    let other = deployment.tenant().await?;
    let id = other.subscribe(&receiver, &["workflow.failed"]).await?;
    let test = format!("/webhooks/{id}/test");
    other.client.post(&test, &json!({})).await?.expect(202)?;
    Ok(())
}
