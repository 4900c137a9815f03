//! A broker that answers a subscription after the process has given it up.

use anyhow::ensure;
use hookline_acceptance::scenarios;
use hookline_acceptance::suite::IsolatedScenario;
use hookline_testkit::deployment::{Deployment, Mode, Service};
use hookline_testkit::proxy::Link;
use hookline_testkit::receiver::Receiver;
use hookline_testkit::waiting::until;

pub(crate) fn distributed() -> Vec<IsolatedScenario> {
    scenarios![a_cancelled_consumer_keeps_no_messages]
}

const EVENTS: usize = 40;

/// The method basic.consume of AMQP 0-9-1: class 60, method 20.
const CONSUME: &[u8] = &[0, 60, 0, 20];

async fn a_cancelled_consumer_keeps_no_messages(mode: Mode) -> anyhow::Result<()> {
    let deployment = Deployment::prepare(mode, &[]).await?;
    let dependencies = deployment.dependencies()?;
    // The connection outlives the silence.
    let broker = dependencies.broker_with_heartbeat(60)?;
    for service in deployment.services() {
        deployment
            .start_service(service, &[("HOOKLINE__BROKER__URL", &broker)])
            .await?;
    }
    deployment.wait_ready().await?;
    let tenant = deployment.tenant().await?;
    let receiver = Receiver::healthy()?;
    tenant.subscribe(&receiver, &["workflow.failed"]).await?;
    // A quiet subscription is replaced every five seconds. The broker begins the new one, and is not heard.
    dependencies.rabbitmq.set(Link::SilentAfter(CONSUME));
    until("a subscription that is given up", async || {
        let output = deployment.output().await;
        Ok(output.contains("cannot consume the queue").then_some(()))
    })
    .await?;
    dependencies.rabbitmq.set(Link::Up);
    deployment.wait_ready().await?;
    let events = tenant.events("workflow.failed", EVENTS);
    tenant.publish(&events).await?;
    receiver.wait_for(EVENTS).await?;
    let lost = deployment.output().await.contains("lost the connection");
    ensure!(!lost, "a connection that ended has given messages back");
    ensure!(deployment.readiness(Service::Ingest).await == 200);
    deployment.end().await
}
