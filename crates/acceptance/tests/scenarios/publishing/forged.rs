//! Formats and headers that Hookline writes to itself, written by a publisher.

use anyhow::ensure;
use hookline_core::wire::{JSON_BATCH, JSON_BUNDLE};
use hookline_testkit::deployment::{Deployment, Mode, Service};
use hookline_testkit::publisher;
use hookline_testkit::receiver::Receiver;
use hookline_testkit::rejected_events::RejectedEvents;
use lapin::BasicProperties;
use lapin::options::QueueDeclareOptions;
use lapin::types::{AMQPValue, FieldTable};
use lapin::{Connection, ConnectionProperties};

use super::typed;

/// Elements of a forged bundle; each would become a message.
const ELEMENTS: usize = 20_000;

/// Far in the future, in microseconds since 1970, and far above every limit of returns.
const FORGED: i64 = 4_000_000_000_000_000;

fn with_headers(properties: BasicProperties) -> BasicProperties {
    let mut headers = FieldTable::default();
    for name in [
        "x-hookline-turn",
        "x-hookline-delivery-count",
        "x-delivery-count",
        "x-acquired-count",
    ] {
        headers.insert(name.into(), AMQPValue::LongLongInt(FORGED));
    }
    let hookline = AMQPValue::LongString("hookline".into());
    headers.insert("x-hookline-writer".into(), hookline);
    properties.with_headers(headers)
}

/// The number of messages in the queue of events and in the delay queues.
async fn waiting(amqp: &str) -> anyhow::Result<u32> {
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
        waiting += declared.await?.message_count();
    }
    connection.close(200, "counted".into()).await?;
    Ok(waiting)
}

pub(crate) async fn forged_internal_messages_create_nothing_more(mode: Mode) -> anyhow::Result<()> {
    let deployment = Deployment::start(mode).await?;
    let tenant = deployment.tenant().await?;
    let receiver = Receiver::healthy()?;
    tenant.subscribe(&receiver, &["workflow.completed"]).await?;
    let bundle = format!("[{}]", vec![r#"{"event":0}"#; ELEMENTS].join(","));
    let event = tenant.event("workflow.completed").to_string();
    let batch = format!("[{event},{event}]");
    let forged = [
        (JSON_BUNDLE, bundle),
        (JSON_BATCH, batch),
        (
            "Application/Vnd.Hookline.Bundle+JSON; charset=utf-8",
            r#"[{"event":{}}]"#.to_owned(),
        ),
    ];
    for (content_type, body) in &forged {
        let properties = with_headers(typed(content_type));
        deployment
            .publish_amqp("workflow.completed", body.as_bytes(), properties)
            .await?;
    }
    // An event with such headers is an event; it is neither put off nor taken for poison.
    let properties = with_headers(publisher::json());
    deployment
        .publish_amqp("workflow.completed", event.as_bytes(), properties)
        .await?;
    receiver.wait_for(1).await?;

    let onlooker = RejectedEvents::connect(&deployment.dependencies()?.amqp).await?;
    let mut rejected = onlooker.take(forged.len()).await?;
    for (content_type, body) in &forged {
        let found = rejected
            .iter()
            .position(|one| one.content_type.as_deref() == Some(*content_type));
        let found = found.map(|place| rejected.remove(place));
        ensure!(
            found.is_some_and(|one| {
                one.body == body.as_bytes() && one.reason.contains("is none of application/json")
            }),
            "{content_type} was not rejected as it came"
        );
    }
    ensure!(
        waiting(&deployment.dependencies()?.amqp).await? == 0,
        "more were made of them"
    );
    ensure!(receiver.deliveries() == 1);
    ensure!(
        !deployment
            .output()
            .await
            .contains("split a batch of events")
    );
    deployment.end().await
}

/// As an array of numbers it took 260 times its length to parse.
pub(crate) async fn a_message_far_too_long_is_rejected_unparsed(mode: Mode) -> anyhow::Result<()> {
    const LENGTH: usize = 16 * 1024 * 1024;
    /// KiB. The message comes, is copied into frames, and leaves.
    const MAY_GROW: u64 = 160 * 1024;
    let deployment = Deployment::start(mode).await?;
    let tenant = deployment.tenant().await?;
    let receiver = Receiver::healthy()?;
    tenant.subscribe(&receiver, &["workflow.completed"]).await?;
    let before = deployment.memory(Service::Ingest).await?.now;
    let array = format!("[0{}]", ",0".repeat((LENGTH - 3) / 2));
    let content_types = ["application/json", JSON_BATCH];
    for content_type in content_types {
        deployment
            .publish_amqp("workflow.completed", array.as_bytes(), typed(content_type))
            .await?;
    }
    tenant.publish_one("workflow.completed").await?;
    receiver.wait_for(1).await?;
    let onlooker = RejectedEvents::connect(&deployment.dependencies()?.amqp).await?;
    for rejected in onlooker.take(content_types.len()).await? {
        ensure!(rejected.body.len() == array.len());
        let reason = match rejected.content_type.as_deref() {
            Some(JSON_BATCH) => "is none of application/json",
            _ => "must have at most 262144 bytes, not ",
        };
        ensure!(rejected.reason.contains(reason), "{}", rejected.reason);
    }
    let peak = deployment.memory(Service::Ingest).await?.peak;
    let grew = peak.saturating_sub(before);
    println!("ingest grew by {grew} KiB over {before} KiB");
    ensure!(grew < MAY_GROW, "ingest grew by {grew} KiB");
    deployment.end().await
}
