//! An event goes in, signed deliveries come out.

mod fanout;
mod request;
mod retries;
mod switched;

use std::sync::Arc;

use anyhow::ensure;
use hookline_acceptance::scenarios;
use hookline_acceptance::suite::{IsolatedScenario, SharedScenario};
use hookline_testkit::deployment::Deployment;
use hookline_testkit::receiver::{Receiver, Reply};

pub(crate) fn shared() -> Vec<SharedScenario> {
    let mut all: Vec<SharedScenario> = scenarios![
        an_event_reaches_its_subscription_signed,
        a_failed_delivery_is_retried_with_the_same_id_and_body
    ];
    all.extend(request::shared());
    all.extend(fanout::shared());
    all.extend(retries::shared());
    all.extend(switched::shared());
    all
}

pub(crate) fn distributed() -> Vec<IsolatedScenario> {
    fanout::distributed()
}

async fn an_event_reaches_its_subscription_signed(
    deployment: Arc<Deployment>,
) -> anyhow::Result<()> {
    let tenant = deployment.tenant().await?;
    let receiver = Receiver::healthy()?;
    tenant.subscribe(&receiver, &["workflow.completed"]).await?;
    tenant.publish_one("workflow.completed").await?;
    let received = receiver.wait_for(1).await?;
    received[0].verify("hush")
}

async fn a_failed_delivery_is_retried_with_the_same_id_and_body(
    deployment: Arc<Deployment>,
) -> anyhow::Result<()> {
    let tenant = deployment.tenant().await?;
    let receiver = Receiver::answering(vec![
        Reply::status(500),
        Reply::status(503),
        Reply::status(200),
    ])?;
    let subscription = tenant.subscribe(&receiver, &["workflow.failed"]).await?;
    tenant.publish_one("workflow.failed").await?;
    let received = receiver.wait_for(3).await?;
    for (index, request) in received.iter().enumerate() {
        request.verify("hush")?;
        ensure!(request.header("x-webhook-attempt")? == (index + 1).to_string());
        ensure!(request.header("webhook-id")? == received[0].header("webhook-id")?);
        ensure!(request.body == received[0].body);
    }
    let log = tenant.client.wait_for_log(subscription, 3).await?;
    let triggers: Vec<_> = log.iter().map(|entry| entry["trigger"].as_str()).collect();
    ensure!(
        triggers == [Some("event"), Some("retry"), Some("retry")],
        "{log:?}"
    );
    Ok(())
}
