//! Live streams: what they tell, that they lose nothing, and when they end.

mod client;
mod limits;
mod resuming;

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use hookline_acceptance::scenarios;
use hookline_acceptance::suite::{IsolatedScenario, SharedScenario};
use hookline_testkit::deployment::Deployment;
use hookline_testkit::receiver::{Receiver, Reply};
use serde_json::json;

use crate::api_keys::key_line;
use client::EventStream;

pub(crate) fn shared() -> Vec<SharedScenario> {
    scenarios![
        what_happens_comes_without_bodies_and_to_its_organization_alone,
        a_filter_selects_attempts_and_what_follows_from_them,
        a_stream_ends_within_5_s_of_its_key,
        resuming::a_stream_goes_on_after_its_last_event,
        resuming::an_id_of_another_stream_is_refused,
    ]
}

pub(crate) fn isolated() -> Vec<IsolatedScenario> {
    scenarios![
        limits::an_organization_has_a_limited_number_of_streams,
        limits::a_thousand_idle_streams_are_cheap,
        limits::a_client_that_does_not_read_is_closed_and_loses_nothing,
        resuming::a_stop_ends_streams_at_once_and_they_go_on_after_it,
    ]
}

pub(crate) fn distributed() -> Vec<IsolatedScenario> {
    scenarios![
        resuming::another_replica_goes_on,
        resuming::a_transaction_that_commits_late_is_not_lost,
    ]
}

async fn what_happens_comes_without_bodies_and_to_its_organization_alone(
    deployment: Arc<Deployment>,
) -> anyhow::Result<()> {
    let (tenant, other) = (deployment.tenant().await?, deployment.tenant().await?);
    let mut stream = EventStream::open(&tenant.client, "/stream", None).await?;
    let mut foreign = EventStream::open(&other.client, "/stream", None).await?;
    let receiver = Receiver::answering(vec![Reply::status(500), Reply::status(200)])?;
    let id = tenant.subscribe(&receiver, &["workflow.failed"]).await?;
    let created = stream.next().await?;
    ensure!(
        created.is("subscription", "change", "created"),
        "{created:?}"
    );
    ensure!(created.data["subscription_id"] == id, "{created:?}");

    let event = tenant.publish_one("workflow.failed").await?;
    let failed = stream.next().await?;
    ensure!(failed.is("attempt", "status", "failed"), "{failed:?}");
    ensure!(failed.data["next_attempt_at"].is_string(), "{failed:?}");
    let succeeded = stream.next().await?;
    ensure!(
        succeeded.is("attempt", "status", "success"),
        "{succeeded:?}"
    );
    let delivered = stream.next().await?;
    ensure!(
        delivered.is("delivery", "status", "delivered"),
        "{delivered:?}"
    );
    ensure!(delivered.data["attempts"] == 2, "{delivered:?}");
    for told in [&failed, &succeeded, &delivered] {
        ensure!(told.data["event_id"] == json!(event), "{told:?}");
        for body in ["request_body", "response_body"] {
            ensure!(told.data.get(body).is_none(), "{told:?}");
        }
    }
    let log = tenant.client.get("/webhooks/logs/all?include=none").await?;
    let newest = &log.expect(200)?.json["logs"][0];
    for (field, value) in succeeded.data.as_object().context("an object")? {
        ensure!(&newest[field] == value, "{field}: {value} and {newest}");
    }

    let path = format!("/webhooks/{id}");
    let off = json!({"is_active": false});
    tenant.client.patch(&path, &off).await?.expect(200)?;
    tenant.client.delete(&path).await?.expect(204)?;
    for change in ["disabled", "deleted"] {
        let told = stream.next().await?;
        ensure!(told.is("subscription", "change", change), "{told:?}");
    }
    other.subscribe(&receiver, &["workflow.failed"]).await?;
    let first = foreign.next().await?;
    ensure!(first.is("subscription", "change", "created"), "{first:?}");
    ensure!(first.data["subscription_id"] != id, "{first:?}");
    Ok(())
}

async fn a_filter_selects_attempts_and_what_follows_from_them(
    deployment: Arc<Deployment>,
) -> anyhow::Result<()> {
    let tenant = deployment.tenant().await?;
    let failing = Receiver::answering(vec![Reply::status(410)])?;
    let healthy = Receiver::healthy()?;
    let mut failures =
        EventStream::open(&tenant.client, "/stream?response_status=4xx", None).await?;
    let good = tenant.subscribe(&healthy, &["workflow.started"]).await?;
    let path = format!("/stream?subscription_id={good}");
    let mut of_good = EventStream::open(&tenant.client, &path, None).await?;
    let bad = tenant.subscribe(&failing, &["workflow.failed"]).await?;
    tenant.publish_one("workflow.started").await?;
    tenant.client.wait_for_log(good, 1).await?;
    tenant.publish_one("workflow.failed").await?;

    let attempt = failures.next().await?;
    ensure!(attempt.is("attempt", "status", "failed"), "{attempt:?}");
    ensure!(attempt.data["subscription_id"] == bad, "{attempt:?}");
    let ended = failures.next().await?;
    ensure!(ended.is("delivery", "status", "exhausted"), "{ended:?}");
    let mut told = of_good.next().await?;
    // A stream may begin with what happened just before.
    while told.name == "subscription" {
        told = of_good.next().await?;
    }
    for name in ["attempt", "delivery"] {
        ensure!(told.name == name, "{told:?}");
        ensure!(told.data["subscription_id"] == good, "{told:?}");
        if name == "attempt" {
            told = of_good.next().await?;
        }
    }
    let refused = tenant.client.get("/stream?since=x&limit=1").await?;
    let fields = refused.problem(422)?.bad_fields();
    ensure!(fields == ["since", "limit"], "{fields:?}");
    Ok(())
}

async fn a_stream_ends_within_5_s_of_its_key(deployment: Arc<Deployment>) -> anyhow::Result<()> {
    let tenant = deployment.tenant().await?;
    let org = tenant.organization.as_str();
    let args = ["--org", org, "--name", "streaming", "--scopes", "read"];
    let revoked = deployment.key(&args).await?;
    let expiring = deployment.key(&["--org", org, "--expires", "4s"]).await?;
    let mut other = EventStream::open(&tenant.client, "/stream", None).await?;
    let by = |key: &str| tenant.client.with_key(Some(key));
    let mut expires = EventStream::open(&by(&expiring), "/stream", None).await?;
    let mut ends = EventStream::open(&by(&revoked), "/stream", None).await?;
    expires.ends_within(Duration::from_secs(4 + 5)).await?;
    let line = key_line(&deployment, org, "streaming").await?;
    deployment.hookline(&["key", "revoke", &line[0]]).await?;
    let began = Instant::now();
    ends.ends_within(Duration::from_secs(5)).await?;
    println!("a stream ended {:?} after its key", began.elapsed());
    let receiver = Receiver::healthy()?;
    tenant.subscribe(&receiver, &["workflow.failed"]).await?;
    ensure!(other.next().await?.name == "subscription");
    Ok(())
}
