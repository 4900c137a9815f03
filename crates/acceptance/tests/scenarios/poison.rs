//! Poison messages: a message that ends a process each time does not end it for ever, and takes no other message along.

use std::cell::Cell;
use std::collections::{HashMap, HashSet};
use std::sync::atomic::Ordering;

use anyhow::{Context as _, ensure};
use hookline_acceptance::scenarios;
use hookline_acceptance::suite::IsolatedScenario;
use hookline_core::ids::{DeliveryId, EventId, OrganizationId, SubscriptionId};
use hookline_testkit::deployment::{Deployment, Mode, Service};
use hookline_testkit::receiver::Receiver;
use hookline_testkit::tenant::Tenant;
use hookline_testkit::waiting::until;
use lapin::BasicProperties;
use serde_json::Value;

pub(crate) fn isolated() -> Vec<IsolatedScenario> {
    scenarios![
        only_messages_that_kill_the_process_become_dead_letters,
        a_backlog_with_a_delivery_that_ends_the_process_is_delivered_without_it,
    ]
}

const OTHERS: usize = 50;

/// Twice with its neighbours, and this many times under suspicion.
const CHARGES: usize = 3;

/// How often messages may end a process here: two messages, and perhaps the second in two copies.
const DEATHS: usize = 3 * (2 + CHARGES);

async fn only_messages_that_kill_the_process_become_dead_letters(mode: Mode) -> anyhow::Result<()> {
    let charges = CHARGES.to_string();
    let limit = [("HOOKLINE__POISON__GIVE_UP_AFTER", charges.as_str())];
    let deployment = Deployment::start_with(mode, &limit).await?;
    let tenant = deployment.tenant().await?;
    let receiver = Receiver::healthy()?;
    let subscription = tenant.subscribe(&receiver, &["workflow.failed"]).await?;
    let events: Vec<Value> = (0..=OTHERS)
        .map(|_| tenant.event("workflow.failed"))
        .collect();
    let bad_event = tenant.event("workflow.failed");
    let bad_delivery = delivery_of(&tenant, &events[OTHERS / 2], subscription)?;
    let bad_event_id = bad_event["event_id"].as_str().context("an id")?.to_owned();

    let points =
        format!("dispatcher::attempt::{bad_delivery}=return;ingest::read::{bad_event_id}=return");
    let armed = [("FAILPOINTS", points.as_str())];
    for service in deployment.services() {
        deployment.stop(service).await?;
        deployment.start_service(service, &armed).await?;
    }
    deployment.wait_ready().await?;
    let deaths = Cell::new(0);
    let supervise = async || -> anyhow::Result<()> {
        deaths.set(deaths.get() + deployment.restart_ended(&armed).await?);
        Ok(())
    };
    for published in [&events[..], &[bad_event][..]] {
        until("the events to be taken", async || {
            supervise().await?;
            // The process may die of them before it has answered. They are the same events again.
            Ok(tenant.publish(published).await.ok())
        })
        .await?;
    }
    let dead = until("both to be dead letters", async || {
        supervise().await?;
        if receiver.received().len() < OTHERS {
            return Ok(None);
        }
        let dead = deployment.dead_letters().await?;
        let has = |kind: &str| dead.iter().any(|letter| letter["kind"] == kind);
        Ok((has("event") && has("delivery")).then_some(dead))
    });
    let dead = match dead.await {
        Ok(dead) => dead,
        Err(why) => return Err(why.context(deployment.output().await)),
    };

    // From now on nothing dies of them, and nothing else is missing or dead.
    deployment.wait_ready().await?;
    tenant.publish_one("workflow.failed").await?;
    let times = until("all the others", async || {
        let mut times: HashMap<String, usize> = HashMap::new();
        for request in receiver.received() {
            let id = request.header("webhook-id")?.to_owned();
            *times.entry(id).or_default() += 1;
        }
        Ok((times.len() > OTHERS).then_some(times))
    })
    .await?;
    ensure!(
        deployment.restart_ended(&armed).await? == 0,
        "it died once more"
    );
    let most = times.values().max().copied().unwrap_or_default();
    // In two lives before it was suspect, on trial with others twice, and once more for the other poison.
    ensure!(most <= 5, "one was made {most} times");
    ensure!(!times.contains_key(&bad_delivery.to_string()));
    let deaths = deaths.get();
    ensure!((5..=DEATHS).contains(&deaths), "{deaths} deaths");
    for letter in &dead {
        let reason = format!("the process ended {CHARGES} times while it was handled");
        ensure!(letter["reason"] == reason, "{letter}");
        let about = match letter["kind"].as_str() {
            Some("event") => letter["event_id"] == bad_event_id,
            _ => letter["id"] == bad_delivery.to_string(),
        };
        ensure!(about, "another one is dead: {letter}");
    }
    let path = format!("/deliveries/{bad_delivery}");
    let shown = tenant.client.get(&path).await?.expect(200)?.json;
    ensure!(
        shown["status"] == "exhausted" && shown["exhausted_reason"] == "poison",
        "{shown}"
    );

    look_closer(&deployment, &dead, &bad_delivery.to_string()).await?;
    // The fault is mended.
    for service in deployment.services() {
        deployment.stop(service).await?;
        deployment.start_service(service, &[]).await?;
    }
    deployment.wait_ready().await?;
    put_back(&deployment, &dead, &receiver, &bad_delivery.to_string()).await?;
    if mode == Mode::Distributed {
        hostile(&deployment).await?;
    }
    deployment.end().await
}

async fn a_backlog_with_a_delivery_that_ends_the_process_is_delivered_without_it(
    mode: Mode,
) -> anyhow::Result<()> {
    let charges = CHARGES.to_string();
    let settings = [
        ("HOOKLINE__POISON__GIVE_UP_AFTER", charges.as_str()),
        ("HOOKLINE__DISPATCHER__BREAKER_FAILURES", "1"),
        (
            "HOOKLINE__RETRY__SCHEDULE_SECONDS",
            "[1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1]",
        ),
    ];
    let deployment = Deployment::start_with(mode, &settings).await?;
    let tenant = deployment.tenant().await?;
    let (receiver, is_well) = Receiver::refusing()?;
    let subscription = tenant.subscribe(&receiver, &["workflow.failed"]).await?;
    tenant.publish_one("workflow.failed").await?;
    tenant.client.wait_for_log(subscription, 1).await?;
    let events = tenant.events("workflow.failed", OTHERS);
    tenant.publish(&events).await?;
    let bad = delivery_of(&tenant, &events[OTHERS / 2], subscription)?;
    let path = format!("/deliveries/{bad}");
    until("the delivery in the backlog", async || {
        let shown = tenant.client.get(&path).await?;
        Ok((shown.status == 200 && shown.json["waiting_for"] == "breaker").then_some(()))
    })
    .await?;

    let points = format!("dispatcher::attempt::{bad}=return");
    let armed = [("FAILPOINTS", points.as_str())];
    deployment.stop(Service::Dispatcher).await?;
    is_well.store(true, Ordering::Relaxed);
    deployment
        .start_service(Service::Dispatcher, &armed)
        .await?;
    let mut deaths = 0;
    let dead = until("the delivery to be a dead letter", async || {
        deaths += deployment.restart_ended(&armed).await?;
        Ok(deployment
            .dead_letters()
            .await
            .ok()
            .filter(|dead| !dead.is_empty()))
    })
    .await?;
    println!("{mode:?}: a delivery in the backlog was dead-lettered after {deaths} deaths");
    // Twice before it was suspect, then with the others of its trials.
    ensure!((CHARGES..=2 + CHARGES).contains(&deaths), "{deaths} deaths");
    ensure!(
        dead.len() == 1 && dead[0]["id"] == bad.to_string(),
        "{dead:?}"
    );
    let shown = tenant.client.get(&path).await?.expect(200)?.json;
    ensure!(
        shown["status"] == "exhausted" && shown["exhausted_reason"] == "poison",
        "{shown}"
    );
    let path = format!("/webhooks/{subscription}/deliveries?status=delivered&limit=1");
    until("the rest of the backlog", async || {
        let page = tenant.client.get(&path).await?.expect(200)?.json;
        Ok((page["total"] == OTHERS).then_some(()))
    })
    .await?;
    ensure!(
        deployment.restart_ended(&armed).await? == 0,
        "it died once more"
    );
    let ids: HashSet<String> = receiver
        .received()
        .iter()
        .filter_map(|request| request.header("webhook-id").ok().map(str::to_owned))
        .collect();
    ensure!(ids.len() == OTHERS && !ids.contains(&bad.to_string()));
    deployment.end().await
}

/// The delivery of one of the tenant's events to a subscription.
pub(crate) fn delivery_of(
    tenant: &Tenant<'_>,
    event: &Value,
    to: i64,
) -> anyhow::Result<DeliveryId> {
    let event = EventId::parse(event["event_id"].as_str().context("an id")?)?;
    let owner = OrganizationId::parse(&tenant.organization)?;
    Ok(DeliveryId::of(&owner, &event, SubscriptionId(to)))
}

fn id_of<'a>(dead: &'a [Value], kind: &str) -> anyhow::Result<&'a str> {
    let letter = dead.iter().find(|letter| letter["kind"] == kind);
    letter
        .and_then(|letter| letter["id"].as_str())
        .with_context(|| format!("no dead {kind}"))
}

async fn look_closer(
    deployment: &Deployment,
    dead: &[Value],
    delivery: &str,
) -> anyhow::Result<()> {
    let event = id_of(dead, "event")?;
    let shown = deployment
        .hookline(&["dead-letters", "show", event])
        .await?;
    ensure!(shown.contains("\"workflow_id\":\"wf_1\""), "{shown}");
    let shown = deployment
        .hookline(&["dead-letters", "show", id_of(dead, "delivery")?])
        .await?;
    ensure!(shown.contains(delivery), "{shown}");
    ensure!(shown.contains("store: state: exhausted"), "{shown}");
    for wrong in [
        &["dead-letters", "show", "nobody"][..],
        &["dead-letters", "drop", "nobody"],
        &["dead-letters", "redrive", "nobody"],
    ] {
        let why = deployment
            .hookline(wrong)
            .await
            .err()
            .context("it is there")?;
        ensure!(
            why.to_string().contains("there is no dead letter nobody"),
            "{why}"
        );
    }
    let why = deployment
        .hookline(&["dead-letters", "drop", "--all"])
        .await
        .err();
    let why = why.context("it dropped all")?.to_string();
    ensure!(why.contains("--yes"), "{why}");
    let listed = deployment
        .hookline(&["dead-letters", "list", "--kind", "event"])
        .await?;
    ensure!(
        listed.contains(event) && !listed.contains(delivery),
        "{listed}"
    );
    Ok(())
}

async fn put_back(
    deployment: &Deployment,
    dead: &[Value],
    receiver: &Receiver,
    delivery: &str,
) -> anyhow::Result<()> {
    let before = receiver.received().len();
    let id = id_of(dead, "delivery")?;
    deployment
        .hookline(&["dead-letters", "redrive", id])
        .await?;
    // Others may be repeated: not every attempt was recorded when the process died for the last time.
    let request = until("the delivery that was dead", async || {
        let mut received = receiver.received().into_iter();
        Ok(received.find(|one| one.header("webhook-id").is_ok_and(|id| id == delivery)))
    })
    .await?;
    ensure!(request.header("x-webhook-attempt")? == "1");
    deployment
        .hookline(&["dead-letters", "redrive", "--all"])
        .await?;
    receiver.wait_for(before + 2).await?;
    ensure!(deployment.dead_letters().await?.is_empty());
    Ok(())
}

/// A message that is no event, and has escape sequences that would steer a terminal.
async fn hostile(deployment: &Deployment) -> anyhow::Result<()> {
    let properties = BasicProperties::default()
        .with_content_type("text/\u{1b}]0;owned\u{7}".into())
        .with_message_id("\u{1b}[2J".into());
    deployment
        .publish_amqp("workflow.failed", b"\x1b[31m\xff", properties)
        .await?;
    let letter = async || {
        until("the dead letter", async || {
            Ok(deployment.dead_letters().await?.pop())
        })
        .await
    };
    let id = letter().await?["id"].as_str().context("an id")?.to_owned();
    // `dead` is the old name of the command.
    let listed = deployment.hookline(&["dead", "list"]).await?;
    let shown = deployment.hookline(&["dead-letters", "show", &id]).await? + &listed;
    ensure!(!shown.contains(['\u{1b}', '\u{7}']), "{shown:?}");
    ensure!(shown.contains("1b5b33316dff"), "{shown}");
    let output = deployment
        .hookline(&["dead-letters", "redrive", &id])
        .await?;
    ensure!(
        output.contains("if it is still not valid, it is rejected again"),
        "{output}"
    );
    let id = letter().await?["id"].as_str().context("an id")?.to_owned();
    deployment.hookline(&["dead-letters", "drop", &id]).await?;
    ensure!(deployment.dead_letters().await?.is_empty());
    let output = deployment
        .hookline(&["dead-letters", "drop", "--all", "--yes"])
        .await?;
    ensure!(output == "there are no dead letters\n", "{output}");
    let metrics = format!("{}/metrics", deployment.admin(Service::Dispatcher).await?);
    let metrics = hookline_testkit::http::get(metrics).await?.text().await?;
    ensure!(
        metrics.contains("hookline_dead_letters_waiting"),
        "{metrics}"
    );
    Ok(())
}
