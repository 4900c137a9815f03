//! One organization cannot starve another, whatever it publishes.

use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use futures::future::try_join_all;
use hookline_acceptance::client::Answer;
use hookline_acceptance::home::{Home, Kind, Part};
use hookline_acceptance::receiver::Receiver;
use hookline_acceptance::sentences;
use hookline_acceptance::soak::{Latencies, Rule};
use hookline_acceptance::suite::Alone;
use hookline_acceptance::tenant::Tenant;
use hookline_acceptance::waiting::until;
use lapin::options::QueueDeclareOptions;
use lapin::types::FieldTable;
use lapin::{Connection, ConnectionProperties};
use serde_json::{Value, json};
use tokio::time::{MissedTickBehavior, interval};

pub(crate) fn alone() -> Vec<Alone> {
    sentences![
        who_publishes_fifty_times_too_much_costs_others_nothing,
        who_publishes_too_much_over_http_is_told_to_wait,
        who_has_filled_its_room_waits_alone,
    ]
}

pub(crate) fn distributed() -> Vec<Alone> {
    sentences![what_is_put_off_comes_although_ingest_dies]
}

/// What an organization may publish in a second, and at once.
const RATE: usize = 25;

/// What the modest one publishes in a second.
const MODEST: u32 = 20;

const LASTS: Duration = Duration::from_secs(8);

async fn limited(kind: Kind) -> anyhow::Result<Home> {
    let rate = RATE.to_string();
    let settings = [
        ("HOOKLINE__LIMITS__EVENTS_PER_SECOND", rate.as_str()),
        ("HOOKLINE__LIMITS__EVENTS_BURST", rate.as_str()),
    ];
    Home::start_with(kind, &settings).await
}

async fn who_publishes_fifty_times_too_much_costs_others_nothing(kind: Kind) -> anyhow::Result<()> {
    let home = limited(kind).await?;
    let (greedy, modest) = (home.tenant().await?, home.tenant().await?);
    let (much, little) = (Receiver::healthy()?, Receiver::healthy()?);
    greedy.subscribe(&much, &["workflow.completed"]).await?;
    modest.subscribe(&little, &["workflow.completed"]).await?;
    // The first requests find connections unmade and caches empty.
    steadily(&modest, &little, Duration::from_secs(1)).await?;
    let without = steadily(&modest, &little, LASTS).await?;

    let begun = Instant::now();
    let (with, taken) =
        tokio::try_join!(steadily(&modest, &little, LASTS), pour_without_end(&greedy))?;
    println!("without it {without}\nbeside it  {with}");
    ensure!(
        Rule::Rough.holds(&without, &with),
        "without it {without}; beside it {with}"
    );

    // It has what it may have, no more and no less.
    let came = distinct(&much)?;
    let may = RATE * (1 + usize::try_from(begun.elapsed().as_secs())? + 2);
    ensure!(came <= may, "{came} of {taken} came, and {may} may");
    match kind {
        Kind::Embedded => drop(much.wait_for(taken).await?),
        // The rest would come for minutes: it is all there.
        Kind::Distributed => {
            until("every event delivered or waiting", async || {
                let waiting = waiting(&home.peers()?.amqp).await?;
                Ok((distinct(&much)? + waiting >= taken).then_some(()))
            })
            .await?;
        }
    }
    home.end().await
}

/// The modest one's latencies: from when an event was to be published until it came.
async fn steadily(
    tenant: &Tenant<'_>,
    receiver: &Receiver,
    lasts: Duration,
) -> anyhow::Result<Latencies> {
    let before = receiver.received().len();
    let gap = Duration::from_secs(1) / MODEST;
    let mut ticks = interval(gap);
    let begun = ticks.tick().await;
    let mut intended = HashMap::new();
    for number in 0..MODEST * u32::try_from(lasts.as_secs())? {
        let at = begun + gap * number;
        let id = tenant.publish_one("workflow.completed").await?;
        intended.insert(id, at.into_std());
        ticks.tick().await;
    }
    let received = receiver.wait_for(before + intended.len()).await?;
    let mut latencies = Latencies::default();
    for request in &received[before..] {
        let body: Value = serde_json::from_slice(&request.body)?;
        let id = body["event_id"].as_str().context("an id")?;
        let at = intended.get(id).context("an event of this time")?;
        let latency = request.at.saturating_duration_since(*at);
        latencies.note(at.duration_since(begun.into_std()), latency);
    }
    ensure!(latencies.count() == intended.len());
    Ok(latencies)
}

/// Fifty times as many as it may; says how many were taken.
async fn pour_without_end(tenant: &Tenant<'_>) -> anyhow::Result<usize> {
    let mut ticks = interval(Duration::from_millis(20));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let begun = Instant::now();
    let mut taken = 0;
    while begun.elapsed() < LASTS {
        ticks.tick().await;
        let events: Vec<Value> = (0..RATE)
            .map(|_| tenant.event("workflow.completed"))
            .collect();
        match tenant.home.kind {
            Kind::Embedded => {
                let answer = tenant.client.post("/events", &json!(events)).await?;
                match answer.status.as_u16() {
                    202 => taken += RATE,
                    _ => drop(told_to_wait(answer)?),
                }
            }
            Kind::Distributed => {
                let all = events
                    .iter()
                    .map(|event| tenant.publish(std::slice::from_ref(event)));
                try_join_all(all).await?;
                taken += RATE;
            }
        }
    }
    Ok(taken)
}

fn told_to_wait(answer: Answer) -> anyhow::Result<u64> {
    let refused = answer.problem(429)?;
    Ok(refused.header("retry-after").parse()?)
}

/// How many events a receiver has seen.
fn distinct(receiver: &Receiver) -> anyhow::Result<usize> {
    let received = receiver.received();
    let ids = received.iter().map(|one| one.header("webhook-id"));
    Ok(ids.collect::<anyhow::Result<HashSet<_>>>()?.len())
}

/// How many messages wait among the published events and in the delays.
async fn waiting(amqp: &str) -> anyhow::Result<usize> {
    let connection = Connection::connect(amqp, ConnectionProperties::default()).await?;
    let channel = connection.create_channel().await?;
    let delays = (0..=16).map(|level| format!("hookline.delay.{level}"));
    let mut waiting = 0;
    for queue in delays.chain(["hookline.events".to_owned()]) {
        let passive = QueueDeclareOptions {
            passive: true,
            ..Default::default()
        };
        let declared = channel.queue_declare(queue.into(), passive, FieldTable::default());
        waiting += usize::try_from(declared.await?.message_count())?;
    }
    connection.close(200, "counted".into()).await?;
    Ok(waiting)
}

async fn who_publishes_too_much_over_http_is_told_to_wait(kind: Kind) -> anyhow::Result<()> {
    let home = limited(kind).await?;
    let (greedy, modest) = (home.tenant().await?, home.tenant().await?);
    let receiver = Receiver::healthy()?;
    greedy.subscribe(&receiver, &["workflow.completed"]).await?;
    let post = async |tenant: &Tenant<'_>, count: usize| {
        let events: Vec<Value> = (0..count)
            .map(|_| tenant.event("workflow.completed"))
            .collect();
        tenant.client.post("/events", &json!(events)).await
    };
    post(&greedy, RATE).await?.expect(202)?;
    let wait = told_to_wait(post(&greedy, RATE).await?)?;
    ensure!(wait == 1, "{wait} s");
    post(&modest, RATE).await?.expect(202)?;
    until("the end of the wait", async || {
        let answer = post(&greedy, RATE).await?;
        Ok((answer.status.as_u16() == 202).then_some(()))
    })
    .await?;
    // Of what was refused nothing was taken, and what was taken comes at once: it was counted.
    let received = receiver.wait_for(2 * RATE).await?;
    ensure!(received.len() == 2 * RATE, "{} came", received.len());
    let said = home.said().await;
    ensure!(!said.contains("put events off"), "it was counted twice");
    home.end().await
}

async fn who_has_filled_its_room_waits_alone(kind: Kind) -> anyhow::Result<()> {
    let home = Home::start_with(kind, &[("HOOKLINE__LIMITS__STORED_MIB", "1")]).await?;
    let (full, other) = (home.tenant().await?, home.tenant().await?);
    let (much, little) = (Receiver::healthy()?, Receiver::healthy()?);
    full.subscribe(&much, &["workflow.completed"]).await?;
    other.subscribe(&little, &["workflow.completed"]).await?;
    for _ in 0..5 {
        let mut event = full.event("workflow.completed");
        event["data"]["filler"] = "x".repeat(220 * 1024).into();
        full.publish(&[event]).await?;
    }
    much.wait_for(5).await?;
    match kind {
        Kind::Embedded => {
            let event = json!([full.event("workflow.completed")]);
            let wait = told_to_wait(full.client.post("/events", &event).await?)?;
            ensure!(wait == 60, "{wait} s");
        }
        Kind::Distributed => {
            // What ingest has seen of the store it believes for some seconds.
            until("an event to wait", async || {
                full.publish_one("workflow.completed").await?;
                let said = home.said().await;
                Ok(said
                    .contains("events wait: as much is stored")
                    .then_some(()))
            })
            .await?;
            let late = full.publish_one("workflow.completed").await?;
            until("it in the delays", async || {
                Ok((waiting(&home.peers()?.amqp).await? > 0).then_some(()))
            })
            .await?;
            let bodies = much.received().into_iter().map(|request| request.body);
            let came = bodies.filter(|body| {
                let body = String::from_utf8_lossy(body);
                body.contains(&late)
            });
            ensure!(came.count() == 0, "it came although there is no room");
        }
    }
    other.publish_one("workflow.completed").await?;
    little.wait_for(1).await?;
    home.end().await
}

async fn what_is_put_off_comes_although_ingest_dies(kind: Kind) -> anyhow::Result<()> {
    let home = limited(kind).await?;
    let tenant = home.tenant().await?;
    let receiver = Receiver::healthy()?;
    let id = tenant.subscribe(&receiver, &["workflow.completed"]).await?;
    let events: Vec<Value> = (0..5 * RATE)
        .map(|_| tenant.event("workflow.completed"))
        .collect();
    let begun = Instant::now();
    try_join_all(
        events
            .iter()
            .map(|event| tenant.publish(std::slice::from_ref(event))),
    )
    .await?;
    receiver.wait_for(RATE).await?;
    home.kill(Part::Ingest).await?;
    home.start_part(Part::Ingest, &[]).await?;
    receiver.wait_for(5 * RATE).await?;
    let took = begun.elapsed();
    ensure!(took > Duration::from_secs(2), "all came within {took:?}");
    let path = format!("/webhooks/{id}/logs?limit=1");
    until("every delivery in the log", async || {
        let page = tenant.client.get(&path).await?.expect(200)?;
        Ok((page.json["total"] == 5 * RATE).then_some(()))
    })
    .await?;
    ensure!(distinct(&receiver)? == 5 * RATE);
    home.end().await
}
