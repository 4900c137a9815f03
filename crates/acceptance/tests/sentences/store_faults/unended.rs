//! A delivery that cannot be handled ends in the database in the transaction that makes it a dead letter. While
//! the database does not let it end, it is held and is no dead letter.

use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use hookline_acceptance::home::{Home, Kind, Part};
use hookline_acceptance::receiver::Receiver;
use hookline_acceptance::tenant::Tenant;
use hookline_acceptance::waiting::until;
use hookline_core::ids::DeliveryId;
use serde_json::{Value, json};

use crate::poison::delivery_of;

/// Several tries to end it.
const LASTS: Duration = Duration::from_secs(8);

/// Deliveries of the others take 20 ms on an idle machine.
const PROMPT: Duration = Duration::from_secs(2);

pub(super) async fn a_delivery_that_cannot_be_ended_is_no_dead_letter_yet(
    kind: Kind,
) -> anyhow::Result<()> {
    // One request at a time: a slot that is held holds up the others.
    let settings = [("HOOKLINE__DISPATCHER__SLOTS", "1")];
    let home = Home::start_with(kind, &settings).await?;
    let tenant = home.tenant().await?;
    let (receiver, of_others) = (Receiver::healthy()?, Receiver::healthy()?);
    let body = json!({
        "name": "n", "url": receiver.url("/"), "events": ["workflow.failed"], "secret": "s",
    });
    let subscription = tenant.client.subscribe(&body).await?;
    tenant.subscribe(&of_others, &["workflow.started"]).await?;
    home.peers()?
        .sql(&format!(
            "UPDATE subscriptions SET secret = '' WHERE id = {subscription}"
        ))
        .await?;
    let event = tenant.event("workflow.failed");
    let delivery = delivery_of(&tenant, &event, subscription)?;
    refuse_to_end(&home, &delivery).await?;
    tenant.publish(std::slice::from_ref(&event)).await?;
    until("the dispatcher to try", async || {
        let said = home.said().await;
        Ok(said.contains("could not end a delivery").then_some(()))
    })
    .await?;

    others_go_on(&home, &tenant, &of_others).await?;
    home.peers()?
        .sql("DROP TRIGGER refuse ON deliveries")
        .await?;
    let dead = until("the dead letter", async || {
        let dead = home.dead_letters().await?;
        Ok((!dead.is_empty()).then_some(dead))
    })
    .await?;
    is_the_only_one(&dead, &delivery)?;
    let path = format!("/deliveries/{delivery}");
    let told = tenant.client.get(&path).await?.expect(200)?.json;
    ensure!(
        told["status"] == "exhausted" && told["exhausted_reason"] == "poison",
        "{told}"
    );

    // Another dispatcher finds nothing more of it.
    home.stop(Part::Dispatcher).await?;
    home.start_part(Part::Dispatcher, &[]).await?;
    home.wait_ready().await?;
    let before = of_others.received().len();
    tenant.publish_one("workflow.started").await?;
    of_others.wait_for(before + 1).await?;
    is_the_only_one(&home.dead_letters().await?, &delivery)?;
    ensure!(receiver.received().is_empty(), "it was delivered");
    home.end().await
}

/// The row of this delivery cannot be changed; any other can.
async fn refuse_to_end(home: &Home, delivery: &DeliveryId) -> anyhow::Result<()> {
    let delivery = delivery.0.simple();
    let refuse = format!(
        "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS
         $$ BEGIN RAISE EXCEPTION 'this row stays'; END $$;
         CREATE TRIGGER refuse BEFORE UPDATE OF state ON deliveries FOR EACH ROW
         WHEN (OLD.id = '{delivery}') EXECUTE FUNCTION refuse()"
    );
    home.peers()?.sql(&refuse).await?;
    Ok(())
}

/// For as long as the fault lasts, deliveries of others are as quick as ever and nothing is put aside.
async fn others_go_on(
    home: &Home,
    tenant: &Tenant<'_>,
    of_others: &Receiver,
) -> anyhow::Result<()> {
    let began = Instant::now();
    let mut published = 0;
    while began.elapsed() < LASTS {
        let at = Instant::now();
        tenant.publish_one("workflow.started").await?;
        published += 1;
        of_others.wait_for(published).await?;
        let took = at.elapsed();
        ensure!(took < PROMPT, "a delivery of another took {took:?}");
        let dead = home.dead_letters().await?;
        ensure!(dead.is_empty(), "put aside too early: {dead:?}");
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
