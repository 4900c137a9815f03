//! The headers, the address and the times of an attempt: the log shows them as they were, and masks secrets.

use std::sync::Arc;

use anyhow::{Context as _, ensure};
use hookline_testkit::deployment::Deployment;
use hookline_testkit::raw_receiver::{RawReceiver, read_request};
use hookline_testkit::tenant::Tenant;
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt as _;
use tokio::sync::mpsc;

const MASKED: [&str; 4] = [
    "authorization",
    "x-env",
    "x-webhook-signature",
    "webhook-signature",
];

/// The heads of the requests that a receiver has read.
type Heads = mpsc::UnboundedReceiver<String>;

/// Answers every request on a connection with `answer`.
async fn receiver(answer: Vec<u8>) -> anyhow::Result<(RawReceiver, Heads)> {
    let (sender, heads) = mpsc::unbounded_channel();
    let receiver = RawReceiver::with(move |mut connection| {
        let (heads, answer) = (sender.clone(), answer.clone());
        async move {
            loop {
                let request = String::from_utf8(read_request(&mut connection).await?)?;
                let (head, _) = request.split_once("\r\n\r\n").context("a head")?;
                heads.send(head.to_owned())?;
                connection.write_all(&answer).await?;
            }
        }
    })
    .await?;
    Ok((receiver, heads))
}

/// The log of a subscription with a secret and two headers after so many events.
async fn log_of(
    tenant: &Tenant<'_>,
    receiver: &RawReceiver,
    events: usize,
) -> anyhow::Result<Vec<Value>> {
    let body = json!({
        "name": "sent", "url": receiver.url(), "events": ["workflow.failed"], "secret": "hidden-secret",
        "headers": {"X-Env": "hidden-value", "Authorization": "Bearer hidden-token"},
    });
    let id = tenant.client.subscribe(&body).await?;
    for count in 1..=events {
        tenant.publish_one("workflow.failed").await?;
        tenant.client.wait_for_log(id, count).await?;
    }
    tenant.client.log_of(id).await
}

pub(super) async fn request_headers_are_logged_as_they_were_sent_with_secrets_masked(
    deployment: Arc<Deployment>,
) -> anyhow::Result<()> {
    let answer =
        b"HTTP/1.1 200 OK\r\nServer: s\r\nSet-Cookie: hidden-cookie\r\nX-Echo: hidden-token\r\n\
        X-Raw: \xff\r\nContent-Length: 2\r\n\r\nok";
    let (receiver, mut heads) = receiver(answer.to_vec()).await?;
    let tenant = deployment.tenant().await?;
    let log = log_of(&tenant, &receiver, 3).await?;
    ensure!(log.len() == 3, "{log:?}");
    for entry in &log {
        let head = heads.try_recv()?;
        let mut expected = Vec::new();
        for line in head.lines().skip(1) {
            let (name, value) = line.split_once(": ").context("a header")?;
            let shown = (!MASKED.contains(&name)).then_some(value);
            expected.push(json!({"name": name, "value": shown}));
        }
        ensure!(entry["request_headers"] == json!(expected), "{entry:#}");
        let masked = expected.iter().filter(|header| header["value"].is_null());
        ensure!(masked.count() == MASKED.len(), "{entry:#}");
        let answered = json!([
            {"name": "server", "value": "s"},
            {"name": "set-cookie", "value": null},
            {"name": "x-echo", "value": null},
            {"name": "x-raw", "value": "\u{fffd}"},
            {"name": "content-length", "value": "2"},
        ]);
        ensure!(entry["response_headers"] == answered, "{entry:#}");
        ensure!(!entry.to_string().contains("hidden"), "{entry:#}");
        ensure!(entry["remote_address"].is_null(), "loopback: {entry:#}");
        let times = &entry["timings"];
        ensure!(times["first_byte_ms"].is_u64(), "{entry:#}");
        ensure!(times["total_ms"] == entry["duration_ms"], "{entry:#}");
        ensure!(
            times["dns_ms"].is_null() && times["tls_ms"].is_null(),
            "{entry:#}"
        );
        let path = format!(
            "/deliveries/{}",
            entry["delivery_id"].as_str().context("an id")?
        );
        let shown = tenant.client.get(&path).await?.expect(200)?.json;
        for field in [
            "request_headers",
            "response_headers",
            "remote_address",
            "timings",
        ] {
            ensure!(
                shown["attempts"][0][field] == entry[field],
                "{field}: {shown:#}"
            );
        }
    }
    // Another dispatcher may have sent a later one.
    ensure!(log[0]["timings"]["connect_ms"].is_u64(), "{:#}", log[0]);
    Ok(())
}

pub(super) async fn response_headers_are_logged_up_to_8_kib(
    deployment: Arc<Deployment>,
) -> anyhow::Result<()> {
    const KEPT: usize = 8 * 1024 - "x-a: \r\n".len();
    let long = "\u{e9}".repeat(KEPT);
    let answer = format!("HTTP/1.1 200 OK\r\nX-A: {long}\r\nX-B: 1\r\nContent-Length: 2\r\n\r\nok");
    let (receiver, _heads) = receiver(answer.into_bytes()).await?;
    let tenant = deployment.tenant().await?;
    let log = log_of(&tenant, &receiver, 1).await?;
    // Cut in the middle of a character.
    let kept = "\u{e9}".repeat(KEPT / 2) + "\u{fffd}";
    let expected = json!([{"name": "x-a", "value": kept}]);
    ensure!(log[0]["response_headers"] == expected, "{}", log[0]);
    Ok(())
}

pub(super) async fn a_request_that_was_not_sent_has_no_headers(
    deployment: Arc<Deployment>,
) -> anyhow::Result<()> {
    let tenant = deployment.tenant().await?;
    let unresolved = super::tested(&tenant, "http://nowhere.invalid/").await?;
    ensure!(unresolved["error"]["kind"] == "dns", "{unresolved}");
    ensure!(unresolved["timings"].is_null(), "{unresolved}");
    let duration = unresolved["duration_ms"].as_u64().context("a duration")?;
    ensure!(duration.is_multiple_of(1_000), "{unresolved}");
    let port = super::free_port()?;
    let refused = super::tested(&tenant, &format!("http://127.0.0.1:{port}/")).await?;
    ensure!(refused["error"]["kind"] == "connect", "{refused}");
    ensure!(refused["timings"]["connect_ms"].is_null(), "{refused}");
    ensure!(refused["timings"]["total_ms"].is_u64(), "{refused}");
    for entry in [unresolved, refused] {
        for field in ["request_headers", "response_headers", "remote_address"] {
            ensure!(entry[field].is_null(), "{field}: {entry}");
        }
    }
    Ok(())
}
