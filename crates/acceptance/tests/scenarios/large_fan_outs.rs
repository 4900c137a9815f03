//! Large fan-outs: work is bounded by the deliveries that it makes. A large fan-out neither repeats itself nor holds up
//! another organization. An event that the store does not take holds up no other.

use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use futures::future::try_join_all;
use hookline_acceptance::sentences;
use hookline_acceptance::suite::Alone;
use hookline_testkit::deployment::{Home, Kind, Part};
use hookline_testkit::receiver::{Receiver, Reply};
use hookline_testkit::tenant::Tenant;
use hookline_testkit::waiting::until;
use lapin::options::QueueDeclareOptions;
use lapin::types::FieldTable;
use lapin::{Connection, ConnectionProperties};
use serde_json::{Value, json};

pub(crate) fn alone() -> Vec<Alone> {
    sentences![a_large_fan_out_holds_up_no_other_organization]
}

pub(crate) fn distributed() -> Vec<Alone> {
    sentences![
        each_delivery_of_a_large_fan_out_is_made_once,
        an_event_that_the_store_does_not_take_is_held_and_holds_up_no_other,
    ]
}

const SUBSCRIPTIONS: usize = 100;

/// An organization with so many subscriptions.
async fn large<'a>(home: &'a Home, receiver: &Receiver) -> anyhow::Result<Tenant<'a>> {
    let tenant = home.tenant().await?;
    for _ in 0..SUBSCRIPTIONS / 4 {
        // A few at a time: this is no trial of the API.
        let subscribing = (0..4).map(|_| tenant.subscribe(receiver, &["workflow.failed"]));
        try_join_all(subscribing).await?;
    }
    Ok(tenant)
}

fn events(tenant: &Tenant<'_>, count: usize) -> Value {
    let events = (0..count).map(|_| tenant.event("workflow.failed"));
    events.collect()
}

async fn a_large_fan_out_holds_up_no_other_organization(kind: Kind) -> anyhow::Result<()> {
    const EVENTS: usize = 400;
    const DELIVERIES: usize = EVENTS * SUBSCRIPTIONS;
    /// Alone it takes some milliseconds. A busy machine with a debug build is given more.
    const PATIENCE: Duration = Duration::from_secs(3);

    let home = Home::start(kind).await?;
    let receiver = Receiver::healthy()?;
    let (large, other) = (large(&home, &receiver).await?, home.tenant().await?);
    let prompt = Receiver::healthy()?;
    other.subscribe(&prompt, &["workflow.completed"]).await?;

    let begun = Instant::now();
    let published = large
        .client
        .post("/events", &events(&large, EVENTS))
        .await?;
    published.expect(202)?;
    let took = begun.elapsed();
    ensure!(took < PATIENCE, "it was accepted after {took:?}");

    // Five events of another organization, one after another, while a small part of the fan-out is
    // delivered: as many seconds as that takes here, in the order of a queue they would come last.
    for number in 1..=5 {
        let event = json!([other.event("workflow.completed")]);
        other.client.post("/events", &event).await?.expect(202)?;
        prompt.wait_for(number).await?;
    }
    let delivered = receiver.received().len();
    ensure!(
        delivered < DELIVERIES / 4,
        "another organization waited for {delivered} deliveries"
    );
    home.end().await
}

async fn each_delivery_of_a_large_fan_out_is_made_once(kind: Kind) -> anyhow::Result<()> {
    // Fewer deliveries than a dispatcher has in hand at once: none is put off on a busy machine.
    const EVENTS: usize = 5;
    let home = Home::start(kind).await?;
    let receiver = Receiver::healthy()?;
    let large = large(&home, &receiver).await?;
    home.stop(Part::Dispatcher).await?;
    let published = large
        .client
        .post("/events", &events(&large, EVENTS))
        .await?;
    published.expect(202)?;

    let deliveries = EVENTS * SUBSCRIPTIONS;
    until("every delivery to be stored", async || {
        let stored = home.peers()?.sql("SELECT count(*) FROM deliveries").await?;
        Ok((stored == deliveries.to_string()).then_some(()))
    })
    .await?;
    // The event is acked when all of it is stored: ingest has nothing in hand at its end.
    home.stop(Part::Ingest).await?;
    ensure!(
        waiting(&home, "hookline.events").await? == 0,
        "it came back"
    );
    home.start_part(Part::Ingest, &[]).await?;
    home.start_part(Part::Dispatcher, &[]).await?;
    receiver.wait_for(deliveries).await?;
    until("every delivery to be recorded", async || {
        let sql = "SELECT count(*) FROM deliveries WHERE state = 'delivered'";
        Ok((home.peers()?.sql(sql).await? == deliveries.to_string()).then_some(()))
    })
    .await?;
    let requests = receiver.received().len();
    ensure!(
        requests == deliveries,
        "{requests} requests for {deliveries} deliveries"
    );
    home.end().await
}

/// How many messages wait in a queue.
async fn waiting(home: &Home, queue: &str) -> anyhow::Result<usize> {
    let url = &home.peers()?.amqp;
    let connection = Connection::connect(url, ConnectionProperties::default()).await?;
    let channel = connection.create_channel().await?;
    let passive = QueueDeclareOptions {
        passive: true,
        ..Default::default()
    };
    let declared = channel.queue_declare(queue.into(), passive, FieldTable::default());
    let count = declared.await?.message_count();
    connection.close(200, "done".into()).await?;
    Ok(usize::try_from(count)?)
}

async fn an_event_that_the_store_does_not_take_is_held_and_holds_up_no_other(
    kind: Kind,
) -> anyhow::Result<()> {
    const OTHERS: usize = 40;
    let home = Home::start(kind).await?;
    let tenant = home.tenant().await?;
    let receiver = Receiver::that(|_, _| Reply::status(200))?;
    tenant.subscribe(&receiver, &["workflow.failed"]).await?;
    let mut events: Vec<Value> = (0..=OTHERS)
        .map(|_| tenant.event("workflow.failed"))
        .collect();
    let held = events[OTHERS / 2]["event_id"].as_str().context("an id")?;
    home.peers()?
        .sql(&format!(
            "CREATE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS
             $$ BEGIN RAISE EXCEPTION 'the row is locked'; END $$;
             CREATE TRIGGER fail BEFORE INSERT ON events FOR EACH ROW
             WHEN (NEW.event_id = '{held}') EXECUTE FUNCTION fail()"
        ))
        .await?;
    // In one message, so that they share their first transaction.
    let published = tenant.client.post("/events", &json!(events)).await?;
    published.expect(202)?;
    receiver.wait_for(OTHERS).await?;

    // Others go on, and it is neither lost nor put aside.
    events = vec![tenant.event("workflow.failed")];
    tenant.publish(&events).await?;
    receiver.wait_for(OTHERS + 1).await?;
    ensure!(waiting(&home, "hookline.events.rejected").await? == 0);
    home.peers()?.sql("DROP TRIGGER fail ON events").await?;
    receiver.wait_for(OTHERS + 2).await?;
    home.end().await
}
