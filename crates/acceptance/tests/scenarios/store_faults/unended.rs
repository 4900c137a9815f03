//! A delivery that cannot be handled ends in the database in the transaction that makes it a dead letter. While
//! the database does not let it end, it is held and is no dead letter.

use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use hookline_core::ids::DeliveryId;
use hookline_testkit::deployment::{Deployment, Mode, Service};
use hookline_testkit::receiver::Receiver;
use hookline_testkit::tenant::Tenant;
use hookline_testkit::waiting::until;
use serde_json::{Value, json};

use crate::poison::delivery_of;

/// Several tries to end it.
const FAULT_DURATION: Duration = Duration::from_secs(8);

/// Deliveries of the others take 20 ms on an idle machine; a delivery that holds the only slot would hold them for 8 s.
const PROMPT: Duration = Duration::from_secs(5);

pub(super) async fn a_delivery_that_cannot_be_ended_is_no_dead_letter_yet(
    mode: Mode,
) -> anyhow::Result<()> {
    // One request at a time: a slot that is held holds up the others.
    let settings = [("HOOKLINE__DISPATCHER__SLOTS", "1")];
    let deployment = Deployment::start_with(mode, &settings).await?;
    let tenant = deployment.tenant().await?;
    let (receiver, of_others) = (Receiver::healthy()?, Receiver::healthy()?);
    let body = json!({
        "name": "n", "url": receiver.url("/"), "events": ["workflow.failed"], "secret": "s",
    });
    let subscription = tenant.client.subscribe(&body).await?;
    tenant.subscribe(&of_others, &["workflow.started"]).await?;
    deployment
        .dependencies()?
        .sql(&format!(
            "UPDATE subscriptions SET secret = '' WHERE id = {subscription}"
        ))
        .await?;
    let event = tenant.event("workflow.failed");
    let delivery = delivery_of(&tenant, &event, subscription)?;
    refuse_to_end(&deployment, &delivery).await?;
    tenant.publish(std::slice::from_ref(&event)).await?;
    until("the dispatcher to try", async || {
        let output = deployment.output().await;
        Ok(output
            .contains("could not dead-letter delivery")
            .then_some(()))
    })
    .await?;

    others_go_on(&deployment, &tenant, &of_others).await?;
    deployment
        .dependencies()?
        .sql("DROP TRIGGER refuse ON deliveries")
        .await?;
    let dead = until("the dead letter", async || {
        let dead = deployment.dead_letters().await?;
        Ok((!dead.is_empty()).then_some(dead))
    })
    .await?;
    is_the_only_one(&dead, &delivery)?;
    let path = format!("/deliveries/{delivery}");
    let shown = tenant.client.get(&path).await?.expect(200)?.json;
    ensure!(
        shown["status"] == "exhausted" && shown["exhausted_reason"] == "poison",
        "{shown}"
    );

    // Another dispatcher finds nothing more of it.
    deployment.restart(Service::Dispatcher, &[]).await?;
    let before = of_others.received().len();
    tenant.publish_one("workflow.started").await?;
    of_others.wait_for(before + 1).await?;
    is_the_only_one(&deployment.dead_letters().await?, &delivery)?;
    ensure!(receiver.received().is_empty(), "it was delivered");
    deployment.end().await
}

/// The row of this delivery cannot be changed; any other can.
async fn refuse_to_end(deployment: &Deployment, delivery: &DeliveryId) -> anyhow::Result<()> {
    let delivery = delivery.0.simple();
    let refuse = format!(
        "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS
         $$ BEGIN RAISE EXCEPTION 'this row stays'; END $$;
         CREATE TRIGGER refuse BEFORE UPDATE OF state ON deliveries FOR EACH ROW
         WHEN (OLD.id = '{delivery}') EXECUTE FUNCTION refuse()"
    );
    deployment.dependencies()?.sql(&refuse).await?;
    Ok(())
}

/// For as long as the fault lasts, deliveries of others are as quick as ever and nothing is dead-lettered.
async fn others_go_on(
    deployment: &Deployment,
    tenant: &Tenant<'_>,
    of_others: &Receiver,
) -> anyhow::Result<()> {
    let began = Instant::now();
    let mut published = 0;
    while began.elapsed() < FAULT_DURATION {
        let at = Instant::now();
        tenant.publish_one("workflow.started").await?;
        published += 1;
        of_others.wait_for(published).await?;
        let elapsed = at.elapsed();
        ensure!(elapsed < PROMPT, "a delivery of another took {elapsed:?}");
        let dead = deployment.dead_letters().await?;
        ensure!(dead.is_empty(), "dead-lettered too early: {dead:?}");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    Ok(())
}

fn is_the_only_one(dead: &[Value], delivery: &DeliveryId) -> anyhow::Result<()> {
    ensure!(dead.len() == 1, "{dead:?}");
    let id = dead[0]["id"].as_str().context("an id")?;
    ensure!(id == delivery.to_string(), "{dead:?}");
    Ok(())
}
