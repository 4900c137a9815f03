//! Graceful shutdown on SIGTERM: work in flight is finished, the rest is requeued, and nothing is done twice because of
//! it.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use hookline_acceptance::scenarios;
use hookline_acceptance::suite::IsolatedScenario;
use hookline_testkit::deployment::{Deployment, Mode, Service};
use hookline_testkit::proxy::Link;
use hookline_testkit::receiver::{Receiver, Reply};
use hookline_testkit::tenant::Tenant;
use hookline_testkit::waiting::until;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

pub(crate) fn isolated() -> Vec<IsolatedScenario> {
    scenarios![
        restarts_under_load_lose_nothing_and_repeat_nothing,
        a_hanging_receiver_does_not_delay_the_shutdown,
        a_shutdown_answers_requests_in_progress_and_refuses_new_ones,
    ]
}

pub(crate) fn distributed() -> Vec<IsolatedScenario> {
    scenarios![services_stop_in_time_while_their_dependencies_are_silent]
}

/// How many events are published at once, and how often: 200 a second.
const AT_ONCE: usize = 10;
const EVERY: Duration = Duration::from_millis(50);

async fn restarts_under_load_lose_nothing_and_repeat_nothing(mode: Mode) -> anyhow::Result<()> {
    const ROUNDS: usize = 3;
    let deployment = Deployment::start(mode).await?;
    if mode == Mode::Distributed {
        deployment.start_service(Service::Dispatcher, &[]).await?;
        deployment.start_service(Service::Ingest, &[]).await?;
        deployment.wait_ready().await?;
    }
    let tenant = deployment.tenant().await?;
    let receiver = Receiver::with(|request, _| {
        let refused = request.body.len() % 5 == 0
            && request.header("x-webhook-attempt").is_ok_and(|n| n == "1");
        Reply::status(if refused { 500 } else { 200 }).after(Duration::from_millis(100))
    })?;
    let subscription = tenant.subscribe(&receiver, &["workflow.failed"]).await?;

    let over = AtomicBool::new(false);
    let restarting = async {
        let mut longest = Duration::ZERO;
        for round in 0..ROUNDS {
            receiver.wait_for((round + 1) * 100).await?;
            match mode {
                Mode::Standalone => {
                    longest = longest.max(deployment.stop_oldest(Service::Dispatcher).await?);
                    deployment.start_service(Service::Dispatcher, &[]).await?;
                    deployment.wait_ready().await?;
                }
                Mode::Distributed => {
                    for service in [Service::Dispatcher, Service::Ingest, Service::Dispatcher] {
                        deployment.start_service(service, &[]).await?;
                        deployment.wait_ready().await?;
                        longest = longest.max(deployment.stop_oldest(service).await?);
                    }
                }
            }
        }
        over.store(true, Ordering::Relaxed);
        anyhow::Ok(longest)
    };
    let (published, longest) = tokio::try_join!(publish_until(&tenant, &over), restarting)?;
    println!("{mode:?}: {published} events, the longest stop took {longest:?}");
    ensure!(longest < Duration::from_secs(5), "a stop took {longest:?}");
    all_succeeded(&tenant, subscription, published).await?;
    let attempts = attempts(&receiver)?;
    ensure!(
        attempts.len() == published,
        "{} deliveries of {published}",
        attempts.len()
    );
    for (id, made) in attempts {
        let expected: Vec<u64> = (1..).take(made.len()).collect();
        ensure!(made == expected, "{id}: {made:?}");
    }
    deployment.end().await
}

/// Publishes as a workflow service does: what was not accepted, again.
async fn publish_until(tenant: &Tenant<'_>, over: &AtomicBool) -> anyhow::Result<usize> {
    let mut ticks = tokio::time::interval(EVERY);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut published = 0;
    while !over.load(Ordering::Relaxed) {
        ticks.tick().await;
        let events: Vec<Value> = (0..AT_ONCE)
            .map(|number| {
                let mut event = tenant.event("workflow.failed");
                event["data"] = json!({"padding": "x".repeat(number)});
                event
            })
            .collect();
        until("events to be accepted", async || {
            Ok(tenant.publish(&events).await.ok())
        })
        .await?;
        published += AT_ONCE;
    }
    Ok(published)
}

async fn all_succeeded(
    tenant: &Tenant<'_>,
    subscription: i64,
    deliveries: usize,
) -> anyhow::Result<()> {
    let path = format!("/webhooks/{subscription}/logs?limit=1&status=success");
    until("every delivery in the log", async || {
        let page = tenant.client.get(&path).await?.expect(200)?;
        let total = page.json["total"].as_u64().context("a total")?;
        ensure!(total <= deliveries as u64, "{total} successes");
        Ok((total == deliveries as u64).then_some(()))
    })
    .await
}

/// The numbers of the attempts that a receiver saw, by delivery and in order.
fn attempts(receiver: &Receiver) -> anyhow::Result<HashMap<String, Vec<u64>>> {
    let mut attempts: HashMap<String, Vec<u64>> = HashMap::new();
    for request in receiver.received() {
        let id = request.header("webhook-id")?.to_owned();
        let number = request.header("x-webhook-attempt")?.parse()?;
        attempts.entry(id).or_default().push(number);
    }
    Ok(attempts)
}

async fn a_hanging_receiver_does_not_delay_the_shutdown(mode: Mode) -> anyhow::Result<()> {
    const GRACE: Duration = Duration::from_secs(3);
    const EVENTS: usize = 40;
    const SLOTS: usize = 8;
    let settings = [
        ("HOOKLINE__STOP__GRACE_SECONDS", "3"),
        ("HOOKLINE__DISPATCHER__DEADLINE_SECONDS", "20"),
        ("HOOKLINE__DISPATCHER__SLOTS", "8"),
    ];
    let deployment = Deployment::start_with(mode, &settings).await?;
    let tenant = deployment.tenant().await?;
    let (receiver, is_well) =
        Receiver::until_well(Reply::status(200).after(Duration::from_secs(60)))?;
    let slow = Receiver::with(|_, _| Reply::status(200).after(Duration::from_millis(1_500)))?;
    let subscription = tenant.subscribe(&receiver, &["workflow.failed"]).await?;
    let finished = tenant.subscribe(&slow, &["workflow.completed"]).await?;
    let events = tenant.events("workflow.failed", EVENTS);
    tenant.publish(&events).await?;
    receiver.wait_for(SLOTS / 2).await?;
    tenant.publish_one("workflow.completed").await?;
    slow.wait_for(1).await?;
    let begun = receiver.received().len();

    let elapsed = deployment.stop_oldest(Service::Dispatcher).await?;
    println!("{mode:?}: {begun} requests hung and the end took {elapsed:?}");
    ensure!(elapsed < GRACE + Duration::from_secs(1), "{elapsed:?}");
    ensure!(
        receiver.received().len() == begun,
        "requests were begun while it stopped"
    );
    is_well.store(true, Ordering::Relaxed);
    deployment.start_service(Service::Dispatcher, &[]).await?;
    deployment.wait_ready().await?;
    let ready = Instant::now();
    all_succeeded(&tenant, subscription, EVENTS).await?;
    println!(
        "{mode:?}: all was delivered {:?} after the start",
        ready.elapsed()
    );

    // Those that hung, and they alone, were made again.
    let again = attempts(&receiver)?;
    ensure!(again.len() == EVENTS, "{} deliveries", again.len());
    let repeated = again.values().filter(|made| made.len() > 1).count();
    ensure!(
        repeated == begun,
        "{repeated} were made again, and {begun} had begun"
    );
    ensure!(
        again.values().flatten().all(|number| *number == 1),
        "an attempt was used up"
    );
    let log = tenant.client.wait_for_log(finished, 1).await?;
    ensure!(log.len() == 1 && log[0]["status"] == "success", "{log:#?}");
    ensure!(
        slow.received().len() == 1,
        "what had time to finish was made again"
    );
    deployment.end().await
}

async fn a_shutdown_answers_requests_in_progress_and_refuses_new_ones(
    mode: Mode,
) -> anyhow::Result<()> {
    let deployment = Deployment::start(mode).await?;
    let tenant = deployment.tenant().await?;
    let receiver = Receiver::healthy()?;
    tenant.subscribe(&receiver, &["workflow.failed"]).await?;
    let key = deployment.key(&["--org", &tenant.organization]).await?;
    let address = deployment.api().replace("http://", "");
    let admin = deployment.admin(Service::Api).await?;
    let body = tenant.event("workflow.failed").to_string();
    let (first, rest) = body.split_at(body.len() / 2);
    let mut request = TcpStream::connect(&address).await?;
    // This one asks for nothing and would keep its connection for a minute.
    let _idle = TcpStream::connect(&address).await?;
    let length = body.len();
    let head = format!(
        "POST /v1/events HTTP/1.1\r\nhost: a\r\nauthorization: Bearer {key}\r\n\
         content-type: application/json\r\ncontent-length: {length}\r\n\r\n{first}"
    );
    request.write_all(head.as_bytes()).await?;
    // A later call has its answer: the server has read the head above.
    tenant.client.get("/webhooks").await?.expect(200)?;

    deployment.signal_oldest(Service::Api, "TERM").await?;
    let asked = Instant::now();
    until("the API to be not ready and closed", async || {
        let readyz = hookline_testkit::http::get(format!("{admin}/readyz")).await?;
        let stopping = readyz.status() == 503 && readyz.text().await?.contains("stopping");
        Ok((stopping && TcpStream::connect(&address).await.is_err()).then_some(()))
    })
    .await?;
    request.write_all(rest.as_bytes()).await?;
    let mut answer = String::new();
    request.read_to_string(&mut answer).await?;
    ensure!(answer.starts_with("HTTP/1.1 202 "), "{answer}");
    let answer = answer.to_ascii_lowercase();
    ensure!(answer.contains("\r\nconnection: close\r\n"), "{answer}");
    deployment.wait_for_good_end(Service::Api).await?;
    println!(
        "{mode:?}: the API ended {:?} after the signal",
        asked.elapsed()
    );
    ensure!(
        asked.elapsed() < Duration::from_secs(4),
        "{:?}",
        asked.elapsed()
    );

    deployment.start_service(Service::Api, &[]).await?;
    deployment.wait_ready().await?;
    receiver.wait_for(1).await?;
    deployment.end().await
}

async fn services_stop_in_time_while_their_dependencies_are_silent(
    mode: Mode,
) -> anyhow::Result<()> {
    const GRACE: Duration = Duration::from_secs(3);
    let deployment =
        Deployment::start_with(mode, &[("HOOKLINE__STOP__GRACE_SECONDS", "3")]).await?;
    let tenant = deployment.tenant().await?;
    let receiver = Receiver::with(|_, _| Reply::status(200).after(Duration::from_millis(500)))?;
    let subscription = tenant.subscribe(&receiver, &["workflow.failed"]).await?;
    let events = tenant.events("workflow.failed", 20);
    tenant.publish(&events).await?;
    receiver.wait_for(5).await?;
    let dependencies = deployment.dependencies()?;
    dependencies.postgres.set(Link::Silent);
    dependencies.rabbitmq.set(Link::Silent);
    let stops = tokio::join!(
        deployment.stop_oldest(Service::Api),
        deployment.stop_oldest(Service::Ingest),
        deployment.stop_oldest(Service::Dispatcher),
    );
    for elapsed in [stops.0?, stops.1?, stops.2?] {
        println!("an end without dependencies took {elapsed:?}");
        ensure!(elapsed < GRACE + Duration::from_secs(1), "{elapsed:?}");
    }
    dependencies.postgres.set(Link::Up);
    dependencies.rabbitmq.set(Link::Up);
    for service in deployment.services() {
        deployment.start_service(service, &[]).await?;
    }
    deployment.wait_ready().await?;
    all_succeeded(&tenant, subscription, events.len()).await?;
    deployment.end().await
}
