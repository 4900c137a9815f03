//! One organization cannot starve another, whatever it publishes.

mod flood;

use std::time::{Duration, Instant};

use anyhow::ensure;
use futures::future::try_join_all;
use hookline_acceptance::scenarios;
use hookline_acceptance::soak::{RATE, limited, retry_after_seconds};
use hookline_acceptance::suite::IsolatedScenario;
use hookline_core::wire::JSON_BUNDLE;
use hookline_testkit::deployment::{Deployment, Mode, Service};
use hookline_testkit::publisher::TestPublisher;
use hookline_testkit::receiver::Receiver;
use hookline_testkit::rejected_events::RejectedEvents;
use hookline_testkit::tenant::Tenant;
use hookline_testkit::waiting::until;
use lapin::options::{BasicGetOptions, QueueDeclareOptions};
use lapin::types::FieldTable;
use lapin::{BasicProperties, Connection, ConnectionProperties};
use serde_json::{Value, json};

pub(crate) fn exclusive() -> Vec<IsolatedScenario> {
    scenarios![flood::publishing_at_fifty_times_the_limit_does_not_slow_others]
}

pub(crate) fn isolated() -> Vec<IsolatedScenario> {
    scenarios![
        publishing_above_the_limit_over_http_is_429,
        an_organization_at_its_quota_delays_only_itself,
    ]
}

pub(crate) fn distributed() -> Vec<IsolatedScenario> {
    scenarios![
        deferred_events_survive_the_death_of_ingest,
        one_bad_event_does_not_fail_its_batch,
    ]
}

/// The messages in the queue of events and in the delay queues, where one message may be many events.
#[derive(Debug, Default)]
struct Waiting {
    messages: usize,
    events: usize,
}

impl Waiting {
    /// Messages that were read for the count go back when the connection closes.
    async fn seen(amqp: &str) -> anyhow::Result<Self> {
        let connection = Connection::connect(amqp, ConnectionProperties::default()).await?;
        let channel = connection.create_channel().await?;
        let passive = QueueDeclareOptions {
            passive: true,
            ..Default::default()
        };
        let events = "hookline.events".into();
        let declared = channel.queue_declare(events, passive, FieldTable::default());
        let published = usize::try_from(declared.await?.message_count())?;
        let mut waiting = Self {
            messages: published,
            events: published,
        };
        for level in 0..=16 {
            let delay = format!("hookline.delay.{level}");
            let get = || channel.basic_get(delay.as_str().into(), BasicGetOptions::default());
            while let Some(got) = get().await? {
                waiting.messages += 1;
                waiting.events += match serde_json::from_slice(&got.delivery.data)? {
                    Value::Array(bundle) => bundle.len(),
                    _ => 1,
                };
            }
        }
        connection.close(200, "counted".into()).await?;
        Ok(waiting)
    }
}

async fn publishing_above_the_limit_over_http_is_429(mode: Mode) -> anyhow::Result<()> {
    let deployment = limited(mode).await?;
    let (greedy, modest) = (deployment.tenant().await?, deployment.tenant().await?);
    let receiver = Receiver::healthy()?;
    greedy.subscribe(&receiver, &["workflow.completed"]).await?;
    let post = async |tenant: &Tenant<'_>, count: usize| {
        let events = tenant.events("workflow.completed", count);
        tenant.client.post("/events", &json!(events)).await
    };
    post(&greedy, RATE).await?.expect(202)?;
    let wait = retry_after_seconds(post(&greedy, RATE).await?)?;
    ensure!(wait == 1, "{wait} s");
    post(&modest, RATE).await?.expect(202)?;
    until("the end of the wait", async || {
        let answer = post(&greedy, RATE).await?;
        Ok((answer.status.as_u16() == 202).then_some(()))
    })
    .await?;
    // No event of a refused request was taken. The events that were taken come at once: they were counted.
    let received = receiver.wait_for(2 * RATE).await?;
    ensure!(received.len() == 2 * RATE, "{} came", received.len());
    let output = deployment.output().await;
    ensure!(!output.contains("deferred events"), "it was counted twice");
    deployment.end().await
}

async fn an_organization_at_its_quota_delays_only_itself(mode: Mode) -> anyhow::Result<()> {
    let deployment = Deployment::start_with(mode, &[("HOOKLINE__LIMITS__STORED_MIB", "1")]).await?;
    let (full, other) = (deployment.tenant().await?, deployment.tenant().await?);
    let (much, little) = (Receiver::healthy()?, Receiver::healthy()?);
    full.subscribe(&much, &["workflow.completed"]).await?;
    other.subscribe(&little, &["workflow.completed"]).await?;
    for _ in 0..5 {
        let mut event = full.event("workflow.completed");
        event["data"]["filler"] = "x".repeat(220 * 1024).into();
        full.publish(&[event]).await?;
    }
    much.wait_for(5).await?;
    match mode {
        Mode::Standalone => {
            let event = json!([full.event("workflow.completed")]);
            let wait = retry_after_seconds(full.client.post("/events", &event).await?)?;
            ensure!(wait == 60, "{wait} s");
        }
        Mode::Distributed => {
            // Ingest caches its view of the store for some seconds.
            until("an event to wait", async || {
                full.publish_one("workflow.completed").await?;
                let output = deployment.output().await;
                Ok(output
                    .contains("deferred events: their organization is at its storage quota")
                    .then_some(()))
            })
            .await?;
            let late = full.publish_one("workflow.completed").await?;
            until("it in the delays", async || {
                let waiting = Waiting::seen(&deployment.dependencies()?.amqp).await?;
                Ok((waiting.messages > 0).then_some(()))
            })
            .await?;
            let bodies = much.received().into_iter().map(|request| request.body);
            let matching = bodies.filter(|body| {
                let body = String::from_utf8_lossy(body);
                body.contains(&late)
            });
            ensure!(matching.count() == 0, "it came although there is no room");
        }
    }
    other.publish_one("workflow.completed").await?;
    little.wait_for(1).await?;
    deployment.end().await
}

async fn deferred_events_survive_the_death_of_ingest(mode: Mode) -> anyhow::Result<()> {
    let deployment = limited(mode).await?;
    let tenant = deployment.tenant().await?;
    let receiver = Receiver::healthy()?;
    let id = tenant.subscribe(&receiver, &["workflow.completed"]).await?;
    let events = tenant.events("workflow.completed", 5 * RATE);
    let begun = Instant::now();
    try_join_all(
        events
            .iter()
            .map(|event| tenant.publish(std::slice::from_ref(event))),
    )
    .await?;
    receiver.wait_for(RATE).await?;
    deployment.kill(Service::Ingest).await?;
    deployment.start_service(Service::Ingest, &[]).await?;
    receiver.wait_for(5 * RATE).await?;
    let elapsed = begun.elapsed();
    ensure!(
        elapsed > Duration::from_secs(2),
        "all came within {elapsed:?}"
    );
    let path = format!("/webhooks/{id}/logs?limit=1");
    until("every delivery in the log", async || {
        let page = tenant.client.get(&path).await?.expect(200)?;
        Ok((page.json["total"] == 5 * RATE).then_some(()))
    })
    .await?;
    ensure!(receiver.deliveries() == 5 * RATE);
    deployment.end().await
}

/// Nothing makes such a bundle but a version that read events otherwise.
async fn one_bad_event_does_not_fail_its_batch(mode: Mode) -> anyhow::Result<()> {
    const TRACE: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let deployment = limited(mode).await?;
    let tenant = deployment.tenant().await?;
    let receiver = Receiver::healthy()?;
    tenant.subscribe(&receiver, &["workflow.completed"]).await?;
    let [first, mut bad, last] = [(); 3].map(|()| tenant.event("workflow.completed"));
    bad["timestamp"] = "yesterday".into();
    let bundle = json!([
        {"trace": TRACE, "event": first},
        {"event": bad},
        {"event": last},
    ]);
    let bundled = BasicProperties::default().with_content_type(JSON_BUNDLE.into());
    // As ingest does: of a publisher it would be refused.
    TestPublisher::connect(&deployment.dependencies()?.amqp)
        .await?
        .send(
            "",
            "hookline.events",
            bundle.to_string().as_bytes(),
            bundled,
        )
        .await?;

    let received = receiver.wait_for(2).await?;
    ensure!(receiver.deliveries() == 2);
    let traces: Vec<&str> = received
        .iter()
        .filter_map(|one| one.header("traceparent").ok())
        .collect();
    let own = traces.iter().filter(|one| one[3..35] == TRACE[3..35]);
    ensure!(own.count() == 1, "{traces:?}");
    let onlooker = RejectedEvents::connect(&deployment.dependencies()?.amqp).await?;
    let rejected = onlooker.take(1).await?.remove(0);
    ensure!(serde_json::from_slice::<Value>(&rejected.body)? == bad);
    ensure!(rejected.reason.contains("timestamp"), "{}", rejected.reason);
    deployment.end().await
}
