//! Numbers over the API: counts of attempts and deliveries over time, and what is pending.

use std::sync::Arc;

use anyhow::{Context as _, ensure};
use hookline_acceptance::scenarios;
use hookline_acceptance::suite::SharedScenario;
use hookline_testkit::client::ApiClient;
use hookline_testkit::deployment::Deployment;
use hookline_testkit::receiver::{ReceivedRequest, Receiver, Reply};
use hookline_testkit::tenant::Tenant;
use hookline_testkit::waiting;
use serde_json::{Value, json};

pub(crate) fn shared() -> Vec<SharedScenario> {
    scenarios![numbers_are_those_of_the_log]
}

fn answer(request: &ReceivedRequest, _: usize) -> Reply {
    match request.header("x-webhook-event") {
        Ok("workflow.started") => Reply::status(429).with_header("retry-after", "600"),
        _ => Reply::status(200),
    }
}

async fn numbers_are_those_of_the_log(deployment: Arc<Deployment>) -> anyhow::Result<()> {
    let tenant = deployment.tenant().await?;
    let client = &tenant.client;
    let receiver = Receiver::with(answer)?;
    let id = tenant
        .subscribe(&receiver, &["workflow.completed", "workflow.started"])
        .await?;
    for event_type in [
        "workflow.completed",
        "workflow.completed",
        "workflow.started",
    ] {
        tenant.publish_one(event_type).await?;
    }
    let log = client.wait_for_log(id, 3).await?;
    let all = stats(client, "step=1m").await?;
    let [series] = &series_of(&all)?[..] else {
        anyhow::bail!("{all:#}")
    };
    let total = &series["total"];
    let expected = json!({
        "attempts": log.len(), "failed_attempts": 1, "delivered": 2, "exhausted": 0, "skipped": 0, "cancelled": 0,
    });
    for (field, value) in expected.as_object().context("fields")? {
        ensure!(total[field] == *value, "{field}: {total:#}");
    }
    let points = series["points"].as_array().context("points")?;
    ensure!(points.len() >= 60, "an hour of minutes: {}", points.len());
    let sum: u64 = points
        .iter()
        .filter_map(|point| point["attempts"].as_u64())
        .sum();
    ensure!(sum == 3, "{series:#}");
    percentiles_are_of_the_log(total, &log)?;
    let current = &all["current"];
    ensure!(
        current["pending"] == 1 && current["capped"] == false,
        "{current}"
    );
    let waiting = json!([{"waiting_for": "retry", "deliveries": 1}]);
    ensure!(current["waiting"] == waiting, "{current}");
    ensure!(current["oldest_due_at"].is_null(), "{current}");
    groups_add_up(client, id).await?;
    an_inactive_subscription_skips(&tenant, id).await
}

async fn stats(client: &ApiClient, query: &str) -> anyhow::Result<Value> {
    let answer = client.get(&format!("/stats?{query}")).await?;
    Ok(answer.expect(200)?.json)
}

fn series_of(stats: &Value) -> anyhow::Result<Vec<Value>> {
    Ok(stats["series"].as_array().context("series")?.clone())
}

/// The median lies between the fastest and the slowest attempt, or in the bucket of one of them.
fn percentiles_are_of_the_log(total: &Value, log: &[Value]) -> anyhow::Result<()> {
    let durations = log.iter().filter_map(|entry| entry["duration_ms"].as_f64());
    let (fastest, slowest) = durations.fold((f64::MAX, 0.0_f64), |(low, high), one| {
        (low.min(one), high.max(one))
    });
    let median = total["duration_ms"]["p50"].as_f64().context("a median")?;
    ensure!(
        median >= fastest / 2.5 - 1.0 && median <= slowest * 2.5 + 1.0,
        "{median} of {fastest} to {slowest}"
    );
    ensure!(total["latency_ms"]["p99"].as_f64().is_some(), "{total}");
    Ok(())
}

async fn groups_add_up(client: &ApiClient, id: i64) -> anyhow::Result<()> {
    for (group_by, expected) in [
        ("code_class", vec![(json!("2xx"), 2), (json!("4xx"), 1)]),
        (
            "outcome",
            vec![(json!("delivered"), 2), (json!("retried"), 1)],
        ),
        (
            "error_kind",
            vec![(json!("none"), 2), (json!("http_status"), 1)],
        ),
        (
            "event_type",
            vec![
                (json!("workflow.completed"), 2),
                (json!("workflow.started"), 1),
            ],
        ),
        ("subscription_id", vec![(json!(id), 3)]),
    ] {
        let grouped = stats(client, &format!("group_by={group_by}&subscription_id={id}")).await?;
        ensure!(grouped["group_by"] == group_by);
        let found: Vec<(Value, u64)> = series_of(&grouped)?
            .iter()
            .map(|one| {
                let attempts = one["total"]["attempts"].as_u64().unwrap_or_default();
                (one[group_by].clone(), attempts)
            })
            .collect();
        ensure!(found == expected, "{group_by}: {found:?}");
    }
    Ok(())
}

async fn an_inactive_subscription_skips(tenant: &Tenant<'_>, id: i64) -> anyhow::Result<()> {
    let client = &tenant.client;
    let path = format!("/webhooks/{id}");
    let off = json!({"is_active": false});
    client.patch(&path, &off).await?.expect(200)?;
    tenant.publish_one("workflow.completed").await?;
    // The new event is skipped with its intake. The delivery that waited is no longer pending.
    waiting::until("the skipped delivery", async || {
        let all = stats(client, "").await?;
        let is_counted = all["series"][0]["total"]["skipped"] == 1;
        Ok((is_counted && all["current"]["pending"] == 0).then_some(()))
    })
    .await
}
