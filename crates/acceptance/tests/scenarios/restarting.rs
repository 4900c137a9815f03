//! A process is killed or frozen. Its successor soon delivers all that it had in hand.

use std::collections::HashSet;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use hookline_acceptance::scenarios;
use hookline_acceptance::suite::IsolatedScenario;
use hookline_testkit::deployment::{Deployment, Mode, Service};
use hookline_testkit::receiver::{Receiver, Reply};
use hookline_testkit::tenant::Tenant;
use hookline_testkit::waiting::until;
use serde_json::Value;

pub(crate) fn exclusive() -> Vec<IsolatedScenario> {
    scenarios![deliveries_of_a_killed_process_are_delivered_soon_after_its_restart]
}

pub(crate) fn distributed() -> Vec<IsolatedScenario> {
    scenarios![
        a_frozen_dispatcher_delays_no_other_and_recovers_by_itself,
        a_deleted_queue_is_noticed_and_redeclared,
    ]
}

const EVENTS: usize = 300;

/// How often a process is killed before it may do its work. A message that it had in hand twice is suspect.
const KILLS: usize = 3;

/// A subscription without messages is doubted after five seconds.
const NOTICED_WITHIN: Duration = Duration::from_secs(7);

/// A process delivers all that it had in hand within this time once it is ready again.
const RECOVERY_LIMIT: Duration = Duration::from_secs(5);

async fn deliveries_of_a_killed_process_are_delivered_soon_after_its_restart(
    mode: Mode,
) -> anyhow::Result<()> {
    // With so few slots, most deliveries wait.
    let deployment = Deployment::start_with(mode, &[("HOOKLINE__DISPATCHER__SLOTS", "32")]).await?;
    let tenant = deployment.tenant().await?;
    // The embedded process is all of them at once.
    for service in [Service::Dispatcher, Service::Ingest, Service::Api] {
        killed(&tenant, service)
            .await
            .with_context(|| format!("{service:?}"))?;
    }
    deployment.end().await
}

async fn killed(tenant: &Tenant<'_>, service: Service) -> anyhow::Result<()> {
    let deployment = tenant.deployment;
    // Slow enough that the process is killed in the midst of a request. Fast enough that no delivery is deferred on a
    // busy machine.
    let (receiver, is_well) =
        Receiver::until_well(Reply::status(200).after(Duration::from_millis(250)))?;
    let subscription = tenant.subscribe(&receiver, &["workflow.failed"]).await?;
    let events = tenant.events("workflow.failed", EVENTS);
    let publishing = async {
        match service {
            // Whatever has no answer is published again.
            Service::Api => {
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
            Service::Ingest | Service::Dispatcher => {
                let published = tenant.publish(&events).await;
                published.context("before the kill")
            }
        }
    };
    let killing = async {
        let mut before = EVENTS;
        for kill in 1..=KILLS {
            // It has begun, and goes on with what it had each time.
            if kill == 1 || service == Service::Dispatcher {
                receiver.wait_for(kill * EVENTS / 10).await?;
            }
            deployment.kill(service).await?;
            before = before.min(receiver.received().len());
            if kill == KILLS {
                is_well.store(true, Ordering::Relaxed);
            }
            deployment.start_service(service, &[]).await?;
            deployment.wait_ready().await?;
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
    let elapsed = match service {
        Service::Api => since.elapsed(),
        Service::Ingest | Service::Dispatcher => ready.elapsed(),
    };
    println!(
        "{:?}, {service:?}: {before} of {} before the first of {KILLS} kills, the rest {elapsed:?} after readiness",
        deployment.mode,
        ids.len()
    );
    ensure!(before < EVENTS, "all were delivered before a kill");
    ensure!(elapsed < RECOVERY_LIMIT, "{elapsed:?}");
    let path = format!("/webhooks/{subscription}");
    tenant.client.delete(&path).await?.expect(204)?;
    Ok(())
}

async fn a_frozen_dispatcher_delays_no_other_and_recovers_by_itself(
    mode: Mode,
) -> anyhow::Result<()> {
    const SLOTS: usize = 8;
    let deployment = Deployment::prepare(mode, &[("HOOKLINE__DISPATCHER__SLOTS", "8")]).await?;
    let broker = deployment.dependencies()?.broker_with_heartbeat(1)?;
    for service in [
        Service::Dispatcher,
        Service::Api,
        Service::Ingest,
        Service::Dispatcher,
    ] {
        deployment
            .start_service(service, &[("HOOKLINE__BROKER__URL", &broker)])
            .await?;
    }
    deployment.wait_ready().await?;
    let tenant = deployment.tenant().await?;
    let receiver = Receiver::with(|_, _| Reply::status(200).after(Duration::from_millis(50)))?;
    let subscription = tenant.subscribe(&receiver, &["workflow.failed"]).await?;
    let events = tenant.events("workflow.failed", EVENTS);
    tenant.publish(&events).await?;
    receiver.wait_for(EVENTS / 10).await?;
    deployment
        .signal_oldest(Service::Dispatcher, "STOP")
        .await?;
    let frozen = Instant::now();
    all_in_the_log(&tenant, subscription, EVENTS).await?;
    println!(
        "a dispatcher froze, and all was delivered after {:?}",
        frozen.elapsed()
    );

    deployment
        .signal_oldest(Service::Dispatcher, "CONT")
        .await?;
    let thawed = Instant::now();
    deployment.wait_ready().await?;
    tenant.publish(&[tenant.event("workflow.failed")]).await?;
    all_in_the_log(&tenant, subscription, EVENTS + 1).await?;
    until("the dispatcher to connect again", async || {
        Ok(deployment
            .output()
            .await
            .contains("connected to the broker again")
            .then_some(()))
    })
    .await?;
    deployment.wait_ready().await?;
    println!("and was back {:?} after it went on", thawed.elapsed());
    let repeated = receiver.received().len() - (EVENTS + 1);
    // Requests in flight, and requests that were answered and not recorded yet, may come twice. The half of all events
    // that waited in the process may not.
    ensure!(repeated <= 4 * SLOTS, "{repeated} requests were made twice");
    deployment.end().await
}

async fn a_deleted_queue_is_noticed_and_redeclared(mode: Mode) -> anyhow::Result<()> {
    let deployment = Deployment::start(mode).await?;
    let tenant = deployment.tenant().await?;
    let receiver = Receiver::healthy()?;
    tenant.subscribe(&receiver, &["workflow.failed"]).await?;
    let (service, queue) = (Service::Ingest, "hookline.events");
    let taken_away = Instant::now();
    let keeping = deployment.dependencies()?.take_queue_away(queue).await?;
    until("ingest not to be ready", async || {
        Ok((deployment.readiness(service).await == 503).then_some(()))
    })
    .await?;
    let noticed = taken_away.elapsed();
    let given_back = Instant::now();
    keeping.close(200, "enough".into()).await?;
    deployment.wait_ready().await?;
    let recovered = given_back.elapsed();
    println!("without {queue}: noticed after {noticed:?}, mended {recovered:?} after it could be");
    ensure!(noticed < NOTICED_WITHIN && recovered < RECOVERY_LIMIT);
    tenant.publish_one("workflow.failed").await?;
    receiver.wait_for(1).await?;
    deployment.end().await
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
