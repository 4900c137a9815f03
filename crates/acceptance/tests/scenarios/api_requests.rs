//! Requests that are repeated, that can be traced, and that come from a page of another origin.

use std::sync::Arc;

use anyhow::{Context as _, ensure};
use hookline_acceptance::scenarios;
use hookline_acceptance::suite::{IsolatedScenario, SharedScenario};
use hookline_testkit::client::ApiClient;
use hookline_testkit::deployment::{Deployment, Mode};
use reqwest::Method;
use serde_json::{Value, json};

pub(crate) fn shared() -> Vec<SharedScenario> {
    scenarios![
        a_repeated_creation_has_one_effect_and_the_first_answer,
        every_answer_and_every_problem_has_the_id_of_its_request,
    ]
}

pub(crate) fn isolated() -> Vec<IsolatedScenario> {
    scenarios![
        only_pages_of_allowed_origins_may_call_the_api,
        the_log_line_of_a_request_has_its_id,
    ]
}

async fn a_repeated_creation_has_one_effect_and_the_first_answer(
    deployment: Arc<Deployment>,
) -> anyhow::Result<()> {
    let tenant = deployment.tenant().await?;
    let client = &tenant.client;
    let body = json!({"name": "n", "url": "https://example.com", "events": ["*"]});
    let post = async |path: &str, body: &Value| {
        let request = client.request(Method::POST, path).json(body);
        client.send(request.header("idempotency-key", "k")).await
    };
    let created = post("/webhooks", &body).await?.expect(201)?;
    let id = created.json["id"].as_i64().context("an id")?;
    let patch = json!({"name": "m"});
    client
        .patch(&format!("/webhooks/{id}"), &patch)
        .await?
        .expect(200)?;
    let again = post("/webhooks", &body).await?.expect(201)?;
    ensure!(again.json == created.json, "{again:?}");
    ensure!(again.header("etag") == created.header("etag"));
    ensure!(again.header("x-request-id") != created.header("x-request-id"));
    let refused = post("/webhooks", &patch).await?.problem(422)?;
    ensure!(!refused.bad_fields().is_empty());
    let mut other = body.clone();
    other["name"] = json!("other");
    let refused = post("/webhooks", &other).await?.problem(422)?;
    ensure!(refused.bad_fields() == ["Idempotency-Key"], "{refused:?}");
    let listed = client.get("/webhooks").await?.expect(200)?.json;
    ensure!(listed["total"] == 1, "{listed}");

    let test = format!("/webhooks/{id}/test");
    let sent = post(&test, &json!({})).await?.expect(202)?;
    ensure!(post(&test, &json!({})).await?.expect(202)?.json == sent.json);
    // A key that another organization or API key uses is another key.
    let stranger = deployment.tenant().await?;
    let request = stranger
        .client
        .request(Method::POST, "/webhooks")
        .json(&other);
    let request = request.header("idempotency-key", "k");
    stranger.client.send(request).await?.expect(201)?;
    Ok(())
}

async fn every_answer_and_every_problem_has_the_id_of_its_request(
    deployment: Arc<Deployment>,
) -> anyhow::Result<()> {
    let tenant = deployment.tenant().await?;
    let longest = "x".repeat(128);
    for (client, method, path, status) in [
        (&tenant.client, Method::GET, "/webhooks", 200),
        (&tenant.client, Method::GET, "/webhooks/1", 404),
        (&tenant.client, Method::GET, "/no/such/path", 404),
        (&tenant.client, Method::PUT, "/webhooks", 405),
        (&tenant.client, Method::OPTIONS, "/webhooks", 204),
        (&tenant.client, Method::POST, "/webhooks", 400),
        (&tenant.client, Method::GET, "/webhooks?limit=0", 422),
        (&tenant.client.with_key(None), Method::GET, "/webhooks", 401),
        (&tenant.client, Method::GET, "/healthz", 200),
    ] {
        let ask = async |id: &str| {
            let request = client.request(method.clone(), path);
            let answer = client.send(request.header("x-request-id", id)).await?;
            match status {
                400.. => answer.problem(status),
                _ => answer.expect(status),
            }
        };
        for id in ["req-7/\"{}\"", &longest] {
            let answer = ask(id).await?;
            ensure!(answer.header("x-request-id") == id, "{path}: {answer:?}");
        }
        let made = ask("not one").await?;
        ensure!(made.header("x-request-id").len() == 36, "{path}: {made:?}");
    }
    Ok(())
}

async fn only_pages_of_allowed_origins_may_call_the_api(mode: Mode) -> anyhow::Result<()> {
    const PAGE: &str = "https://app.example.com";
    let origins = format!("[\"{PAGE}\"]");
    let settings = [("HOOKLINE__API__CORS_ORIGINS", origins.as_str())];
    let deployment = Deployment::start_with(mode, &settings).await?;
    let tenant = deployment.tenant().await?;
    let preflight = async |client: &ApiClient, origin: &str| {
        let request = client
            .request(Method::OPTIONS, "/webhooks?limit=1")
            .header("origin", origin)
            .header("access-control-request-method", "GET")
            .header("access-control-request-headers", "authorization");
        client.send(request).await
    };
    let without_key = tenant.client.with_key(None);
    let allowed = preflight(&without_key, PAGE).await?.expect(204)?;
    ensure!(allowed.header("access-control-allow-origin") == PAGE);
    ensure!(
        allowed
            .header("access-control-allow-headers")
            .contains("Authorization")
    );
    ensure!(
        allowed
            .header("access-control-allow-credentials")
            .is_empty()
    );
    let read = async |origin: &str| {
        let request = tenant.client.request(Method::GET, "/webhooks");
        let answer = tenant.client.send(request.header("origin", origin)).await?;
        answer.expect(200)
    };
    let shown = read(PAGE).await?;
    ensure!(shown.header("access-control-allow-origin") == PAGE);
    ensure!(
        shown
            .header("access-control-expose-headers")
            .contains("X-Request-Id")
    );
    for other in ["https://evil.example", "http://app.example.com", "null"] {
        let hidden = read(other).await?;
        ensure!(
            hidden.header("access-control-allow-origin").is_empty(),
            "{other}"
        );
        let refused = preflight(&without_key, other).await?;
        ensure!(
            refused.header("access-control-allow-origin").is_empty(),
            "{other}"
        );
    }
    deployment.end().await
}

async fn the_log_line_of_a_request_has_its_id(mode: Mode) -> anyhow::Result<()> {
    let settings = [
        ("HOOKLINE__LOG__LEVEL", "debug"),
        ("HOOKLINE__LOG__FORMAT", "json"),
    ];
    let deployment = Deployment::start_with(mode, &settings).await?;
    let tenant = deployment.tenant().await?;
    let request = tenant.client.request(Method::GET, "/webhooks");
    let request = request.header("x-request-id", "traced-request");
    tenant.client.send(request).await?.expect(200)?;
    let output = deployment.output().await;
    let line = output
        .lines()
        .find(|line| line.contains("answered request") && line.contains("traced-request"))
        .context("no line of the request")?;
    let line: Value = serde_json::from_str(line)?;
    ensure!(line["request.id"] == "traced-request", "{line}");
    deployment.end().await
}
