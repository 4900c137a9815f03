//! A process starts, or says in one line why not; and it stops when it is told to.

mod least_rights;
mod refused;
mod refused_broker;
mod refused_database;
pub(crate) mod start;

use std::time::Duration;

use anyhow::{Context as _, ensure};
use hookline_acceptance::client::Client;
use hookline_acceptance::home::{Home, Kind, Part};
use hookline_acceptance::process::Process;
use hookline_acceptance::receiver::{Receiver, Reply};
use hookline_acceptance::sentences;
use hookline_acceptance::suite::Alone;
use hookline_acceptance::waiting::until;
use serde_json::json;

pub(crate) fn distributed() -> Vec<Alone> {
    [
        least_rights::distributed(),
        refused::distributed(),
        refused_broker::distributed(),
        refused_database::distributed(),
    ]
    .concat()
}

pub(crate) fn alone() -> Vec<Alone> {
    sentences![a_part_that_is_told_to_stop_finishes_and_ends_well]
}

pub(crate) fn embedded() -> Vec<Alone> {
    let mut all: Vec<Alone> = sentences![dev_prints_where_it_is_and_serves_loopback_alone];
    all.extend(refused::embedded());
    all
}

async fn dev_prints_where_it_is_and_serves_loopback_alone(_: Kind) -> anyhow::Result<()> {
    let files = tempfile::tempdir()?;
    let folder = files.path().join("data");
    let args = [
        "dev",
        "--listen",
        "127.0.0.1:0",
        "--api-key",
        "hk_mine",
        "--org",
        "org_mine",
        "--data-dir",
    ];
    let args = [
        &args[..],
        &[folder.to_str().context("a folder that is UTF-8")?],
    ]
    .concat();
    for round in 1..=2 {
        let mut process = Process::start("hookline", &args, &[], files.path())?;
        // The second one adds to the same file.
        let said = until("ready", async || {
            let said = process.said();
            let ready = said.lines().filter(|line| *line == "ready").count();
            ensure!(
                ready >= round || process.is_running(),
                "ended early: {said}"
            );
            Ok((ready == round).then_some(said))
        })
        .await?;
        let last = |name: &str| {
            let line = said.lines().rev().find_map(|line| line.strip_prefix(name));
            line.map(str::trim)
                .with_context(|| format!("no {name} in {said}"))
        };
        let (url, key) = (last("API:")?, last("key:")?);
        ensure!(
            url.starts_with("http://127.0.0.1:") && !url.ends_with(":0"),
            "{url}"
        );
        ensure!(key == "hk_mine", "{key}");
        let client = Client::new(&format!("{url}/v1"), key);
        let receiver = Receiver::healthy()?;
        client
            .subscribe(
                &json!({"name": "dev", "url": receiver.url("/"), "events": ["workflow.started"]}),
            )
            .await?;
        let event = json!({
            "event_type": "workflow.started", "workflow_id": "wf", "organization_id": "org_mine",
            "timestamp": "2025-12-21T10:30:00Z", "data": {},
        });
        client.post("/events", &event).await?.expect(202)?;
        receiver.wait_for(1).await?;
        let kept = client.get("/webhooks").await?.expect(200)?;
        ensure!(kept.json["total"] == round, "{}", kept.json);
        process.signal("TERM").await?;
        ensure!(process.ended().await?.success(), "{}", process.said());
    }
    Ok(())
}

async fn a_part_that_is_told_to_stop_finishes_and_ends_well(kind: Kind) -> anyhow::Result<()> {
    let home = Home::start(kind).await?;
    let tenant = home.tenant().await?;
    let receiver = Receiver::that(|_, _| Reply::status(200).after(Duration::from_millis(1_500)))?;
    let subscription = tenant.subscribe(&receiver, &["workflow.started"]).await?;
    tenant.publish_one("workflow.started").await?;
    receiver.wait_for(1).await?;
    for part in home.parts().into_iter().rev() {
        home.stop(part).await?;
    }
    for part in home.parts() {
        home.start_part(part, &[]).await?;
    }
    home.wait_ready().await?;
    tenant.publish_one("workflow.started").await?;
    let log = tenant.client.wait_for_log(subscription, 2).await?;
    ensure!(
        log.iter().all(|entry| entry["status"] == "success"),
        "{log:#?}"
    );
    let received = receiver.received();
    ensure!(
        received.len() == 2,
        "{} requests for two events",
        received.len()
    );
    ensure!(home.readiness(Part::Api).await == 200);
    home.end().await
}
