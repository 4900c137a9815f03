//! Outages: the database or the broker is away for a while. No operator has to restart a process, and no event is
//! lost.

mod alarm;
mod hosts;
mod losing;
mod silent;

use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use hookline_acceptance::scenarios;
use hookline_acceptance::suite::IsolatedScenario;
use hookline_testkit::client::ApiClient;
use hookline_testkit::deployment::{Deployment, Mode, Service};
use hookline_testkit::proxy::Link;
use hookline_testkit::receiver::{Receiver, Reply};
use hookline_testkit::waiting::until;
use reqwest::Method;
use serde_json::{Value, json};
use tokio::task::JoinSet;

pub(crate) fn distributed() -> Vec<IsolatedScenario> {
    let mut all: Vec<IsolatedScenario> = scenarios![
        nothing_is_lost_when_the_database_is_cut_off_for_a_while,
        nothing_is_lost_when_the_database_is_silent_for_a_while,
        nothing_is_lost_when_the_broker_is_cut_off_for_a_while,
        nothing_is_lost_when_the_broker_is_silent_for_a_while,
    ];
    all.extend(losing::distributed());
    all.extend(alarm::distributed());
    all.extend(hosts::distributed());
    all.extend(silent::distributed());
    all
}

/// Every request is answered within 5 s; the rest is for the way on a busy machine.
const DEADLINE: Duration = Duration::from_millis(5_500);

/// Once a peer is back, deliveries go on within this time.
const RECOVERY_LIMIT: Duration = Duration::from_secs(5);

type Call = (Method, String, Value);

/// Makes all calls at once and checks that each is told, in time, to come again later.
async fn ensure_unavailable(client: &ApiClient, calls: Vec<Call>) -> anyhow::Result<()> {
    let mut answers = JoinSet::new();
    for (method, path, body) in calls {
        let client = client.clone();
        answers.spawn(async move {
            let call = format!("{method} {path}");
            let request = client.request(method.clone(), &path);
            let request = match method {
                Method::GET | Method::DELETE => request,
                _ => request.json(&body),
            };
            let began = Instant::now();
            let answer = client.send(request).await.context(call.clone())?;
            let elapsed = began.elapsed();
            ensure!(elapsed < DEADLINE, "{call}: {elapsed:?}");
            let answer = answer.expect(503).context(call.clone())?;
            ensure!(answer.headers.contains_key("retry-after"), "{call}");
            ensure!(answer.json["status"] == 503, "{call}: {}", answer.json);
            Ok(())
        });
    }
    while let Some(answer) = answers.join_next().await {
        answer??;
    }
    Ok(())
}

fn resumed(back: Instant) -> anyhow::Result<()> {
    let elapsed = back.elapsed();
    println!("deliveries went on {elapsed:?} after the peer was back");
    ensure!(
        elapsed < RECOVERY_LIMIT,
        "deliveries went on after {elapsed:?}"
    );
    Ok(())
}

async fn wait_for_readiness(deployment: &Deployment, status: u16) -> anyhow::Result<()> {
    for service in [Service::Api, Service::Ingest, Service::Dispatcher] {
        until(&format!("{service:?} to say {status}"), async || {
            Ok((deployment.readiness(service).await == status).then_some(()))
        })
        .await?;
    }
    Ok(())
}

async fn nothing_is_lost_when_the_database_is_cut_off_for_a_while(
    mode: Mode,
) -> anyhow::Result<()> {
    the_database_is(mode, Link::Cut).await
}

async fn nothing_is_lost_when_the_database_is_silent_for_a_while(mode: Mode) -> anyhow::Result<()> {
    the_database_is(mode, Link::Silent).await
}

async fn the_database_is(mode: Mode, wire: Link) -> anyhow::Result<()> {
    const MEANWHILE: usize = 20;
    let deployment = Deployment::start(mode).await?;
    let tenant = deployment.tenant().await?;
    let receiver = Receiver::healthy()?;
    let subscription = tenant.subscribe(&receiver, &["workflow.started"]).await?;
    tenant.publish_one("workflow.started").await?;
    receiver.wait_for(1).await?;

    deployment.dependencies()?.postgres.set(wire);
    let of = |rest: &str| format!("/webhooks/{subscription}{rest}");
    let new = json!({"name": "new", "url": receiver.url("/"), "events": ["workflow.failed"]});
    let calls = [
        (Method::GET, "/webhooks".to_owned(), Value::Null),
        (Method::POST, "/webhooks".to_owned(), new),
        (Method::GET, of(""), Value::Null),
        (Method::PATCH, of(""), json!({"is_active": false})),
        (Method::DELETE, of(""), Value::Null),
        (Method::GET, of("/logs"), Value::Null),
        (Method::GET, "/webhooks/logs/all".to_owned(), Value::Null),
        (Method::POST, of("/test"), json!({})),
        (
            Method::POST,
            "/events".to_owned(),
            tenant.event("workflow.started"),
        ),
    ];
    // More than there are connections to the database.
    let calls = calls
        .iter()
        .cycle()
        .take(4 * calls.len())
        .cloned()
        .collect();
    ensure_unavailable(&tenant.client, calls).await?;
    let events = tenant.events("workflow.started", MEANWHILE);
    tenant.publish(&events).await?;
    wait_for_readiness(&deployment, 503).await?;

    deployment.dependencies()?.postgres.set(Link::Up);
    let back = Instant::now();
    let received = receiver.wait_for(1 + MEANWHILE).await?;
    resumed(back)?;
    deployment.wait_ready().await?;
    ensure!(
        received.len() == 1 + MEANWHILE,
        "{} requests",
        received.len()
    );
    let log = tenant
        .client
        .wait_for_log(subscription, 1 + MEANWHILE)
        .await?;
    ensure!(
        log.iter().all(|entry| entry["status"] == "success"),
        "{log:#?}"
    );
    let found = tenant.client.get(&of("")).await?.expect(200)?;
    ensure!(found.json["is_active"] == true, "a refused change was made");
    tenant.publish_one("workflow.started").await?;
    receiver.wait_for(2 + MEANWHILE).await?;
    deployment.end().await
}

async fn nothing_is_lost_when_the_broker_is_cut_off_for_a_while(mode: Mode) -> anyhow::Result<()> {
    the_broker_is(mode, Link::Cut).await
}

async fn nothing_is_lost_when_the_broker_is_silent_for_a_while(mode: Mode) -> anyhow::Result<()> {
    the_broker_is(mode, Link::Silent).await
}

async fn the_broker_is(mode: Mode, wire: Link) -> anyhow::Result<()> {
    let deployment = Deployment::start(mode).await?;
    let tenant = deployment.tenant().await?;
    let receiver =
        Receiver::with(
            |request, before| match (request.header("x-webhook-event"), before) {
                (Ok("workflow.failed"), 0) => Reply::status(429).with_header("retry-after", "2"),
                _ => Reply::status(200),
            },
        )?;
    let types = ["workflow.failed", "workflow.started"];
    let subscription = tenant.subscribe(&receiver, &types).await?;
    tenant.publish_one("workflow.failed").await?;
    tenant.client.wait_for_log(subscription, 1).await?;

    // A retry waits while the broker goes.
    deployment.dependencies()?.rabbitmq.set(wire);
    let one = tenant.event("workflow.started");
    let many = json!([
        tenant.event("workflow.started"),
        tenant.event("workflow.started")
    ]);
    let calls = [
        (Method::POST, "/events".to_owned(), one),
        (Method::POST, "/events".to_owned(), many),
    ];
    let calls = calls.iter().cycle().take(12).cloned().collect();
    ensure_unavailable(&tenant.client, calls).await?;
    // The API, the retry and a test need no broker: looks find their rows without a wake-up.
    tenant.client.get("/webhooks").await?.expect(200)?;
    let test = format!("/webhooks/{subscription}/test");
    tenant.client.post(&test, &json!({})).await?.expect(202)?;
    receiver.wait_for(3).await?;
    let meanwhile = tenant.publish_one("workflow.started").await?;
    wait_for_readiness(&deployment, 503).await?;

    deployment.dependencies()?.rabbitmq.set(Link::Up);
    let back = Instant::now();
    receiver.wait_for(4).await?;
    resumed(back)?;
    deployment.wait_ready().await?;
    let after = tenant.event("workflow.started");
    tenant.post_bytes(&after.to_string(), None).await?;
    let after = after["event_id"].as_str().context("an id")?;
    until(
        "the retry and the events of meanwhile and after",
        async || {
            let log = tenant.client.log_of(subscription).await?;
            let sent = |id: &str| log.iter().any(|entry| entry["event_id"] == id);
            let retried = log.iter().any(|entry| entry["trigger"] == "retry");
            Ok((retried && sent(&meanwhile) && sent(after)).then_some(()))
        },
    )
    .await?;
    deployment.end().await
}
