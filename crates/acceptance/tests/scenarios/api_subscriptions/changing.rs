//! The fields that a patch changes, and those that it leaves alone.

use std::sync::Arc;

use anyhow::ensure;
use hookline_testkit::deployment::Deployment;
use hookline_testkit::receiver::{Receiver, Reply};
use hookline_testkit::waiting::until;
use serde_json::{Value, json};

use super::moment;
use crate::subscription_fields::{self, FieldCase, fields};

pub(super) async fn a_patch_distinguishes_absent_from_null(
    deployment: Arc<Deployment>,
) -> anyhow::Result<()> {
    let tenant = deployment.tenant().await?;
    let client = &tenant.client;
    let id = client.subscribe(&subscription_fields::created()).await?;
    let path = format!("/webhooks/{id}");
    let mut now = client.get(&path).await?.expect(200)?.json;
    let untouched = client.patch(&path, &json!({})).await?.expect(200)?;
    ensure!(
        untouched.json == now,
        "{{}} changed something: {}",
        untouched.json
    );

    for FieldCase { name, .. } in fields().into_iter().filter(|field| !field.is_nullable()) {
        let null = client
            .patch(&path, &json!({name: null}))
            .await?
            .problem(422)?;
        ensure!(null.bad_fields() == [name], "{}", null.json);
    }
    let half_good = json!({"name": "half", "secret": null, "events": []});
    client.patch(&path, &half_good).await?.problem(422)?;
    ensure!(
        client.get(&path).await?.json == now,
        "a refused patch changed something"
    );

    let mut changes = Vec::new();
    for field in fields() {
        for value in &field.patched {
            changes.push((json!({field.name: value}), vec![field.shown(value)]));
        }
    }
    let both = vec![("name", json!("two")), ("is_active", json!(true))];
    changes.push((json!({"name": "two", "is_active": true}), both));
    for (patch, shown) in changes {
        let after = client.patch(&path, &patch).await?.expect(200)?.json;
        for (member, value) in shown {
            now[member] = value;
        }
        ensure!(moment(&after["updated_at"])? > moment(&now["updated_at"])?);
        now["updated_at"] = after["updated_at"].clone();
        ensure!(after == now, "{patch} made {after} of it and not {now}");
        ensure!(client.get(&path).await?.json == now);
    }
    Ok(())
}

pub(super) async fn the_next_request_shows_what_a_patch_changed(
    deployment: Arc<Deployment>,
) -> anyhow::Result<()> {
    let tenant = deployment.tenant().await?;
    let receiver = Receiver::healthy()?;
    let id = tenant
        .client
        .subscribe(&json!({
            "name": "n", "url": receiver.url("/before"), "events": ["workflow.failed"],
            "secret": "hush", "headers": {"X-A": "1", "X-B": "2"},
        }))
        .await?;
    let changed = async |patch: Value| {
        let path = format!("/webhooks/{id}");
        tenant.client.patch(&path, &patch).await?.expect(200)?;
        let test = tenant
            .client
            .post(&format!("{path}/test"), &json!({}))
            .await?;
        let delivery = test.expect(202)?.json["delivery_id"].clone();
        until("the test", async || {
            let received = receiver.received();
            let ours = |id: &str| delivery == id;
            Ok(received
                .into_iter()
                .find(|request| request.header("webhook-id").is_ok_and(ours)))
        })
        .await
    };
    let request = changed(json!({})).await?;
    request.verify("hush")?;
    ensure!(request.path == "/before" && request.header("x-a")? == "1");

    let request = changed(json!({"url": receiver.url("/after"), "secret": "another"})).await?;
    request.verify("another")?;
    ensure!(request.path == "/after" && request.header("x-b")? == "2");

    let request = changed(json!({"secret": null, "headers": {"x-b": "3"}})).await?;
    ensure!(request.header("x-a").is_err() && request.header("x-b")? == "3");
    for signature in ["x-webhook-signature", "webhook-signature"] {
        ensure!(
            request.header(signature).is_err(),
            "signed without a secret"
        );
    }
    Ok(())
}

pub(super) async fn enabling_a_subscription_clears_the_disabled_reason(
    deployment: Arc<Deployment>,
) -> anyhow::Result<()> {
    let tenant = deployment.tenant().await?;
    let client = &tenant.client;
    let receiver = Receiver::answering(vec![Reply::status(410)])?;
    let id = tenant.subscribe(&receiver, &["workflow.started"]).await?;
    let path = format!("/webhooks/{id}");
    tenant.publish_one("workflow.started").await?;
    until("the system to switch it off", async || {
        let shown = client.get(&path).await?.expect(200)?.json;
        Ok((shown["is_active"] == false && shown["disabled_reason"] == "gone").then_some(()))
    })
    .await?;
    for (patch, active, reason) in [
        (json!({"name": "still off"}), false, json!("gone")),
        (json!({"is_active": true}), true, Value::Null),
        (json!({"is_active": false}), false, Value::Null),
    ] {
        let shown = client.patch(&path, &patch).await?.expect(200)?.json;
        ensure!(
            shown["is_active"] == active && shown["disabled_reason"] == reason,
            "{shown}"
        );
    }
    Ok(())
}
