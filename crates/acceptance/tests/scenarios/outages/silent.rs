//! A broker that answers a subscription after the process has given it up.

use anyhow::ensure;
use hookline_acceptance::sentences;
use hookline_acceptance::suite::Alone;
use hookline_testkit::deployment::{Home, Kind, Part};
use hookline_testkit::proxy::Wire;
use hookline_testkit::receiver::Receiver;
use hookline_testkit::waiting::until;
use serde_json::Value;

pub(crate) fn distributed() -> Vec<Alone> {
    sentences![a_subscription_that_was_given_up_keeps_no_messages]
}

const EVENTS: usize = 40;

/// The method basic.consume of AMQP 0-9-1: class 60, method 20.
const CONSUME: &[u8] = &[0, 60, 0, 20];

async fn a_subscription_that_was_given_up_keeps_no_messages(kind: Kind) -> anyhow::Result<()> {
    let home = Home::prepare(kind, &[]).await?;
    let peers = home.peers()?;
    // The connection outlives the silence.
    let broker = peers.broker_with_heartbeat(60)?;
    for part in home.parts() {
        home.start_part(part, &[("HOOKLINE__BROKER__URL", &broker)])
            .await?;
    }
    home.wait_ready().await?;
    let tenant = home.tenant().await?;
    let receiver = Receiver::healthy()?;
    tenant.subscribe(&receiver, &["workflow.failed"]).await?;
    // A quiet subscription is replaced every five seconds. The broker begins the new one, and is not heard.
    peers.rabbitmq.set(Wire::SilentAfter(CONSUME));
    until("a subscription that is given up", async || {
        let said = home.said().await;
        Ok(said.contains("cannot consume the queue").then_some(()))
    })
    .await?;
    peers.rabbitmq.set(Wire::Whole);
    home.wait_ready().await?;
    let events: Vec<Value> = (0..EVENTS)
        .map(|_| tenant.event("workflow.failed"))
        .collect();
    tenant.publish(&events).await?;
    receiver.wait_for(EVENTS).await?;
    let lost = home.said().await.contains("lost the connection");
    ensure!(!lost, "a connection that ended has given messages back");
    ensure!(home.readiness(Part::Ingest).await == 200);
    home.end().await
}
