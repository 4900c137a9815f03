//! Targets that lead inside, receivers that mean harm, and rows that a database would not take.
//! Each costs one logged attempt, and other customers nothing.

mod answers;
mod circles;
mod memory;
mod rates;
mod rows;
mod targets;

use hookline_acceptance::scenarios;
use hookline_acceptance::suite::{IsolatedScenario, SharedScenario};
use hookline_testkit::deployment::Deployment;
use hookline_testkit::tenant::Tenant;
use serde_json::{Value, json};

pub(crate) fn shared() -> Vec<SharedScenario> {
    scenarios![
        answers::endless_heads_and_broken_ones_are_response_errors_at_once,
        answers::a_receiver_that_closes_at_any_stage_is_logged,
        answers::a_compressed_response_is_not_decompressed,
        circles::a_subscription_to_our_own_api_makes_no_loop,
        rows::a_row_that_the_database_rejects_fails_no_other,
    ]
}

pub(crate) fn isolated() -> Vec<IsolatedScenario> {
    scenarios![
        targets::names_and_certificates_are_checked_when_they_are_dialled,
        memory::hostile_receivers_use_little_memory,
        rates::test_deliveries_are_rate_limited_by_origin_and_organization,
    ]
}

/// One subscription to `workflow.completed` for each of these URLs, in their order.
async fn subscribe_all(tenant: &Tenant<'_>, urls: &[String]) -> anyhow::Result<Vec<i64>> {
    let mut subscriptions = Vec::new();
    for url in urls {
        let body = json!({"name": "hostile", "url": url, "events": ["workflow.completed"]});
        subscriptions.push(tenant.client.subscribe(&body).await?);
    }
    Ok(subscriptions)
}

/// One test event to each of these URLs, which is not retried: a flood costs the machine enough.
/// Answers with the log entries, in their order.
async fn tests(deployment: &Deployment, urls: &[String]) -> anyhow::Result<Vec<Value>> {
    let tenant = deployment.tenant().await?;
    let mut entries = Vec::new();
    for subscription in subscribe_all(&tenant, urls).await? {
        let test = format!("/webhooks/{subscription}/test");
        tenant.client.post(&test, &json!({})).await?.expect(202)?;
        entries.push(tenant.client.wait_for_log(subscription, 1).await?.remove(0));
    }
    Ok(entries)
}

/// One event to each of these URLs; answers with the first log entry of each, in their order.
async fn first_attempts(deployment: &Deployment, urls: &[String]) -> anyhow::Result<Vec<Value>> {
    let tenant = deployment.tenant().await?;
    let subscriptions = subscribe_all(&tenant, urls).await?;
    tenant.publish_one("workflow.completed").await?;
    let mut entries = Vec::new();
    for subscription in subscriptions {
        entries.push(tenant.client.wait_for_log(subscription, 1).await?.remove(0));
    }
    Ok(entries)
}

/// The fields of a log entry: its status, the kind of its error, and the receiver's status.
fn outcome_of(entry: &Value) -> (&str, Option<&str>, Option<u64>) {
    (
        entry["status"].as_str().unwrap_or_default(),
        entry["error"]["kind"].as_str(),
        entry["response_status"].as_u64(),
    )
}
