//! Recovery: the broker loses all its data, and the deliveries that the store holds as owed are made all the same.

use std::collections::HashSet;

use anyhow::ensure;
use hookline_acceptance::sentences;
use hookline_acceptance::suite::Alone;
use hookline_testkit::deployment::{Home, Kind, Part};
use hookline_testkit::receiver::Receiver;
use hookline_testkit::waiting::until;

pub(crate) fn distributed() -> Vec<Alone> {
    sentences![what_is_owed_is_delivered_although_the_broker_lost_its_data]
}

async fn what_is_owed_is_delivered_although_the_broker_lost_its_data(
    kind: Kind,
) -> anyhow::Result<()> {
    const EVENTS: usize = 40;
    let home = Home::start(kind).await?;
    let tenant = home.tenant().await?;
    let receiver = Receiver::healthy()?;
    tenant.subscribe(&receiver, &["workflow.failed"]).await?;
    home.stop(Part::Dispatcher).await?;
    let events: Vec<_> = (0..EVENTS)
        .map(|_| tenant.event("workflow.failed"))
        .collect();
    tenant.publish(&events).await?;
    let peers = home.peers()?;
    until("the events to be taken in", async || {
        Ok(
            (peers.sql("SELECT count(*) FROM deliveries").await? == EVENTS.to_string())
                .then_some(()),
        )
    })
    .await?;

    peers.lose_broker_data().await?;
    home.start_part(Part::Dispatcher, &[]).await?;
    home.wait_ready().await?;
    let received = receiver.wait_for(EVENTS).await?;
    let ids: HashSet<_> = received
        .iter()
        .filter_map(|request| request.header("webhook-id").ok())
        .collect();
    ensure!(ids.len() == EVENTS, "{} deliveries of {EVENTS}", ids.len());

    // Ingest and the API have lost their connections, too: all goes on with no restart.
    let next = tenant.event("workflow.failed");
    until("the next event to be taken", async || {
        Ok((tenant.client.post("/events", &next).await?.status == 202).then_some(()))
    })
    .await?;
    receiver.wait_for(EVENTS + 1).await?;
    home.end().await
}
