//! Large fan-outs: work is bounded by the deliveries that it makes. A large fan-out neither repeats itself nor holds up
//! another organization. An event that the store does not take holds up no other.

use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use futures::future::try_join_all;
use hookline_acceptance::scenarios;
use hookline_acceptance::suite::IsolatedScenario;
use hookline_testkit::deployment::{Deployment, Mode, Service};
use hookline_testkit::receiver::{Receiver, Reply};
use hookline_testkit::tenant::Tenant;
use hookline_testkit::waiting::until;
use lapin::options::QueueDeclareOptions;
use lapin::types::FieldTable;
use lapin::{Connection, ConnectionProperties};
use serde_json::{Value, json};

pub(crate) fn isolated() -> Vec<IsolatedScenario> {
    scenarios![a_large_fan_out_delays_no_other_organization]
}

pub(crate) fn distributed() -> Vec<IsolatedScenario> {
    scenarios![
        each_delivery_of_a_large_fan_out_is_made_once,
        an_event_that_the_store_rejects_is_held_and_delays_no_other,
    ]
}

const SUBSCRIPTIONS: usize = 100;

/// An organization with so many subscriptions.
async fn large<'a>(deployment: &'a Deployment, receiver: &Receiver) -> anyhow::Result<Tenant<'a>> {
    let tenant = deployment.tenant().await?;
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

async fn a_large_fan_out_delays_no_other_organization(mode: Mode) -> anyhow::Result<()> {
    const EVENTS: usize = 400;
    const DELIVERIES: usize = EVENTS * SUBSCRIPTIONS;
    /// Alone it takes some milliseconds. A busy machine with a debug build is given more.
    const PATIENCE: Duration = Duration::from_secs(3);

    let deployment = Deployment::start(mode).await?;
    let receiver = Receiver::healthy()?;
    let (large, other) = (
        large(&deployment, &receiver).await?,
        deployment.tenant().await?,
    );
    let prompt = Receiver::healthy()?;
    other.subscribe(&prompt, &["workflow.completed"]).await?;

    let begun = Instant::now();
    let published = large
        .client
        .post("/events", &events(&large, EVENTS))
        .await?;
    published.expect(202)?;
    let elapsed = begun.elapsed();
    ensure!(elapsed < PATIENCE, "it was accepted after {elapsed:?}");

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
    deployment.end().await
}

async fn each_delivery_of_a_large_fan_out_is_made_once(mode: Mode) -> anyhow::Result<()> {
    // Fewer deliveries than a dispatcher has in hand at once: none is put off on a busy machine.
    const EVENTS: usize = 5;
    let deployment = Deployment::start(mode).await?;
    let receiver = Receiver::healthy()?;
    let large = large(&deployment, &receiver).await?;
    deployment.stop(Service::Dispatcher).await?;
    let published = large
        .client
        .post("/events", &events(&large, EVENTS))
        .await?;
    published.expect(202)?;

    let deliveries = EVENTS * SUBSCRIPTIONS;
    until("every delivery to be stored", async || {
        let stored = deployment
            .dependencies()?
            .sql("SELECT count(*) FROM deliveries")
            .await?;
        Ok((stored == deliveries.to_string()).then_some(()))
    })
    .await?;
    // The event is acked when all of it is stored: ingest has nothing in hand at its end.
    deployment.stop(Service::Ingest).await?;
    ensure!(
        waiting(&deployment, "hookline.events").await? == 0,
        "it came back"
    );
    deployment.start_service(Service::Ingest, &[]).await?;
    deployment.start_service(Service::Dispatcher, &[]).await?;
    receiver.wait_for(deliveries).await?;
    until("every delivery to be recorded", async || {
        let sql = "SELECT count(*) FROM deliveries WHERE state = 'delivered'";
        Ok((deployment.dependencies()?.sql(sql).await? == deliveries.to_string()).then_some(()))
    })
    .await?;
    let requests = receiver.received().len();
    ensure!(
        requests == deliveries,
        "{requests} requests for {deliveries} deliveries"
    );
    deployment.end().await
}

/// How many messages wait in a queue.
async fn waiting(deployment: &Deployment, queue: &str) -> anyhow::Result<usize> {
    let url = &deployment.dependencies()?.amqp;
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

async fn an_event_that_the_store_rejects_is_held_and_delays_no_other(
    mode: Mode,
) -> anyhow::Result<()> {
    const OTHERS: usize = 40;
    let deployment = Deployment::start(mode).await?;
    let tenant = deployment.tenant().await?;
    let receiver = Receiver::with(|_, _| Reply::status(200))?;
    tenant.subscribe(&receiver, &["workflow.failed"]).await?;
    let mut events: Vec<Value> = (0..=OTHERS)
        .map(|_| tenant.event("workflow.failed"))
        .collect();
    let held = events[OTHERS / 2]["event_id"].as_str().context("an id")?;
    deployment
        .dependencies()?
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

    // Others go on, and it is neither lost nor dead-lettered.
    events = vec![tenant.event("workflow.failed")];
    tenant.publish(&events).await?;
    receiver.wait_for(OTHERS + 1).await?;
    ensure!(waiting(&deployment, "hookline.events.rejected").await? == 0);
    deployment
        .dependencies()?
        .sql("DROP TRIGGER fail ON events")
        .await?;
    receiver.wait_for(OTHERS + 2).await?;
    deployment.end().await
}
