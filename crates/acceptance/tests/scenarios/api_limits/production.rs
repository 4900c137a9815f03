//! The rules of `hookline serve` for targets, and the most subscriptions of an organization.

use anyhow::ensure;
use hookline_testkit::deployment::{Deployment, Mode};
use hookline_testkit::receiver::Receiver;
use hookline_testkit::tenant::Tenant;
use serde_json::{Value, json};

use super::field::{Field, good, with};

/// The limit for all of it; the rest of the settings comes later.
const THREE: [(&str, &str); 1] = [("HOOKLINE__API__MAX_SUBSCRIPTIONS", "3")];

const PRODUCTION: [(&str, &str); 2] = [
    ("HOOKLINE__TARGETS__ALLOW_HTTP", "false"),
    ("HOOKLINE__TARGETS__ALLOW_PRIVATE_NETWORKS", "false"),
];

pub(super) async fn production_rules_and_a_limit_of_three_subscriptions(
    mode: Mode,
) -> anyhow::Result<()> {
    let deployment = Deployment::start_with(mode, &THREE).await?;
    three_subscriptions_are_taken_and_no_more(&deployment).await?;
    // A subscription of milder times is judged again when something is sent to it.
    let receiver = Receiver::healthy()?;
    let tenant = deployment.tenant().await?;
    let inside = tenant.subscribe(&receiver, &["workflow.failed"]).await?;
    for service in deployment.services() {
        deployment.stop(service).await?;
        deployment.start_service(service, &PRODUCTION).await?;
    }
    deployment.wait_ready().await?;
    ensure!(error_of_a_test(&tenant, inside).await?["kind"] == "blocked_address");
    ensure!(
        receiver.received().is_empty(),
        "an inside address was called"
    );
    only_public_https_targets_are_taken(&deployment).await?;
    names_that_are_never_public_are_refused(&deployment).await?;
    deployment.end().await
}

async fn only_public_https_targets_are_taken(deployment: &Deployment) -> anyhow::Result<()> {
    let tenant = deployment.tenant().await?;
    let field = Field::of(&tenant.client, "url").await?;
    for inside in [
        "127.0.0.1",
        "127.1",
        "2130706433",
        "0x7f000001",
        "0177.0.0.1",
        "0",
        "10.1.2.3",
        "172.16.0.1",
        "192.168.1.1",
        "169.254.169.254",
        "100.64.0.1",
        "198.18.0.1",
        "224.0.0.1",
        "255.255.255.255",
        "[::]",
        "[::1]",
        "[::ffff:127.0.0.1]",
        "[::ffff:8.8.8.8]",
        "[fe80::1]",
        "[fd12::1]",
        "[64:ff9b::7f00:1]",
        "[2002:7f00:1::]",
        "[2001:db8::1]",
    ] {
        field
            .refuses(json!(format!("https://{inside}/")), "url")
            .await?;
    }
    field.refuses(json!("http://example.com/"), "url").await?;
    field.refuses(json!("HTTP://8.8.8.8/"), "url").await?;
    field
        .refuses(json!("https://example.com:8443/"), "url")
        .await?;
    for outside in [
        "https://example.com",
        "https://8.8.8.8/",
        "https://[2606:4700::1111]/",
    ] {
        field.takes(json!(outside)).await?;
    }
    Ok(())
}

async fn three_subscriptions_are_taken_and_no_more(deployment: &Deployment) -> anyhow::Result<()> {
    let tenant = deployment.tenant().await?;
    let client = &tenant.client;
    let first = client.subscribe(&good()).await?;
    client.subscribe(&good()).await?;
    // However many ask for the last place at the same time, one gets it.
    let body = good();
    let (a, b, c, d) = tokio::join!(
        client.post("/webhooks", &body),
        client.post("/webhooks", &body),
        client.post("/webhooks", &body),
        client.post("/webhooks", &body),
    );
    let mut made = 0;
    for answer in [a?, b?, c?, d?] {
        match answer.status.as_u16() {
            201 => made += 1,
            _ => ensure!(answer.problem(422)?.bad_fields() == [""]),
        }
    }
    ensure!(made == 1, "{made} got the last place");

    let first = format!("/webhooks/{first}");
    client
        .patch(&first, &json!({"name": "changed"}))
        .await?
        .expect(200)?;
    deployment.tenant().await?.client.subscribe(&good()).await?;
    client.delete(&first).await?.expect(204)?;
    client.subscribe(&good()).await?;
    client.post("/webhooks", &good()).await?.problem(422)?;
    Ok(())
}

async fn names_that_are_never_public_are_refused(deployment: &Deployment) -> anyhow::Result<()> {
    let tenant = deployment.tenant().await?;
    for host in ["localhost", "nowhere.invalid", "db.internal", "intranet"] {
        let url = with("url", json!(format!("https://{host}/")));
        let refused = tenant.client.post("/webhooks", &url).await?.problem(422)?;
        ensure!(refused.bad_fields() == ["url"], "{host}: {}", refused.json);
    }
    Ok(())
}

async fn error_of_a_test(tenant: &Tenant<'_>, id: i64) -> anyhow::Result<Value> {
    let test = format!("/webhooks/{id}/test");
    tenant.client.post(&test, &json!({})).await?.expect(202)?;
    let mut log = tenant.client.wait_for_log(id, 1).await?;
    Ok(log.swap_remove(0)["error"].take())
}
