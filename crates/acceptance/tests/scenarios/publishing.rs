//! Publishing over the broker: the messages that publishers may send, and the outcome of those that they may not.

mod forged;
mod hostile;
mod repeats;

use std::sync::Arc;

use anyhow::{Context as _, ensure};
use hookline_acceptance::scenarios;
use hookline_acceptance::suite::{IsolatedScenario, SharedScenario};
use hookline_core::wire::v1::WorkflowEvent;
use hookline_testkit::deployment::Deployment;
use hookline_testkit::publisher;
use hookline_testkit::receiver::Receiver;
use hookline_testkit::rejected_events::RejectedEvents;
use hookline_testkit::tenant::Tenant;
use lapin::BasicProperties;
use prost::Message as _;
use serde_json::{Value, json};

pub(crate) use repeats::shared;

pub(crate) fn distributed() -> Vec<SharedScenario> {
    scenarios![
        a_message_that_is_no_event_is_rejected_with_the_reason_and_stops_nothing,
        the_event_type_of_the_body_overrides_the_routing_key,
        protobuf_events_are_delivered_as_the_same_bytes,
    ]
}

pub(crate) fn hostile() -> Vec<IsolatedScenario> {
    scenarios![
        hostile::each_hostile_event_ends_and_delays_no_other,
        forged::forged_internal_messages_create_nothing_more,
        forged::a_message_far_too_long_is_rejected_unparsed,
    ]
}

fn typed(content_type: &str) -> BasicProperties {
    BasicProperties::default().with_content_type(content_type.into())
}

async fn a_message_that_is_no_event_is_rejected_with_the_reason_and_stops_nothing(
    deployment: Arc<Deployment>,
) -> anyhow::Result<()> {
    let tenant = deployment.tenant().await?;
    let receiver = Receiver::healthy()?;
    tenant.subscribe(&receiver, &["workflow.completed"]).await?;
    let good = tenant.event("workflow.completed").to_string();
    let with = |name: &str, value: Value| {
        let mut event = tenant.event("workflow.completed");
        event[name] = value;
        event.to_string()
    };
    let large = with("data", json!({"padding": "x".repeat(256 * 1024)}));
    let large = large[..large.len() - (large.len() - 256 * 1024 - 1)].to_owned();
    let twice = good.replacen('{', r#"{"workflow_id":"wf_2","#, 1);
    let bad_protobuf = WorkflowEvent::default().encode_to_vec();
    let json_type = Some("application/json");
    let cases: Vec<(Option<&str>, Vec<u8>, &str)> = vec![
        (
            json_type,
            b"{\"event_id\":\"broken".to_vec(),
            "is not valid JSON: EOF",
        ),
        (json_type, b"".to_vec(), "is not valid JSON: EOF"),
        (json_type, b"\xff\xfe".to_vec(), "is not valid JSON: "),
        (
            json_type,
            format!("[{good}]").into(),
            "is not valid JSON: invalid type: sequence",
        ),
        (
            Some("text/plain"),
            good.clone().into(),
            "content-type Some(\"text/plain\") is none of",
        ),
        (None, good.clone().into(), "content-type None is none of"),
        (
            json_type,
            with("event_type", json!("workflow.exploded")).into(),
            "event_type: must be one of workflow.started, ",
        ),
        (
            json_type,
            with("colour", json!("red")).into(),
            "colour: is not a field of an event",
        ),
        (
            json_type,
            with("event_id", json!("a\u{7}")).into(),
            "event_id: must not have control characters",
        ),
        (
            json_type,
            with("timestamp", json!("yesterday")).into(),
            "timestamp: must be an RFC 3339 time",
        ),
        (
            json_type,
            with("data", json!([1])).into(),
            "data: must be a JSON object",
        ),
        (json_type, twice.into(), "workflow_id: is there twice"),
        (json_type, large.into(), "must have at most 262144 bytes"),
        (
            Some("application/x-protobuf"),
            b"\xff\xff\xff".to_vec(),
            "is not valid Protobuf: ",
        ),
        (
            Some("application/x-protobuf"),
            bad_protobuf,
            "event_id: must not be empty; event_type: must be one of",
        ),
    ];
    for (content_type, body, _) in &cases {
        let properties = content_type.map_or_else(BasicProperties::default, typed);
        deployment
            .publish_amqp("workflow.completed", body, properties)
            .await?;
    }
    deployment
        .publish_amqp("workflow.completed", good.as_bytes(), publisher::json())
        .await?;
    let received = receiver.wait_for(1).await?;
    ensure!(received.len() == 1 && received[0].body == sent_as(&good)?);

    let mut rejected = RejectedEvents::connect(&deployment.dependencies()?.amqp)
        .await?
        .take(cases.len())
        .await?;
    for (content_type, body, reason) in &cases {
        let found = rejected
            .iter()
            .position(|message| {
                message.body == *body && message.content_type.as_deref() == *content_type
            })
            .with_context(|| format!("the one that {reason} is lost"))?;
        let found = rejected.remove(found);
        ensure!(
            found.reason.contains(reason),
            "{:?} instead of {reason:?}",
            found.reason
        );
    }
    Ok(())
}

/// The envelope of an event with `data` that has no white space and its keys in order.
fn sent_as(event: &str) -> anyhow::Result<String> {
    let event: Value = serde_json::from_str(event)?;
    let text = |name: &str| event[name].to_string();
    Ok(format!(
        r#"{{"event_id":{},"event_type":{},"workflow_id":{},"organization_id":{},"timestamp":{},"data":{}}}"#,
        text("event_id"),
        text("event_type"),
        text("workflow_id"),
        text("organization_id"),
        text("timestamp"),
        text("data"),
    ))
}

async fn the_event_type_of_the_body_overrides_the_routing_key(
    deployment: Arc<Deployment>,
) -> anyhow::Result<()> {
    let tenant = deployment.tenant().await?;
    let (completed, started) = (Receiver::healthy()?, Receiver::healthy()?);
    tenant
        .subscribe(&completed, &["workflow.completed"])
        .await?;
    tenant.subscribe(&started, &["workflow.started"]).await?;
    let keys = [
        "workflow.started",
        "nobody.knows.this",
        "",
        "workflow.completed",
    ];
    for key in keys {
        let event = tenant.event("workflow.completed").to_string();
        deployment
            .publish_amqp(key, event.as_bytes(), publisher::json())
            .await?;
    }
    completed.wait_for(keys.len()).await?;
    tenant.publish_one("workflow.started").await?;
    started.wait_for(1).await?;
    ensure!(completed.received().len() == keys.len());
    ensure!(started.received().len() == 1, "the routing key decided");
    Ok(())
}

async fn protobuf_events_are_delivered_as_the_same_bytes(
    deployment: Arc<Deployment>,
) -> anyhow::Result<()> {
    let (tenant, twin) = (deployment.tenant().await?, deployment.tenant().await?);
    let data = r#"{ "z":1e400, "a" : "\u00e9 é" }"#;
    let id = "evt \u{e9}\"";
    let mut bodies = Vec::new();
    for (tenant, protobuf) in [(&tenant, true), (&twin, false)] {
        let receiver = Receiver::healthy()?;
        tenant
            .subscribe(&receiver, &["workflow.step.started"])
            .await?;
        let (body, properties) = match protobuf {
            true => (
                protobuf_event(tenant, id, data),
                typed("application/x-protobuf"),
            ),
            false => {
                let body = format!(
                    r#"{{"event_id":{},"event_type":"workflow.step.started","workflow_id":"wf_1","organization_id":"{}","timestamp":"2025-12-21T10:30:00.25Z","data":{data}}}"#,
                    json!(id),
                    tenant.organization
                );
                (body.into_bytes(), publisher::json())
            }
        };
        deployment
            .publish_amqp("workflow.step.started", &body, properties)
            .await?;
        let received = receiver.wait_for(1).await?.remove(0);
        received.verify("hush")?;
        let body = String::from_utf8(received.body.to_vec())?;
        ensure!(body.ends_with(&format!("\"data\":{data}}}")), "{body}");
        bodies.push(body.replace(&tenant.organization, "ORG"));
    }
    ensure!(bodies[0] == bodies[1], "{bodies:#?}");
    Ok(())
}

fn protobuf_event(tenant: &Tenant<'_>, id: &str, data: &str) -> Vec<u8> {
    WorkflowEvent {
        event_id: id.to_owned(),
        event_type: "workflow.step.started".to_owned(),
        workflow_id: "wf_1".to_owned(),
        organization_id: tenant.organization.clone(),
        timestamp: Some(prost_types::Timestamp {
            seconds: 1_766_313_000,
            nanos: 250_000_000,
        }),
        data_json: data.as_bytes().to_vec().into(),
    }
    .encode_to_vec()
}
