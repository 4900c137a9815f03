//! How rows are found: each filter of each list.

use std::sync::Arc;

use anyhow::ensure;
use hookline_testkit::deployment::Deployment;
use hookline_testkit::receiver::{Receiver, Reply};
use serde_json::Value;

/// Lists, and the names of their rows.
const LISTS: [(&str, &str); 3] = [
    ("/webhooks/logs/all", "logs"),
    ("/deliveries", "deliveries"),
    ("/events", "events"),
];

pub(super) async fn failures_are_found_by_code_kind_time_and_ids(
    deployment: Arc<Deployment>,
) -> anyhow::Result<()> {
    let (tenant, other) = (deployment.tenant().await?, deployment.tenant().await?);
    let healthy = Receiver::healthy()?;
    let failing = Receiver::answering(vec![Reply::status(503), Reply::status(200)])?;
    let good = tenant.subscribe(&healthy, &["workflow.started"]).await?;
    let bad = tenant.subscribe(&failing, &["workflow.failed"]).await?;
    let mut event = tenant.event("workflow.failed");
    event["workflow_id"] = "wf-found".into();
    tenant.client.post("/events", &event).await?.expect(202)?;
    tenant.publish_one("workflow.started").await?;
    tenant.client.wait_for_log(good, 1).await?;
    tenant.client.wait_for_log(bad, 2).await?;

    let id = event["event_id"].as_str().unwrap_or_default();
    // Rows of the log, deliveries, events. The failure was retried, so no delivery ends with it.
    let cases = [
        (String::new(), [3, 2, 2]),
        ("since=2100-01-01T00:00:00Z".to_owned(), [0, 0, 0]),
        ("until=2100-01-01T00:00:00Z".to_owned(), [3, 2, 2]),
        (format!("event_id={id}"), [2, 1, 1]),
        ("workflow_id=wf-found".to_owned(), [2, 1, 1]),
        (format!("subscription_id={bad}"), [2, 1, 1]),
        ("event_type=workflow.started".to_owned(), [1, 1, 1]),
        ("response_status=5xx".to_owned(), [1, 0, 0]),
        (
            "response_status=503&workflow_id=wf-found".to_owned(),
            [1, 0, 0],
        ),
        ("response_status=200-299".to_owned(), [2, 2, 2]),
        ("error_kind=http_status".to_owned(), [1, 0, 0]),
        ("attempt=2".to_owned(), [1, 1, 1]),
        (format!("attempt=2&subscription_id={good}"), [0, 0, 0]),
        ("min_duration_ms=600000".to_owned(), [0, 0, 0]),
    ];
    for (filter, counts) in cases {
        for ((list, name), count) in LISTS.into_iter().zip(counts) {
            let path = format!("{list}?{filter}");
            let page = tenant.client.get(&path).await?.expect(200)?;
            let rows = page.json[name].as_array().map_or(0, Vec::len);
            ensure!(rows == count, "{path}: {}", page.json);
            ensure!(page.json["searched_until"].is_null(), "{path}");
            let foreign = other.client.get(&path).await?.expect(200)?;
            ensure!(foreign.json[name] == Value::Array(Vec::new()), "{path}");
        }
    }
    for (status, count) in [("delivered", 2), ("exhausted", 0)] {
        for (list, name) in &LISTS[1..] {
            let page = tenant
                .client
                .get(&format!("{list}?status={status}"))
                .await?
                .expect(200)?;
            ensure!(
                page.json[*name].as_array().map(Vec::len) == Some(count),
                "{list} {status}"
            );
        }
    }
    Ok(())
}
