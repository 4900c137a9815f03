//! A receiver that misbehaves costs an attempt. The log says what the receiver did, and never its address.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use hookline_acceptance::scenarios;
use hookline_acceptance::suite::SharedScenario;
use hookline_testkit::deployment::Deployment;
use hookline_testkit::managed_process::free_port;
use hookline_testkit::raw_receiver::{RawReceiver, read_request};
use hookline_testkit::receiver::{Receiver, Reply};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

pub(crate) fn shared() -> Vec<SharedScenario> {
    scenarios![
        a_response_after_the_deadline_is_a_timeout,
        an_endless_response_body_counts_after_16_kib,
        a_truncated_or_malformed_response_is_a_response_error,
        an_unreachable_endpoint_is_logged_with_its_kind_of_error,
        any_status_other_than_2xx_is_a_logged_failure,
        interim_answers_without_end_are_a_failure,
        a_receiver_that_hangs_up_between_requests_loses_nothing,
    ]
}

/// The deadline that the harness sets.
const DEADLINE_MS: u64 = 3_000;

/// One event to each of these URLs; answers with the first log entry of each, in their order.
async fn first_attempts(deployment: &Deployment, urls: &[String]) -> anyhow::Result<Vec<Value>> {
    let tenant = deployment.tenant().await?;
    let mut subscriptions = Vec::new();
    for url in urls {
        let body = json!({"name": "trouble", "url": url, "events": ["workflow.completed"]});
        subscriptions.push(tenant.client.subscribe(&body).await?);
    }
    tenant.publish_one("workflow.completed").await?;
    let mut entries = Vec::new();
    for (subscription, url) in subscriptions.into_iter().zip(urls) {
        let entry = tenant.client.wait_for_log(subscription, 1).await?.remove(0);
        let message = entry["error"]["message"].as_str().unwrap_or_default();
        let mut names = vec!["127.0.0.1", "localhost", "::1", "os error", "no-such-name"];
        let port = url
            .rsplit(':')
            .next()
            .and_then(|rest| rest.split('/').next());
        names.extend(port.filter(|port| port.parse::<u16>().is_ok()));
        ensure!(
            !names.iter().any(|name| message.contains(name)),
            "{message:?} says where"
        );
        entries.push(entry);
    }
    Ok(entries)
}

fn ensure_failed(entry: &Value, kind: &str, status: Option<u16>) -> anyhow::Result<()> {
    ensure!(entry["status"] == "failed", "{entry}");
    ensure!(entry["error"]["kind"] == kind, "no {kind}: {entry}");
    ensure!(entry["error"]["message"] != "", "{entry}");
    ensure!(entry["response_status"] == json!(status), "{entry}");
    ensure!(!entry["next_attempt_at"].is_null(), "{entry}");
    Ok(())
}

/// Sends `first`, then one byte every 100 ms for as long as the connection lasts.
async fn trickle(mut connection: TcpStream, first: &str) -> anyhow::Result<()> {
    read_request(&mut connection).await?;
    connection.write_all(first.as_bytes()).await?;
    loop {
        tokio::time::sleep(Duration::from_millis(100)).await;
        connection.write_all(b"x").await?;
    }
}

async fn a_response_after_the_deadline_is_a_timeout(
    deployment: Arc<Deployment>,
) -> anyhow::Result<()> {
    let silent = RawReceiver::with(|mut connection| async move {
        read_request(&mut connection).await?;
        // Reads until the other side gives up.
        connection.read_to_end(&mut Vec::new()).await?;
        Ok(())
    })
    .await?;
    let slow_head =
        RawReceiver::with(|connection| trickle(connection, "HTTP/1.1 200 OK\r\nX: ")).await?;
    let slow_body = RawReceiver::with(|connection| {
        trickle(
            connection,
            "HTTP/1.1 200 OK\r\nContent-Length: 9999\r\n\r\n",
        )
    })
    .await?;
    let no_tls = RawReceiver::with(|mut connection| async move {
        connection.read_to_end(&mut Vec::new()).await?;
        Ok(())
    })
    .await?;
    let urls = [
        silent.url(),
        slow_head.url(),
        slow_body.url(),
        format!("https://127.0.0.1:{}/", no_tls.port()),
    ];
    let entries = first_attempts(&deployment, &urls).await?;
    for (entry, status) in entries.iter().zip([None, None, Some(200), None]) {
        ensure_failed(entry, "timeout", status)?;
        let duration = entry["duration_ms"].as_u64().context("no duration")?;
        ensure!(
            (DEADLINE_MS - 100..DEADLINE_MS + 2_000).contains(&duration),
            "{duration} ms"
        );
    }
    Ok(())
}

async fn an_endless_response_body_counts_after_16_kib(
    deployment: Arc<Deployment>,
) -> anyhow::Result<()> {
    async fn flood(mut connection: TcpStream, status: u16) -> anyhow::Result<()> {
        read_request(&mut connection).await?;
        let head = format!("HTTP/1.1 {status} So\r\nContent-Type: text/plain\r\n\r\n");
        connection.write_all(head.as_bytes()).await?;
        loop {
            connection.write_all(&[b'y'; 1024]).await?;
        }
    }
    let good = RawReceiver::with(|connection| flood(connection, 200)).await?;
    let bad = RawReceiver::with(|connection| flood(connection, 500)).await?;
    let odd = RawReceiver::answering(
        b"HTTP/1.1 201 Created\r\nContent-Length: 9\r\n\r\na\0b\xffc\xed\xa0\x80d".to_vec(),
    )
    .await?;
    let entries = first_attempts(&deployment, &[good.url(), bad.url(), odd.url()]).await?;
    for entry in &entries[..2] {
        ensure!(entry["response_body"] == "y".repeat(16 * 1024), "{entry}");
        let duration = entry["duration_ms"].as_u64().context("no duration")?;
        ensure!(duration < DEADLINE_MS - 500, "{duration} ms");
    }
    ensure!(entries[0]["status"] == "success", "{}", entries[0]);
    ensure!(entries[0]["response_status"] == 200, "{}", entries[0]);
    ensure_failed(&entries[1], "http_status", Some(500))?;
    ensure!(entries[2]["status"] == "success", "{}", entries[2]);
    let printable = "a\u{fffd}b\u{fffd}c\u{fffd}\u{fffd}\u{fffd}d";
    ensure!(entries[2]["response_body"] == printable, "{}", entries[2]);
    Ok(())
}

async fn a_truncated_or_malformed_response_is_a_response_error(
    deployment: Arc<Deployment>,
) -> anyhow::Result<()> {
    let cases: [(&[u8], Option<u16>); 7] = [
        (b"", None),
        (b"HTTP/1.1 20", None),
        (b"SSH-2.0-OpenSSH_9.2\r\n", None),
        (b"\0\x01\x02\x03garbage\r\n\r\n", None),
        (
            b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nonly this",
            Some(200),
        ),
        (
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
            Some(200),
        ),
        (
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nhello\r\n",
            Some(200),
        ),
    ];
    let mut receivers = Vec::new();
    for (bytes, _) in cases {
        receivers.push(RawReceiver::answering(bytes).await?);
    }
    // Hangs up before it has read anything.
    receivers.push(
        RawReceiver::with(|connection| async move {
            drop(connection);
            Ok(())
        })
        .await?,
    );
    let urls: Vec<_> = receivers.iter().map(RawReceiver::url).collect();
    let entries = first_attempts(&deployment, &urls).await?;
    let statuses = cases.map(|(_, status)| status).into_iter().chain([None]);
    for (entry, status) in entries.iter().zip(statuses) {
        ensure_failed(entry, "response", status)?;
    }
    Ok(())
}

async fn an_unreachable_endpoint_is_logged_with_its_kind_of_error(
    deployment: Arc<Deployment>,
) -> anyhow::Result<()> {
    let plain = Receiver::healthy()?;
    let curt = RawReceiver::with(|connection| async move {
        drop(connection);
        Ok(())
    })
    .await?;
    let closed = free_port()?;
    let urls = [
        format!("http://127.0.0.1:{closed}/"),
        format!("https://127.0.0.1:{closed}/"),
        "http://no-such-name.invalid/".to_owned(),
        "https://no-such-name.invalid/".to_owned(),
        plain.url("/").replace("http:", "https:"),
        curt.url().replace("http:", "https:"),
    ];
    let kinds = ["connect", "connect", "dns", "dns", "tls", "tls"];
    let entries = first_attempts(&deployment, &urls).await?;
    for (entry, kind) in entries.iter().zip(kinds) {
        ensure_failed(entry, kind, None)?;
        ensure!(entry["response_body"].is_null(), "{entry}");
    }
    ensure!(plain.received().is_empty());
    Ok(())
}

async fn any_status_other_than_2xx_is_a_logged_failure(
    deployment: Arc<Deployment>,
) -> anyhow::Result<()> {
    const GOOD: [u16; 4] = [200, 201, 202, 299];
    const BAD: [u16; 8] = [304, 400, 401, 404, 409, 500, 502, 599];
    let receiver = Receiver::with(|request, _| {
        let status = request.path[1..].parse().unwrap_or(418);
        Reply::status(status).with_body("so be it")
    })?;
    let early = RawReceiver::answering(
        "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.0 200 OK\r\n\r\nso be it",
    )
    .await?;
    let mut urls: Vec<_> = GOOD
        .iter()
        .chain(&BAD)
        .map(|status| receiver.url(&format!("/{status}")))
        .collect();
    urls.push(early.url());
    let entries = first_attempts(&deployment, &urls).await?;
    let (answered, early) = entries.split_at(GOOD.len() + BAD.len());
    for (entry, status) in answered.iter().zip(GOOD) {
        ensure!(entry["status"] == "success", "{entry}");
        ensure!(
            entry["error"].is_null() && entry["next_attempt_at"].is_null(),
            "{entry}"
        );
        ensure!(entry["response_status"] == status, "{entry}");
        ensure!(entry["response_body"] == "so be it", "{entry}");
    }
    for (entry, status) in answered[GOOD.len()..].iter().zip(BAD) {
        ensure_failed(entry, "http_status", Some(status))?;
    }
    ensure!(early[0]["response_status"] == 200, "{}", early[0]);
    ensure!(early[0]["response_body"] == "so be it", "{}", early[0]);
    Ok(())
}

async fn interim_answers_without_end_are_a_failure(
    deployment: Arc<Deployment>,
) -> anyhow::Result<()> {
    const EARLY: &[u8] = b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n";
    let endless = RawReceiver::with(|mut connection| async move {
        read_request(&mut connection).await?;
        while connection.write_all(EARLY).await.is_ok() {}
        Ok(())
    })
    .await?;
    let entry = first_attempts(&deployment, &[endless.url()])
        .await?
        .remove(0);
    ensure_failed(&entry, "response", None)?;
    ensure!(
        entry["error"]["message"] == "more than 32 interim answers (1xx)",
        "{entry}"
    );
    Ok(())
}

/// Many servers close a kept connection when they please; the next request must not run into it.
async fn a_receiver_that_hangs_up_between_requests_loses_nothing(
    deployment: Arc<Deployment>,
) -> anyhow::Result<()> {
    const EVENTS: usize = 20;
    let receiver = RawReceiver::answering("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await?;
    let tenant = deployment.tenant().await?;
    let body = json!({"name": "curt", "url": receiver.url(), "events": ["workflow.started"]});
    let subscription = tenant.client.subscribe(&body).await?;
    for count in 1..=EVENTS {
        tenant.publish_one("workflow.started").await?;
        let log = tenant.client.wait_for_log(subscription, count).await?;
        let last = &log[count - 1];
        ensure!(last["status"] == "success", "{last}");
    }
    Ok(())
}
