//! Recovery: the broker loses all its data, and the deliveries that the store holds as owed are made all the same.

use anyhow::ensure;
use hookline_acceptance::scenarios;
use hookline_acceptance::suite::IsolatedScenario;
use hookline_testkit::deployment::{Deployment, Mode, Service};
use hookline_testkit::receiver::{Receiver, distinct};
use hookline_testkit::waiting::until;

pub(crate) fn distributed() -> Vec<IsolatedScenario> {
    scenarios![owed_deliveries_survive_the_loss_of_broker_data]
}

async fn owed_deliveries_survive_the_loss_of_broker_data(mode: Mode) -> anyhow::Result<()> {
    const EVENTS: usize = 40;
    let deployment = Deployment::start(mode).await?;
    let tenant = deployment.tenant().await?;
    let receiver = Receiver::healthy()?;
    tenant.subscribe(&receiver, &["workflow.failed"]).await?;
    deployment.stop(Service::Dispatcher).await?;
    let events = tenant.events("workflow.failed", EVENTS);
    tenant.publish(&events).await?;
    let dependencies = deployment.dependencies()?;
    until("the events to be taken in", async || {
        Ok(
            (dependencies.sql("SELECT count(*) FROM deliveries").await? == EVENTS.to_string())
                .then_some(()),
        )
    })
    .await?;

    dependencies.lose_broker_data().await?;
    deployment.start_service(Service::Dispatcher, &[]).await?;
    deployment.wait_ready().await?;
    let received = receiver.wait_for(EVENTS).await?;
    let ids = distinct(&received);
    ensure!(ids.len() == EVENTS, "{} deliveries of {EVENTS}", ids.len());

    // Ingest and the API have lost their connections, too: all goes on with no restart.
    let next = tenant.event("workflow.failed");
    until("the next event to be taken", async || {
        Ok((tenant.client.post("/events", &next).await?.status == 202).then_some(()))
    })
    .await?;
    receiver.wait_for(EVENTS + 1).await?;
    deployment.end().await
}
