//! The fields that a patch changes, and those that it leaves alone.

use std::sync::Arc;

use anyhow::{Context as _, ensure};
use hookline_testkit::deployment::Deployment;
use hookline_testkit::receiver::{Receiver, Reply};
use hookline_testkit::waiting::until;
use serde_json::{Value, json};

use super::moment;

pub(super) async fn a_patch_distinguishes_absent_from_null(
    deployment: Arc<Deployment>,
) -> anyhow::Result<()> {
    let tenant = deployment.tenant().await?;
    let client = &tenant.client;
    let id = client
        .subscribe(&json!({
            "name": "before", "url": "https://example.com/before", "events": ["workflow.failed"],
            "secret": "hush", "headers": {"X-A": "1", "X-B": "2"},
        }))
        .await?;
    let path = format!("/webhooks/{id}");
    let mut now = client.get(&path).await?.expect(200)?.json;
    let untouched = client.patch(&path, &json!({})).await?.expect(200)?;
    ensure!(
        untouched.json == now,
        "{{}} changed something: {}",
        untouched.json
    );

    for field in ["name", "url", "events", "headers", "is_active"] {
        let null = client
            .patch(&path, &json!({field: null}))
            .await?
            .problem(422)?;
        ensure!(null.bad_fields() == [field], "{}", null.json);
    }
    let half_good = json!({"name": "half", "secret": null, "events": []});
    client.patch(&path, &half_good).await?.problem(422)?;
    ensure!(
        client.get(&path).await?.json == now,
        "a refused patch changed something"
    );

    for (patch, shown) in [
        (json!({"name": "after"}), json!({"name": "after"})),
        (
            json!({"url": "https://example.com/after"}),
            json!({"url": "https://example.com/after"}),
        ),
        (
            json!({"events": ["workflow.started", "workflow.failed"]}),
            json!({"events": ["workflow.started", "workflow.failed"]}),
        ),
        (json!({"is_active": false}), json!({"is_active": false})),
        (json!({"secret": null}), json!({"has_secret": false})),
        (json!({"secret": null}), json!({"has_secret": false})),
        (json!({"secret": "again"}), json!({"has_secret": true})),
        (
            json!({"headers": {"X-C": "3"}}),
            json!({"header_names": ["X-C"]}),
        ),
        (json!({"headers": {}}), json!({"header_names": []})),
        (
            json!({"name": "two", "is_active": true}),
            json!({"name": "two", "is_active": true}),
        ),
    ] {
        let after = client.patch(&path, &patch).await?.expect(200)?.json;
        for (field, value) in shown.as_object().context("fields")? {
            now[field] = value.clone();
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
