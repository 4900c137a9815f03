//! The pages that are served without a key.

use std::collections::BTreeSet;
use std::sync::Arc;

use anyhow::{Context as _, ensure};
use hookline_acceptance::scenarios;
use hookline_acceptance::suite::SharedScenario;
use hookline_testkit::client::ApiClient;
use hookline_testkit::deployment::Deployment;
use reqwest::Method;
use serde_json::{Value, json};

pub(crate) fn shared() -> Vec<SharedScenario> {
    scenarios![
        health_and_documents_need_no_key,
        the_document_names_every_call
    ]
}

async fn health_and_documents_need_no_key(deployment: Arc<Deployment>) -> anyhow::Result<()> {
    for prefix in ["", "/v1"] {
        let client = ApiClient::new(&format!("{}{prefix}", deployment.api()), "").with_key(None);
        for (path, content_type) in [
            ("/healthz", "application/json"),
            ("/readyz", "application/json"),
            ("/openapi.json", "application/json"),
            ("/docs", "text/html; charset=utf-8"),
        ] {
            let answer = client.get(path).await?.expect(200)?;
            ensure!(
                answer.header("content-type") == content_type,
                "{path}: {:?}",
                answer.headers
            );
            ensure!(answer.header("x-content-type-options") == "nosniff");
            let head = client
                .send(client.request(Method::HEAD, path))
                .await?
                .expect(200)?;
            ensure!(head.header("content-type") == content_type);
            // A bad key makes no difference here either.
            client
                .with_key(Some("hk_nobody"))
                .get(path)
                .await?
                .expect(200)?;
        }
        ensure!(client.get("/healthz").await?.json == json!({"status": "ok"}));
        ensure!(client.get("/readyz").await?.json == json!({"status": "ready"}));
        client.get("/metrics").await?.problem(404)?;
    }
    Ok(())
}

async fn the_document_names_every_call(deployment: Arc<Deployment>) -> anyhow::Result<()> {
    let client = ApiClient::new(&deployment.api(), "").with_key(None);
    let document = client.get("/openapi.json").await?.expect(200)?.json;
    ensure!(
        document["openapi"]
            .as_str()
            .is_some_and(|version| version.starts_with("3.1"))
    );
    let mut calls = BTreeSet::new();
    for (path, item) in document["paths"].as_object().context("paths")? {
        for (method, operation) in item.as_object().context("operations")? {
            let open = operation["security"] == json!([]);
            let answers = operation["responses"].as_object().context("responses")?;
            ensure!(
                open != answers.contains_key("401"),
                "{method} {path} does not say 401"
            );
            calls.insert(format!(
                "{method} {path}{}",
                if open { " open" } else { "" }
            ));
        }
    }
    for call in [
        "delete /webhooks/{id}",
        "delete /replays/{id}",
        "get /deliveries/{id}",
        "get /docs open",
        "get /events/{event_id}",
        "get /healthz open",
        "get /openapi.json open",
        "get /readyz open",
        "get /replays/{id}",
        "get /webhooks",
        "get /webhooks/logs/all",
        "get /webhooks/{id}",
        "get /webhooks/{id}/deliveries",
        "get /webhooks/{id}/logs",
        "patch /webhooks/{id}",
        "post /deliveries/{id}/cancel",
        "post /deliveries/{id}/retry",
        "get /replays",
        "post /events",
        "post /replays",
        "post /webhooks",
        "post /webhooks/{id}/replay",
        "post /webhooks/{id}/replay-missing",
        "post /webhooks/{id}/secret/rotate",
        "post /webhooks/{id}/test",
    ] {
        ensure!(calls.contains(call), "{call} is not among {calls:?}");
    }
    references_hold(&document, &document)
}

/// Every `$ref` leads somewhere inside the document.
fn references_hold(document: &Value, part: &Value) -> anyhow::Result<()> {
    match part {
        Value::Object(members) => {
            if let Some(reference) = members.get("$ref").and_then(Value::as_str) {
                let pointer = reference
                    .strip_prefix('#')
                    .context("a reference to elsewhere")?;
                document
                    .pointer(pointer)
                    .with_context(|| format!("{reference} leads nowhere"))?;
            }
            members
                .values()
                .try_for_each(|member| references_hold(document, member))
        }
        Value::Array(items) => items
            .iter()
            .try_for_each(|item| references_hold(document, item)),
        _ => Ok(()),
    }
}
