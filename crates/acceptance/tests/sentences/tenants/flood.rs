//! Who publishes far too much, and what that costs others.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use futures::future::try_join_all;
use hookline_acceptance::home::Kind;
use hookline_acceptance::publishing::Publisher;
use hookline_acceptance::receiver::Receiver;
use hookline_acceptance::soak::{Latencies, Rule};
use hookline_acceptance::tenant::Tenant;
use hookline_acceptance::waiting::until;
use lapin::BasicProperties;
use serde_json::{Value, json};
use tokio::time::{MissedTickBehavior, interval};

use super::{RATE, Waiting, distinct, limited, told_to_wait};

/// What the modest one publishes in a second.
const MODEST: u32 = 20;

/// How many times as much as it may the greedy one publishes.
const EXCESS: u32 = 50;

const LASTS: Duration = Duration::from_secs(8);

pub(super) async fn who_publishes_fifty_times_too_much_costs_others_nothing(
    kind: Kind,
) -> anyhow::Result<()> {
    let home = limited(kind).await?;
    let (greedy, modest) = (home.tenant().await?, home.tenant().await?);
    let (much, little) = (Receiver::healthy()?, Receiver::healthy()?);
    greedy.subscribe(&much, &["workflow.completed"]).await?;
    modest.subscribe(&little, &["workflow.completed"]).await?;
    // The first requests find connections unmade and caches empty.
    steadily(&modest, &little, Duration::from_secs(1)).await?;
    let without = steadily(&modest, &little, LASTS).await?;

    let begun = Instant::now();
    let (allowed, asked) = tokio::try_join!(
        steadily(&modest, &little, LASTS),
        pour(&greedy, Duration::from_secs(1))
    )?;
    let (with, taken) = tokio::try_join!(
        steadily(&modest, &little, LASTS),
        pour(&greedy, Duration::from_secs(1) / EXCESS)
    )?;
    println!("alone                       {without}");
    println!("beside what another may     {allowed}");
    println!("beside {EXCESS} times too much    {with}");
    for before in [&without, &allowed] {
        ensure!(Rule::Rough.holds(before, &with), "{before}; then {with}");
    }

    // It has what it may have, no more and no less.
    let taken = asked + taken;
    let came = distinct(&much)?;
    let may = RATE * (1 + usize::try_from(begun.elapsed().as_secs())? + 2);
    ensure!(came <= may, "{came} of {taken} came, and {may} may");
    match kind {
        Kind::Embedded => drop(much.wait_for(taken).await?),
        // The rest would come for minutes: it is all there.
        Kind::Distributed => {
            let waiting = until("every event delivered or waiting", async || {
                let waiting = Waiting::seen(&home.peers()?.amqp).await?;
                let all = distinct(&much)? + waiting.events >= taken;
                Ok(all.then_some(waiting))
            })
            .await?;
            println!("{waiting:?}");
            // A message for each would cost others what their publishing did once more.
            ensure!(10 * waiting.messages < waiting.events, "{waiting:?}");
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

/// As many as it may have in a second, so often; says how many were taken.
async fn pour(tenant: &Tenant<'_>, every: Duration) -> anyhow::Result<usize> {
    let publisher = match tenant.home.kind {
        Kind::Embedded => None,
        Kind::Distributed => Some(Publisher::connect(&tenant.home.peers()?.amqp).await?),
    };
    let mut ticks = interval(every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let begun = Instant::now();
    let mut taken = 0;
    while begun.elapsed() < LASTS {
        ticks.tick().await;
        let events: Vec<Value> = (0..RATE)
            .map(|_| tenant.event("workflow.completed"))
            .collect();
        match &publisher {
            None => {
                let answer = tenant.client.post("/events", &json!(events)).await?;
                match answer.status.as_u16() {
                    202 => taken += RATE,
                    _ => drop(told_to_wait(answer)?),
                }
            }
            Some(publisher) => {
                let bodies: Vec<String> = events.iter().map(Value::to_string).collect();
                let all = bodies.iter().map(|body| {
                    let json =
                        BasicProperties::default().with_content_type("application/json".into());
                    publisher.publish("workflow.completed", body.as_bytes(), json)
                });
                try_join_all(all).await?;
                taken += RATE;
            }
        }
    }
    Ok(taken)
}
