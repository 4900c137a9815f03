//! Circles: a subscription that points at our own API would turn each event into the next.

use std::sync::Arc;

use anyhow::ensure;
use hookline_testkit::deployment::Deployment;
use serde_json::json;

use super::outcome_of;

pub(super) async fn a_subscription_to_our_own_api_makes_no_loop(
    deployment: Arc<Deployment>,
) -> anyhow::Result<()> {
    let tenant = deployment.tenant().await?;
    let key = deployment.key(&["--org", &tenant.organization]).await?;
    let body = json!({
        "name": "a circle", "url": format!("{}/events", deployment.api()), "events": ["workflow.failed"],
        "headers": {"Authorization": format!("Bearer {key}")},
    });
    let client = &tenant.client;
    let id = client.subscribe(&body).await?;
    let webhook = format!("/webhooks/{id}");
    let api = deployment.api();
    let own_routes = [
        format!("{api}/events"),
        format!("{api}/v1/webhooks/{id}/test"),
        format!("{api}/webhooks/{id}/test"),
    ];
    for (index, url) in own_routes.iter().enumerate() {
        client
            .patch(&webhook, &json!({"url": url}))
            .await?
            .expect(200)?;
        client
            .post(&format!("{webhook}/test"), &json!({}))
            .await?
            .expect(202)?;
        let log = client.wait_for_log(id, index + 1).await?;
        ensure!(
            outcome_of(&log[index]) == ("failed", Some("http_status"), Some(508)),
            "{}",
            log[index]
        );
    }

    // An event that is retried goes round no more than a test does.
    tenant.publish_one("workflow.failed").await?;
    let attempts = own_routes.len() + 4;
    let log = client.wait_for_log(id, attempts).await?;
    ensure!(log.len() == attempts, "{} attempts", log.len());
    ensure!(
        log.iter().all(|entry| entry["response_status"] == 508),
        "{log:?}"
    );
    let deliveries = client
        .get(&format!("{webhook}/deliveries?limit=100"))
        .await?
        .expect(200)?;
    ensure!(
        deliveries.json["deliveries"].as_array().map(Vec::len) == Some(own_routes.len() + 1),
        "{}",
        deliveries.json
    );
    Ok(())
}
