//! Refused requests and their problem documents.

use std::sync::Arc;

use anyhow::{Context as _, ensure};
use hookline_acceptance::scenarios;
use hookline_acceptance::suite::SharedScenario;
use hookline_testkit::client::{ApiClient, ApiResponse};
use hookline_testkit::deployment::Deployment;
use reqwest::Method;
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

pub(crate) fn shared() -> Vec<SharedScenario> {
    scenarios![
        malformed_json_is_400_and_json_of_another_shape_422,
        a_body_must_say_that_it_is_json,
        a_body_that_is_too_large_is_413,
        an_unknown_path_is_404_and_a_wrong_method_405,
        a_malformed_id_is_404,
        requests_sent_by_hookline_are_refused_with_508,
    ]
}

async fn malformed_json_is_400_and_json_of_another_shape_422(
    deployment: Arc<Deployment>,
) -> anyhow::Result<()> {
    let tenant = deployment.tenant().await?;
    let client = &tenant.client;
    let one = format!("/webhooks/{}", client.subscribe(&subscription()).await?);
    let deep = vec![b'['; 50_000];
    for (method, path) in [
        (Method::POST, "/webhooks"),
        (Method::PATCH, &one),
        (Method::POST, "/events"),
    ] {
        for bad in [
            b"".as_slice(),
            b"{",
            b"{} {}",
            b"{'name':1}",
            b"[1,]",
            b"nope",
            b"{\"name\":\"\xff\"}",
            &deep,
        ] {
            let answer = sent(client, &method, path, bad.to_vec()).await?;
            let shown = String::from_utf8_lossy(&bad[..bad.len().min(20)]).into_owned();
            answer
                .problem(400)
                .with_context(|| format!("{method} {path} of {shown}"))?;
        }
        for other in ["[]", "1", "null", "\"a\"", "true"] {
            sent(client, &method, path, other.into())
                .await?
                .problem(422)?;
        }
    }
    Ok(())
}

async fn a_body_must_say_that_it_is_json(deployment: Arc<Deployment>) -> anyhow::Result<()> {
    let tenant = deployment.tenant().await?;
    let client = &tenant.client;
    for path in ["/webhooks", "/events"] {
        let typed = |content_type: &str| {
            let request = client.request(Method::POST, path).body("{}");
            client.send(request.header("content-type", content_type))
        };
        for bad in [
            "text/plain",
            "application/problem+json",
            "application/x-www-form-urlencoded",
            "",
        ] {
            typed(bad).await?.problem(415)?;
        }
        for good in ["application/json", "APPLICATION/JSON; charset=utf-8"] {
            typed(good).await?.problem(422)?;
        }
        let untyped = client.request(Method::POST, path).body("{}");
        client.send(untyped).await?.problem(415)?;
        let packed = client
            .request(Method::POST, path)
            .json(&json!({}))
            .header("content-encoding", "gzip");
        client.send(packed).await?.problem(415)?;
    }
    Ok(())
}

async fn a_body_that_is_too_large_is_413(deployment: Arc<Deployment>) -> anyhow::Result<()> {
    let tenant = deployment.tenant().await?;
    let client = &tenant.client;
    let one = format!("/webhooks/{}", client.subscribe(&subscription()).await?);
    let padded = |mut body: Vec<u8>, bytes: usize| {
        body.resize(bytes, b' ');
        body
    };
    for (method, path) in [(Method::POST, "/webhooks"), (Method::PATCH, &one)] {
        let body = subscription().to_string().into_bytes();
        let answer = sent(client, &method, path, padded(body.clone(), 64 * 1024)).await?;
        ensure!(answer.status.is_success(), "{answer:?}");
        sent(client, &method, path, padded(body, 64 * 1024 + 1))
            .await?
            .problem(413)?;
    }
    let event = tenant.event("workflow.started").to_string().into_bytes();
    let largest = padded(event.clone(), 8 * 1024 * 1024);
    sent(client, &Method::POST, "/events", largest)
        .await?
        .expect(202)?;
    let too_large = padded(event, 8 * 1024 * 1024 + 1);
    sent(client, &Method::POST, "/events", too_large)
        .await?
        .problem(413)?;

    // One that says that it is too large is answered before it is sent.
    let key = deployment.key(&["--org", &tenant.organization]).await?;
    let mut wire = TcpStream::connect(deployment.api().trim_start_matches("http://")).await?;
    let head = format!(
        "POST /v1/events HTTP/1.1\r\nhost: a\r\nauthorization: Bearer {key}\r\n\
         content-type: application/json\r\ncontent-length: 8388609\r\n\r\n"
    );
    wire.write_all(head.as_bytes()).await?;
    let mut start = [0; 12];
    wire.read_exact(&mut start).await?;
    ensure!(
        &start == b"HTTP/1.1 413",
        "{}",
        String::from_utf8_lossy(&start)
    );
    Ok(())
}

async fn an_unknown_path_is_404_and_a_wrong_method_405(
    deployment: Arc<Deployment>,
) -> anyhow::Result<()> {
    let tenant = deployment.tenant().await?;
    let client = tenant.client.at(&deployment.api());
    for path in [
        "/v1",
        "/v1/",
        "/nope",
        "/v1/webhooks/",
        "/v2/webhooks",
        "/webhooks/1/2/3",
        "/v1/v1/webhooks",
        "//webhooks",
    ] {
        client.get(path).await?.problem(404).context(path)?;
    }
    let id = client.subscribe(&subscription()).await?;
    for prefix in ["", "/v1"] {
        for (path, allow) in [
            ("/webhooks".to_owned(), "GET, HEAD, POST, OPTIONS"),
            (
                format!("/webhooks/{id}"),
                "GET, HEAD, PATCH, DELETE, OPTIONS",
            ),
            (format!("/webhooks/{id}/logs"), "GET, HEAD, OPTIONS"),
            (format!("/webhooks/{id}/deliveries"), "GET, HEAD, OPTIONS"),
            (format!("/deliveries/{id}"), "GET, HEAD, OPTIONS"),
            ("/events/evt_1".to_owned(), "GET, HEAD, OPTIONS"),
            (format!("/webhooks/{id}/test"), "POST, OPTIONS"),
            ("/webhooks/logs/all".to_owned(), "GET, HEAD, OPTIONS"),
            ("/events".to_owned(), "GET, HEAD, POST, OPTIONS"),
            ("/healthz".to_owned(), "GET, HEAD, OPTIONS"),
        ] {
            let request = client.request(Method::PUT, &format!("{prefix}{path}"));
            let answer = client.send(request.json(&json!({}))).await?.problem(405)?;
            ensure!(
                answer.header("allow") == allow,
                "{path}: {:?}",
                answer.headers
            );
        }
    }
    client.get(&format!("/webhooks/{id}")).await?.expect(200)?;
    Ok(())
}

async fn a_malformed_id_is_404(deployment: Arc<Deployment>) -> anyhow::Result<()> {
    let tenant = deployment.tenant().await?;
    let client = &tenant.client;
    for id in [
        "0",
        "-1",
        "+1",
        "1.0",
        "1e3",
        "x",
        "9223372036854775807",
        "9223372036854775808",
        "99999999999999999999",
        "%00",
        "%20",
        "1%20",
        "null",
        "logs",
        "%F0%9F%98%80",
    ] {
        let one = format!("/webhooks/{id}");
        for path in [
            one.clone(),
            format!("{one}/logs"),
            format!("{one}/logs?limit=1"),
        ] {
            client.get(&path).await?.problem(404).context(path)?;
        }
        client.patch(&one, &json!({})).await?.problem(404)?;
        client.delete(&one).await?.problem(404)?;
        client
            .post(&format!("{one}/test"), &json!({}))
            .await?
            .problem(404)?;
    }
    Ok(())
}

async fn requests_sent_by_hookline_are_refused_with_508(
    deployment: Arc<Deployment>,
) -> anyhow::Result<()> {
    let tenant = deployment.tenant().await?;
    let client = tenant.client.at(&deployment.api());
    for (method, path) in [
        (Method::POST, "/v1/events"),
        (Method::POST, "/webhooks"),
        (Method::GET, "/webhooks"),
        (Method::POST, "/nowhere"),
    ] {
        let request = client
            .request(method, path)
            .header("webhook-id", "a")
            .json(&json!({}));
        client.send(request).await?.problem(508)?;
    }
    // A subscription that points at the API is told so, and nothing goes round.
    let id = client
        .subscribe(&json!({
            "name": "round", "url": format!("{}/v1/events", deployment.api()), "events": ["workflow.failed"],
            "headers": {"Authorization": "Bearer whatever"},
        }))
        .await?;
    client
        .post(&format!("/webhooks/{id}/test"), &json!({}))
        .await?
        .expect(202)?;
    let log = client.wait_for_log(id, 1).await?;
    ensure!(
        log[0]["response_status"] == 508 && log[0]["status"] == "failed",
        "{log:?}"
    );
    Ok(())
}

async fn sent(
    client: &ApiClient,
    method: &Method,
    path: &str,
    body: Vec<u8>,
) -> anyhow::Result<ApiResponse> {
    let request = client.request(method.clone(), path);
    client
        .send(
            request
                .header("content-type", "application/json")
                .body(body),
        )
        .await
}

fn subscription() -> serde_json::Value {
    json!({"name": "n", "url": "https://example.com/h", "events": ["workflow.failed"]})
}
