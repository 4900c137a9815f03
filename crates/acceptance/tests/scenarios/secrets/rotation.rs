use std::sync::Arc;

use anyhow::{Context as _, ensure};
use hookline_testkit::deployment::Deployment;
use hookline_testkit::receiver::{ReceivedRequest, Receiver};
use hookline_testkit::tenant::Tenant;
use ring::hmac;
use serde_json::{Value, json};

pub(super) async fn both_secrets_sign_during_an_overlap(
    deployment: Arc<Deployment>,
) -> anyhow::Result<()> {
    let tenant = deployment.tenant().await?;
    let receiver = Receiver::healthy()?;
    let id = tenant.subscribe(&receiver, &["workflow.started"]).await?;
    let rotated = rotate(&tenant, id, &json!({})).await?;
    let made = rotated["secret"].as_str().context("a secret of ours")?;
    ensure!(made.starts_with("whsec_") && made.len() == 6 + 44, "{made}");
    ensure!(rotated["previous_valid_until"].is_string(), "{rotated}");
    let request = &next(&tenant, &receiver).await?;
    // A receiver that knows one of the two secrets can verify the request.
    request.verify(made)?;
    request.verify("hush")?;
    let both = request.header("webhook-signature")?;
    ensure!(both.split(' ').count() == 2, "{both}");
    ensure!(request.header("x-webhook-signature")? == plain(made, request));
    ensure!(request.header("x-webhook-signature-previous")? == plain("hush", request));

    // The one in the middle becomes the one before; the oldest is gone.
    let rotated = rotate(
        &tenant,
        id,
        &json!({"secret": "third", "overlap_seconds": 60}),
    )
    .await?;
    ensure!(rotated["secret"].is_null(), "a secret is shown: {rotated}");
    let request = &next(&tenant, &receiver).await?;
    request.verify("third")?;
    request.verify(made)?;
    ensure!(request.verify("hush").is_err(), "the oldest still signs");

    // Newest first.
    let newest = request.header("webhook-signature")?.split(' ').next();
    let newest = newest.context("a signature")?.to_owned();
    let mut first = request.clone();
    first.headers.insert("webhook-signature".to_owned(), newest);
    first.verify("third")
}

pub(super) async fn a_rotation_overlap_ends_on_time_or_when_the_secret_is_changed(
    deployment: Arc<Deployment>,
) -> anyhow::Result<()> {
    let tenant = deployment.tenant().await?;
    let receiver = Receiver::healthy()?;
    let id = tenant.subscribe(&receiver, &["workflow.started"]).await?;
    let path = format!("/webhooks/{id}");
    let ends: [(&str, Value); 3] = [
        ("overlap", json!({"overlap_seconds": 0})),
        ("change", json!({"secret": "changed"})),
        ("removal", json!({"secret": null})),
    ];
    for (what, body) in ends {
        let secret = format!("before the {what}");
        let set = json!({"secret": secret});
        tenant.client.patch(&path, &set).await?.expect(200)?;
        let now = match what {
            "overlap" => {
                let rotated = rotate(&tenant, id, &body).await?;
                ensure!(rotated["previous_valid_until"].is_null(), "{rotated}");
                Some(rotated["secret"].as_str().context("a secret")?.to_owned())
            }
            _ => {
                rotate(&tenant, id, &json!({})).await?;
                tenant.client.patch(&path, &body).await?.expect(200)?;
                body["secret"].as_str().map(str::to_owned)
            }
        };
        let request = next(&tenant, &receiver).await?;
        ensure!(
            request.header("x-webhook-signature-previous").is_err(),
            "{what}"
        );
        match now {
            Some(now) => {
                request.verify(&now)?;
                let signature = request.header("webhook-signature")?;
                ensure!(!signature.contains(' '), "{what}: {signature}");
            }
            None => ensure!(request.header("webhook-signature").is_err(), "{what}"),
        }
    }
    // A second is over when a request comes that only the new one signs.
    let set = json!({"secret": "short-lived"});
    tenant.client.patch(&path, &set).await?.expect(200)?;
    rotate(&tenant, id, &json!({"overlap_seconds": 1})).await?;
    hookline_testkit::waiting::until("the end of an overlap", async || {
        let request = next(&tenant, &receiver).await?;
        let over = request.header("x-webhook-signature-previous").is_err();
        Ok(over.then_some(()))
    })
    .await
}

pub(super) async fn a_generated_secret_is_shown_once_and_signs(
    deployment: Arc<Deployment>,
) -> anyhow::Result<()> {
    let tenant = deployment.tenant().await?;
    let receiver = Receiver::healthy()?;
    let body = json!({
        "name": "n", "url": receiver.url("/"), "events": ["workflow.*"],
        "secret": {"generate": true},
    });
    let created = tenant.client.post("/webhooks", &body).await?.expect(201)?;
    ensure!(created.header("cache-control") == "no-store");
    let secret = created.json["secret"].as_str().context("a secret")?;
    ensure!(
        secret.starts_with("whsec_") && secret.len() == 6 + 44,
        "{secret}"
    );
    let path = format!("/webhooks/{}", created.json["id"]);
    let shown = tenant.client.get(&path).await?.expect(200)?.json;
    ensure!(
        shown["has_secret"] == true && shown.get("secret").is_none(),
        "{shown}"
    );
    next(&tenant, &receiver).await?.verify(secret)?;
    let patch = json!({"secret": {"generate": true}});
    let refused = tenant.client.patch(&path, &patch).await?.problem(422)?;
    ensure!(refused.bad_fields() == ["secret"], "{refused:?}");
    Ok(())
}

pub(super) async fn a_rotation_creates_the_first_secret_and_refuses_invalid_ones(
    deployment: Arc<Deployment>,
) -> anyhow::Result<()> {
    let tenant = deployment.tenant().await?;
    let receiver = Receiver::healthy()?;
    let body = json!({"name": "n", "url": receiver.url("/"), "events": ["workflow.started"]});
    let id = tenant.client.subscribe(&body).await?;
    let path = format!("/webhooks/{id}/secret/rotate");
    for (body, fields) in [
        (json!({"secret": ""}), vec!["secret"]),
        (
            json!({"secret": "whsec_?", "overlap_seconds": 604_801}),
            vec!["secret", "overlap_seconds"],
        ),
        (
            json!({"secret": null, "overlap": 1}),
            vec!["secret", "overlap"],
        ),
    ] {
        let refused = tenant.client.post(&path, &body).await?.problem(422)?;
        ensure!(refused.bad_fields() == fields, "{:?}", refused.bad_fields());
    }
    let whole = tenant.client.request(reqwest::Method::POST, &path);
    let rotated = tenant.client.send(whole).await?.expect(200)?;
    ensure!(rotated.header("cache-control") == "no-store");
    let rotated = rotated.json;
    ensure!(rotated["previous_valid_until"].is_null(), "{rotated}");
    let secret = rotated["secret"].as_str().context("a secret")?;
    next(&tenant, &receiver).await?.verify(secret)?;
    let shown = tenant
        .client
        .get(&format!("/webhooks/{id}"))
        .await?
        .expect(200)?
        .json;
    ensure!(
        shown["has_secret"] == true && !shown.to_string().contains(secret),
        "{shown}"
    );
    let foreign = deployment.tenant().await?;
    foreign.client.post(&path, &json!({})).await?.problem(404)?;
    Ok(())
}

async fn rotate(tenant: &Tenant<'_>, id: i64, body: &Value) -> anyhow::Result<Value> {
    let path = format!("/webhooks/{id}/secret/rotate");
    Ok(tenant.client.post(&path, body).await?.expect(200)?.json)
}

/// The request of one more event.
async fn next(tenant: &Tenant<'_>, receiver: &Receiver) -> anyhow::Result<ReceivedRequest> {
    let before = receiver.received().len();
    tenant.publish_one("workflow.started").await?;
    Ok(receiver.wait_for(before + 1).await?[before].clone())
}

fn plain(secret: &str, request: &ReceivedRequest) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
    crate::api_keys::hex(hmac::sign(&key, &request.body).as_ref())
}
