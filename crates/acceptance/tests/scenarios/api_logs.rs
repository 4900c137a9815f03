//! The delivery log: the entry of an attempt, and pagination.

mod filters;
mod large;
mod pages;
mod sent;

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use hookline_acceptance::scenarios;
use hookline_acceptance::suite::SharedScenario;
use hookline_core::timestamp::Timestamp;
use hookline_testkit::deployment::Deployment;
use hookline_testkit::managed_process::free_port;
use hookline_testkit::receiver::{Receiver, Reply};
use hookline_testkit::tenant::Tenant;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use uuid::Uuid;

pub(crate) fn shared() -> Vec<SharedScenario> {
    scenarios![
        a_log_entry_has_every_field_of_an_attempt,
        a_response_body_is_stored_up_to_16_kib_as_text,
        an_attempt_without_a_response_says_why,
        filters::failures_are_found_by_code_kind_time_and_ids,
        large::a_page_is_at_most_one_mebibyte_and_skips_no_row,
        large::a_delivery_shows_its_body_once_and_its_attempts_page_by_page,
        sent::request_headers_are_logged_as_they_were_sent_with_secrets_masked,
        sent::response_headers_are_logged_up_to_8_kib,
        sent::a_request_that_was_not_sent_has_no_headers,
        pages::totals_and_pages_are_exact_under_every_filter,
        pages::a_cursor_continues_where_it_stopped_while_entries_arrive,
        pages::a_page_has_1_to_100_entries,
        pages::the_log_of_a_deleted_subscription_stays_under_all,
    ]
}

async fn a_log_entry_has_every_field_of_an_attempt(
    deployment: Arc<Deployment>,
) -> anyhow::Result<()> {
    let tenant = deployment.tenant().await?;
    let receiver = Receiver::answering(vec![
        Reply::status(500).with_body("no"),
        Reply::status(201).with_body(b"thanks\0\xff".as_slice()),
    ])?;
    let id = tenant
        .subscribe(&receiver, &["workflow.step.failed"])
        .await?;
    let event = tenant.event("workflow.step.failed");
    let body = format!(
        r#"{{"event_id":{},"event_type":"workflow.step.failed","workflow_id":"w","organization_id":"{}","timestamp":"2025-12-21T10:30:00Z","data":{{ "é" : "\u00e9\/", "n":1.50e1 }}}}"#,
        event["event_id"], tenant.organization
    );
    let request = tenant.client.request(reqwest::Method::POST, "/events");
    let request = request
        .header("content-type", "application/json")
        .body(body.clone());
    tenant.client.send(request).await?.expect(202)?;

    let log = tenant.client.wait_for_log(id, 2).await?;
    let received = receiver.received();
    ensure!(log.len() == 2 && received[0].body == body.as_bytes());
    let common = json!({
        "delivery_id": received[0].header("webhook-id")?, "subscription_id": id, "event_id": event["event_id"],
        "event_type": "workflow.step.failed", "url": receiver.url("/hook"), "request_body": body,
        "truncated": false, "remote_address": null,
    });
    let own = [
        json!({
            "attempt": 1, "trigger": "event", "status": "failed", "response_status": 500,
            "response_body": "no", "error": {"kind": "http_status", "message": "the receiver answered 500"},
        }),
        json!({
            "attempt": 2, "trigger": "retry", "status": "success", "response_status": 201,
            "response_body": "thanks\u{fffd}\u{fffd}", "error": null, "next_attempt_at": null,
        }),
    ];
    for (mut entry, own) in log.clone().into_iter().zip(own) {
        let created = Timestamp::parse(entry["created_at"].as_str().context("a time")?)?;
        if let Some(next) = entry["next_attempt_at"].as_str() {
            ensure!(
                Timestamp::parse(next)? > created && next.ends_with('Z'),
                "{entry}"
            );
            entry["next_attempt_at"].take();
        } else {
            ensure!(
                entry["attempt"] == 2,
                "a retry is due and not said: {entry}"
            );
        }
        Uuid::parse_str(entry["id"].as_str().context("an id")?)?;
        ensure!(entry["duration_ms"].is_u64());
        let mut expected = common.clone();
        let expected_fields = expected.as_object_mut().context("fields")?;
        expected_fields.extend(own.as_object().context("fields")?.clone());
        // `sent` looks at the last three.
        for field in [
            "id",
            "created_at",
            "duration_ms",
            "next_attempt_at",
            "request_headers",
            "response_headers",
            "timings",
        ] {
            expected_fields.insert(field.to_owned(), entry[field].clone());
        }
        ensure!(entry == expected, "{entry:#} is not {expected:#}");
    }
    ensure!(
        log[0]["id"] != log[1]["id"]
            && log[0]["created_at"].as_str() < log[1]["created_at"].as_str()
    );
    let all = tenant
        .client
        .get("/webhooks/logs/all")
        .await?
        .expect(200)?
        .json;
    ensure!(
        all["logs"] == json!([log[1], log[0]]) && all["total"] == 2,
        "{all:#}"
    );
    Ok(())
}

async fn a_response_body_is_stored_up_to_16_kib_as_text(
    deployment: Arc<Deployment>,
) -> anyhow::Result<()> {
    const KEPT: usize = 16 * 1024;
    let tenant = deployment.tenant().await?;
    let letters = |count: usize| "a".repeat(count);
    for (answered, kept) in [
        (Vec::new(), String::new()),
        (letters(KEPT).into_bytes(), letters(KEPT)),
        (letters(KEPT + 1).into_bytes(), letters(KEPT)),
        (letters(3 * KEPT).into_bytes(), letters(KEPT)),
        // Cut in the middle of a character.
        (
            (letters(KEPT - 1) + "é").into_bytes(),
            letters(KEPT - 1) + "\u{fffd}",
        ),
        (
            b"a\0b\xffc\xed\xa0\x80".to_vec(),
            "a\u{fffd}b\u{fffd}c\u{fffd}\u{fffd}\u{fffd}".to_owned(),
        ),
    ] {
        let receiver = Receiver::answering(vec![Reply::status(200).with_body(answered)])?;
        let entry = tested(&tenant, &receiver.url("/hook")).await?;
        let body = entry["response_body"].as_str().context("a body")?;
        ensure!(
            body == kept,
            "{} bytes: {:?}…",
            body.len(),
            body.chars().take(20).collect::<String>()
        );
        ensure!(
            entry["status"] == "success" && entry["error"].is_null(),
            "{entry}"
        );
    }
    Ok(())
}

async fn an_attempt_without_a_response_says_why(deployment: Arc<Deployment>) -> anyhow::Result<()> {
    let tenant = deployment.tenant().await?;
    let silent = Receiver::answering(vec![Reply::status(200).after(Duration::from_secs(20))])?;
    let broken = TcpListener::bind("127.0.0.1:0").await?;
    let (broken_port, closed_port) = (broken.local_addr()?.port(), free_port()?);
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = broken.accept().await {
            let _ = stream.read(&mut [0; 4096]).await;
            let _ = stream
                .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nfive.")
                .await;
        }
    });
    let redirecting = Receiver::answering(vec![
        Reply::status(302).with_header("location", "/elsewhere"),
    ])?;
    let cases = [
        (silent.url("/hook"), "timeout", Value::Null),
        (
            format!("http://127.0.0.1:{closed_port}/"),
            "connect",
            Value::Null,
        ),
        ("http://nowhere.invalid/".to_owned(), "dns", Value::Null),
        (
            silent.url("/").replace("http://", "https://"),
            "tls",
            Value::Null,
        ),
        (
            format!("https://127.0.0.1:{broken_port}/"),
            "tls",
            Value::Null,
        ),
        (
            format!("http://127.0.0.1:{broken_port}/"),
            "response",
            json!(200),
        ),
        (redirecting.url("/hook"), "http_status", json!(302)),
    ];
    for (url, kind, status) in cases {
        let entry = tested(&tenant, &url).await?;
        ensure!(
            entry["status"] == "failed" && entry["error"]["kind"] == kind,
            "{url}: {entry}"
        );
        ensure!(entry["response_status"] == status, "{url}: {entry}");
        ensure!(
            entry["response_body"].is_null() == (kind != "http_status"),
            "{url}: {entry}"
        );
        let error = entry["error"].as_object().context("an error")?;
        let message = error["message"].as_str().context("a message")?;
        ensure!(
            error.len() == 2 && !message.is_empty() && !message.contains("127.0.0.1"),
            "{message}"
        );
        let leads_elsewhere = message.contains("/elsewhere; redirects are not followed");
        ensure!((kind == "http_status") == leads_elsewhere, "{message}");
    }
    Ok(())
}

/// The entry of one test to a subscription of its own.
async fn tested(tenant: &Tenant<'_>, url: &str) -> anyhow::Result<Value> {
    let body = json!({"name": "n", "url": url, "events": ["workflow.started"]});
    let id = tenant.client.subscribe(&body).await?;
    tenant
        .client
        .post(&format!("/webhooks/{id}/test"), &json!({}))
        .await?
        .expect(202)?;
    Ok(tenant.client.wait_for_log(id, 1).await?.swap_remove(0))
}
