//! A process is killed or frozen. Its successor soon delivers all that it had in hand.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use hookline_acceptance::sentences;
use hookline_acceptance::suite::Alone;
use hookline_testkit::deployment::{Home, Kind, Part};
use hookline_testkit::receiver::{Receiver, Reply};
use hookline_testkit::tenant::Tenant;
use hookline_testkit::waiting::until;
use serde_json::Value;

pub(crate) fn quiet() -> Vec<Alone> {
    sentences![what_a_killed_process_had_in_hand_is_delivered_soon_after_its_restart]
}

pub(crate) fn distributed() -> Vec<Alone> {
    sentences![
        a_frozen_dispatcher_holds_up_nothing_and_comes_back_by_itself,
        a_deleted_queue_is_noticed_and_mended,
    ]
}

const EVENTS: usize = 300;

/// How often a process is killed before it may do its work. A message that it had in hand twice is suspect.
const KILLS: usize = 3;

/// A subscription without messages is doubted after five seconds.
const NOTICED_WITHIN: Duration = Duration::from_secs(7);

/// A process delivers all that it had in hand within this time once it is ready again.
const SOON: Duration = Duration::from_secs(5);

async fn what_a_killed_process_had_in_hand_is_delivered_soon_after_its_restart(
    kind: Kind,
) -> anyhow::Result<()> {
    // With so few slots, most deliveries wait.
    let home = Home::start_with(kind, &[("HOOKLINE__DISPATCHER__SLOTS", "32")]).await?;
    let tenant = home.tenant().await?;
    // The embedded process is all of them at once.
    for part in [Part::Dispatcher, Part::Ingest, Part::Api] {
        killed(&tenant, part)
            .await
            .with_context(|| format!("{part:?}"))?;
    }
    home.end().await
}

async fn killed(tenant: &Tenant<'_>, part: Part) -> anyhow::Result<()> {
    let home = tenant.home;
    // Slow enough that the process is killed in the midst of a request. Fast enough that no delivery is deferred on a
    // busy machine.
    let slow = Arc::new(AtomicBool::new(true));
    let receiver = Receiver::that({
        let slow = Arc::clone(&slow);
        move |_, _| match slow.load(Ordering::Relaxed) {
            true => Reply::status(200).after(Duration::from_millis(250)),
            false => Reply::status(200),
        }
    })?;
    let subscription = tenant.subscribe(&receiver, &["workflow.failed"]).await?;
    let events: Vec<Value> = (0..EVENTS)
        .map(|_| tenant.event("workflow.failed"))
        .collect();
    let publishing = async {
        match part {
            // Whatever has no answer is published again.
            Part::Api => {
                for some in events.chunks(10) {
                    until("events to be accepted", async || {
                        let accepted = tenant.client.post("/events", &Value::from(some)).await;
                        Ok(accepted
                            .is_ok_and(|answer| answer.status == 202)
                            .then_some(()))
                    })
                    .await?;
                }
                anyhow::Ok(())
            }
            Part::Ingest | Part::Dispatcher => {
                let published = tenant.publish(&events).await;
                published.context("before the kill")
            }
        }
    };
    let killing = async {
        let mut before = EVENTS;
        for kill in 1..=KILLS {
            // It has begun, and goes on with what it had each time.
            if kill == 1 || part == Part::Dispatcher {
                receiver.wait_for(kill * EVENTS / 10).await?;
            }
            home.kill(part).await?;
            before = before.min(receiver.received().len());
            if kill == KILLS {
                slow.store(false, Ordering::Relaxed);
            }
            home.start_part(part, &[]).await?;
            home.wait_ready().await?;
        }
        anyhow::Ok((before, Instant::now()))
    };
    let ((), (before, ready)) = tokio::try_join!(publishing, killing)?;
    // The time of later events counts from their publish.
    let since = Instant::now();
    let ids = until("all deliveries", async || {
        let ids: HashSet<String> = receiver
            .received()
            .iter()
            .filter_map(|request| request.header("webhook-id").ok().map(str::to_owned))
            .collect();
        Ok((ids.len() == EVENTS).then_some(ids))
    })
    .await?;
    let took = match part {
        Part::Api => since.elapsed(),
        Part::Ingest | Part::Dispatcher => ready.elapsed(),
    };
    println!(
        "{:?}, {part:?}: {before} of {} before the first of {KILLS} kills, the rest {took:?} after readiness",
        home.kind,
        ids.len()
    );
    ensure!(before < EVENTS, "all were delivered before a kill");
    ensure!(took < SOON, "{took:?}");
    let path = format!("/webhooks/{subscription}");
    tenant.client.delete(&path).await?.expect(204)?;
    Ok(())
}

async fn a_frozen_dispatcher_holds_up_nothing_and_comes_back_by_itself(
    kind: Kind,
) -> anyhow::Result<()> {
    const SLOTS: usize = 8;
    let home = Home::prepare(kind, &[("HOOKLINE__DISPATCHER__SLOTS", "8")]).await?;
    let broker = home.peers()?.broker_with_heartbeat(1)?;
    for part in [Part::Dispatcher, Part::Api, Part::Ingest, Part::Dispatcher] {
        home.start_part(part, &[("HOOKLINE__BROKER__URL", &broker)])
            .await?;
    }
    home.wait_ready().await?;
    let tenant = home.tenant().await?;
    let receiver = Receiver::that(|_, _| Reply::status(200).after(Duration::from_millis(50)))?;
    let subscription = tenant.subscribe(&receiver, &["workflow.failed"]).await?;
    let events: Vec<Value> = (0..EVENTS)
        .map(|_| tenant.event("workflow.failed"))
        .collect();
    tenant.publish(&events).await?;
    receiver.wait_for(EVENTS / 10).await?;
    home.signal_oldest(Part::Dispatcher, "STOP").await?;
    let frozen = Instant::now();
    all_in_the_log(&tenant, subscription, EVENTS).await?;
    println!(
        "a dispatcher froze, and all was delivered after {:?}",
        frozen.elapsed()
    );

    home.signal_oldest(Part::Dispatcher, "CONT").await?;
    let thawed = Instant::now();
    home.wait_ready().await?;
    tenant.publish(&[tenant.event("workflow.failed")]).await?;
    all_in_the_log(&tenant, subscription, EVENTS + 1).await?;
    until("the dispatcher to connect again", async || {
        Ok(home
            .said()
            .await
            .contains("connected to the broker again")
            .then_some(()))
    })
    .await?;
    home.wait_ready().await?;
    println!("and was back {:?} after it went on", thawed.elapsed());
    let repeated = receiver.received().len() - (EVENTS + 1);
    // Requests in flight, and requests that were answered and not recorded yet, may come twice. The half of all events
    // that waited in the process may not.
    ensure!(repeated <= 4 * SLOTS, "{repeated} requests were made twice");
    home.end().await
}

async fn a_deleted_queue_is_noticed_and_mended(kind: Kind) -> anyhow::Result<()> {
    let home = Home::start(kind).await?;
    let tenant = home.tenant().await?;
    let receiver = Receiver::healthy()?;
    tenant.subscribe(&receiver, &["workflow.failed"]).await?;
    let (part, queue) = (Part::Ingest, "hookline.events");
    let taken_away = Instant::now();
    let keeping = home.peers()?.take_queue_away(queue).await?;
    until("ingest not to be ready", async || {
        Ok((home.readiness(part).await == 503).then_some(()))
    })
    .await?;
    let noticed = taken_away.elapsed();
    let given_back = Instant::now();
    keeping.close(200, "enough".into()).await?;
    home.wait_ready().await?;
    let mended = given_back.elapsed();
    println!("without {queue}: noticed after {noticed:?}, mended {mended:?} after it could be");
    ensure!(noticed < NOTICED_WITHIN && mended < SOON);
    tenant.publish_one("workflow.failed").await?;
    receiver.wait_for(1).await?;
    home.end().await
}

async fn all_in_the_log(
    tenant: &Tenant<'_>,
    subscription: i64,
    deliveries: usize,
) -> anyhow::Result<()> {
    let path = format!("/webhooks/{subscription}/logs?limit=1&status=success");
    until("every delivery in the log", async || {
        let page = tenant.client.get(&path).await?.expect(200)?;
        Ok((page.json["total"] == deliveries).then_some(()))
    })
    .await
}
