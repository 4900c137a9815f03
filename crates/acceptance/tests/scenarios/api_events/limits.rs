//! How many events a request has, and how large they are.

use std::sync::Arc;

use anyhow::{Context as _, ensure};
use hookline_testkit::deployment::Deployment;
use hookline_testkit::receiver::Receiver;
use hookline_testkit::waiting::until;
use serde_json::{Value, json};

use super::{LARGEST, ids, published, sized};

pub(super) async fn a_request_has_1_to_1000_events(
    deployment: Arc<Deployment>,
) -> anyhow::Result<()> {
    let tenant = deployment.tenant().await?;
    let receiver = Receiver::healthy()?;
    let id = tenant.subscribe(&receiver, &["workflow.failed"]).await?;
    let batch = |count: usize| -> Vec<Value> { tenant.events("workflow.failed", count) };
    for wrong in [0, 1_001] {
        let refused = tenant
            .client
            .post("/events", &json!(batch(wrong)))
            .await?
            .problem(422)?;
        ensure!(refused.bad_fields() == [""], "{}", refused.json);
    }
    for right in [1, 1_000] {
        let accepted = tenant
            .client
            .post("/events", &json!(batch(right)))
            .await?
            .expect(202)?;
        ensure!(accepted.json["accepted"].as_array().map(Vec::len) == Some(right));
    }
    // On a busy machine an answer may come too late, and then a delivery is repeated.
    until("every event", async || {
        Ok((ids(&receiver.received()).len() == 1_001).then_some(()))
    })
    .await?;
    let path = format!("/webhooks/{id}/deliveries?limit=1");
    let deliveries = tenant.client.get(&path).await?.expect(200)?.json;
    ensure!(deliveries["total"] == 1_001, "{deliveries}");
    Ok(())
}

pub(super) async fn an_event_has_at_most_256_kib(
    deployment: Arc<Deployment>,
) -> anyhow::Result<()> {
    let tenant = deployment.tenant().await?;
    let receiver = Receiver::healthy()?;
    tenant.subscribe(&receiver, &["workflow.failed"]).await?;
    let body = String::from_utf8(sized(&tenant, LARGEST)?)?;
    published(&tenant, body.clone()).await?.expect(202)?;
    let received = receiver.wait_for(1).await?;
    ensure!(
        received[0].body == body.as_bytes(),
        "{} bytes arrived",
        received[0].body.len()
    );

    let too_large = published(&tenant, sized(&tenant, LARGEST + 1)?)
        .await?
        .problem(422)?;
    ensure!(too_large.bad_fields() == [""], "{}", too_large.json);
    // An id that is given counts, too: whatever is accepted is small enough to be delivered.
    let mut longest = None;
    for bytes in [LARGEST - 100, LARGEST - 20] {
        let body = String::from_utf8(sized(&tenant, bytes + 1)?)?;
        let (start, rest) = body.split_once("\"event_id\":").context("an id")?;
        let (_, rest) = rest.split_once(',').context("more")?;
        let padding = "x".repeat(bytes - start.len() - rest.len());
        let without = format!(
            "{start}{}",
            rest.replacen("\"padding\":\"", &format!("\"padding\":\"{padding}"), 1)
        );
        ensure!(without.len() == bytes);
        let answer = published(&tenant, without).await?;
        match answer.status.as_u16() {
            202 => longest = answer.json["accepted"][0].as_str().map(str::to_owned),
            _ => ensure!(answer.problem(422)?.bad_fields() == [""]),
        }
    }
    let id = longest.context("neither was accepted")?;
    let received = receiver.wait_for(2).await?;
    ensure!(ids(&received).contains(&id));

    // As many of the largest as a request has room for.
    let largest: Vec<_> = (0..31)
        .map(|_| sized(&tenant, LARGEST))
        .collect::<Result<_, _>>()?;
    let mut request = b"[".to_vec();
    request.extend(largest.join(&b','));
    request.push(b']');
    published(&tenant, request).await?.expect(202)?;
    let received = receiver.wait_for(33).await?;
    ensure!(
        received[2..]
            .iter()
            .all(|request| request.body.len() == LARGEST)
    );
    ensure!(ids(&received).len() == 33);
    Ok(())
}

pub(super) async fn the_fields_of_an_event_have_limits(
    deployment: Arc<Deployment>,
) -> anyhow::Result<()> {
    let tenant = deployment.tenant().await?;
    let with = |field: &str, value: Value| {
        let mut event = tenant.event("workflow.started");
        event[field] = value;
        event
    };
    let longest = "😀".repeat(255);
    for good in [
        with("event_id", json!(longest)),
        with("event_id", json!("e")),
        with("workflow_id", json!(longest)),
        with("timestamp", json!("2025-12-21T10:30:00.123456789+14:00")),
        with("data", json!({})),
    ] {
        tenant.client.post("/events", &good).await?.expect(202)?;
    }
    let too_long = format!("{longest}e");
    for (field, value) in [
        ("event_id", json!("")),
        ("event_id", json!(too_long)),
        ("event_id", json!("a\nb")),
        ("event_id", json!(1)),
        ("event_id", Value::Null),
        ("workflow_id", json!("")),
        ("workflow_id", json!(too_long)),
        ("workflow_id", json!("\u{7f}")),
        ("organization_id", json!("")),
        ("organization_id", json!(1)),
        ("event_type", json!("workflow.stopped")),
        ("event_type", Value::Null),
        ("timestamp", json!("2025-12-21")),
        ("timestamp", json!("2025-12-21T10:30:00")),
        ("timestamp", json!(1_766_313_000)),
        ("data", json!([])),
        ("data", Value::Null),
        ("data", json!("{}")),
        ("version", json!(1)),
        ("Data", json!({})),
    ] {
        let refused = tenant
            .client
            .post("/events", &with(field, value.clone()))
            .await?
            .problem(422)?;
        ensure!(
            refused.bad_fields() == [field],
            "{field} {value}: {}",
            refused.json
        );
    }
    let missing = tenant
        .client
        .post("/events", &json!({}))
        .await?
        .problem(422)?;
    let mut fields = missing.bad_fields();
    fields.sort();
    ensure!(
        fields
            == [
                "data",
                "event_type",
                "organization_id",
                "timestamp",
                "workflow_id"
            ],
        "{fields:?}"
    );
    let twice =
        tenant
            .event("workflow.started")
            .to_string()
            .replacen('{', r#"{"workflow_id":"other","#, 1);
    let refused = published(&tenant, twice).await?.problem(422)?;
    ensure!(refused.bad_fields() == ["workflow_id"], "{}", refused.json);
    Ok(())
}
