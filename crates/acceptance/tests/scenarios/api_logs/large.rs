//! Answers that would be large: a page is at most 1 MiB, and so is a delivery with its attempts.

use std::sync::Arc;

use anyhow::{Context as _, ensure};
use hookline_testkit::client::{ApiClient, ApiResponse};
use hookline_testkit::deployment::Deployment;
use hookline_testkit::receiver::{Receiver, Reply};
use hookline_testkit::waiting::until;
use serde_json::{Value, json};

const MIB: usize = 1024 * 1024;

/// A little less than an event may have.
const BODY: usize = 250 * 1024;

/// The bytes of a receiver's answer that are kept. As JSON a control character takes six times as much.
const ANSWER: usize = 16 * 1024;

fn bounded(answer: ApiResponse) -> anyhow::Result<Value> {
    let answer = answer.expect(200)?;
    let size: usize = answer.header("content-length").parse()?;
    ensure!(size <= MIB, "{size} bytes");
    Ok(answer.json)
}

fn logs(page: &Value) -> anyhow::Result<Vec<Value>> {
    Ok(page["logs"].as_array().context("a log")?.clone())
}

pub(super) async fn a_page_is_at_most_one_mebibyte_and_skips_no_row(
    deployment: Arc<Deployment>,
) -> anyhow::Result<()> {
    const EVENTS: usize = 12;
    let tenant = deployment.tenant().await?;
    let client = &tenant.client;
    let receiver = Receiver::healthy()?;
    let id = tenant.subscribe(&receiver, &["workflow.failed"]).await?;
    for _ in 0..EVENTS {
        let mut event = tenant.event("workflow.failed");
        event["data"] = json!({"padding": "ä".repeat(BODY / 2)});
        tenant.publish(&[event]).await?;
    }
    receiver.wait_for(EVENTS).await?;
    let path = format!("/webhooks/{id}/logs");
    let page = until("the whole log", async || {
        let page = client.get(&format!("{path}?limit=100")).await?;
        let page = bounded(page)?;
        Ok((logs(&page)?.len() == EVENTS).then_some(page))
    })
    .await?;
    let by_offset = logs(&page)?;
    ensure!(page["next_cursor"].is_null(), "all of them are on the page");
    let whole = by_offset.iter().filter(|row| row["truncated"] == false);
    let whole = whole.count();
    ensure!((1..EVENTS).contains(&whole), "{whole} of {EVENTS}");
    for row in &by_offset {
        let text = row["request_body"].as_str().context("a body")?;
        let shown = whole_body(client, row).await?;
        ensure!(shown.len() > BODY && shown.starts_with(text));
        ensure!((text == shown) == (row["truncated"] == false));
    }
    let by_cursor = through_cursors(client, &path, &by_offset[0]).await?;
    ensure!(by_cursor.len() == EVENTS - 1, "{}", by_cursor.len());
    for (row, other) in by_cursor.iter().zip(&by_offset[1..]) {
        ensure!(row["id"] == other["id"] && row["truncated"] == false);
    }
    Ok(())
}

async fn whole_body(client: &ApiClient, row: &Value) -> anyhow::Result<String> {
    let delivery = row["delivery_id"].as_str().context("a delivery")?;
    let shown = bounded(client.get(&format!("/deliveries/{delivery}")).await?)?;
    Ok(shown["request_body"].as_str().context("a body")?.to_owned())
}

/// All rows behind the first one, page by page.
async fn through_cursors(
    client: &ApiClient,
    path: &str,
    first: &Value,
) -> anyhow::Result<Vec<Value>> {
    let page = bounded(client.get(&format!("{path}?limit=1")).await?)?;
    ensure!(logs(&page)?[0]["id"] == first["id"]);
    let mut next = page["next_cursor"].clone();
    let mut rows = Vec::new();
    while let Some(cursor) = next.as_str() {
        let page = format!("{path}?limit=100&cursor={cursor}");
        let page = bounded(client.get(&page).await?)?;
        rows.extend(logs(&page)?);
        next = page["next_cursor"].clone();
    }
    Ok(rows)
}

pub(super) async fn a_delivery_shows_its_body_once_and_its_attempts_page_by_page(
    deployment: Arc<Deployment>,
) -> anyhow::Result<()> {
    const ATTEMPTS: usize = 16;
    let tenant = deployment.tenant().await?;
    let client = &tenant.client;
    let receiver = Receiver::with(|_, _| Reply::status(200).with_body(vec![1; ANSWER]))?;
    let id = tenant.subscribe(&receiver, &["workflow.failed"]).await?;
    let mut event = tenant.event("workflow.failed");
    event["data"] = json!({"padding": "x".repeat(BODY)});
    tenant.publish(&[event]).await?;
    let log = client.wait_for_log(id, 1).await?;
    let delivery = log[0]["delivery_id"].as_str().context("an id")?;
    let path = format!("/deliveries/{delivery}");
    for made in 2..=ATTEMPTS {
        let retry = client.post(&format!("{path}/retry"), &json!({})).await?;
        retry.expect(202)?;
        until("the attempt to be made", async || {
            let shown = bounded(client.get(&path).await?)?;
            Ok((shown["attempts_made"] == made && shown["status"] == "delivered").then_some(()))
        })
        .await?;
    }
    let mut numbers = Vec::new();
    let mut pages = 0;
    let mut next = format!("{path}?attempts_limit=100");
    loop {
        let shown = bounded(client.get(&next).await?)?;
        let body = shown["request_body"].as_str().context("a body")?;
        ensure!(body.len() > BODY);
        for attempt in shown["attempts"].as_array().context("attempts")? {
            let response_body = attempt["response_body"].as_str().context("an answer")?;
            ensure!(response_body.len() == ANSWER && attempt.get("request_body").is_none());
            numbers.push(attempt["attempt"].as_u64().context("a number")?);
        }
        pages += 1;
        let Some(cursor) = shown["next_attempts_cursor"].as_str() else {
            break;
        };
        next = format!("{path}?attempts_limit=100&attempts_cursor={cursor}");
    }
    let all: Vec<u64> = (1..=ATTEMPTS as u64).rev().collect();
    ensure!(numbers == all && pages > 1, "{numbers:?} on {pages} pages");
    let few = client.get(&format!("{path}?attempts_limit=2")).await?;
    ensure!(bounded(few)?["attempts"].as_array().map(Vec::len) == Some(2));
    let bad = format!("{path}?attempts_limit=0&attempts_cursor=x&limit=1");
    let bad = client.get(&bad).await?.problem(422)?;
    ensure!(bad.bad_fields() == ["attempts_limit", "attempts_cursor", "limit"]);
    Ok(())
}
