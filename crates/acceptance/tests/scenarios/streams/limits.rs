//! How many streams there may be, what they cost, and clients that do not read.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use hookline_testkit::deployment::{Deployment, Mode, Service};
use hookline_testkit::receiver::Receiver;
use hookline_testkit::waiting::until;
use serde_json::json;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpSocket;

use super::client::{EventStream, wait_for_attempts};

pub(super) async fn an_organization_has_a_limited_number_of_streams(
    mode: Mode,
) -> anyhow::Result<()> {
    let settings = [("HOOKLINE__API__MAX_STREAMS_PER_ORGANIZATION", "2")];
    let deployment = Deployment::start_with(mode, &settings).await?;
    let (tenant, other) = (deployment.tenant().await?, deployment.tenant().await?);
    let first = EventStream::open(&tenant.client, "/stream", None).await?;
    let _second = EventStream::open(&tenant.client, "/stream?status=failed", None).await?;
    let refused = tenant.client.get("/stream").await?.problem(429)?;
    ensure!(!refused.header("retry-after").is_empty(), "{refused:?}");
    EventStream::open(&other.client, "/stream", None).await?;
    tenant.client.get("/webhooks").await?.expect(200)?;
    drop(first);
    until("a place for a stream", async || {
        let opened = EventStream::open(&tenant.client, "/stream", None).await;
        Ok(opened.ok().map(drop))
    })
    .await?;
    deployment.end().await
}

/// Streams that are open in the process of the API.
async fn open_streams(deployment: &Deployment) -> anyhow::Result<u64> {
    let admin = deployment.admin(Service::Api).await?;
    let metrics = hookline_testkit::http::get(format!("{admin}/metrics")).await?;
    let metrics = metrics.text().await?;
    let line = metrics
        .lines()
        .find_map(|line| line.strip_prefix("hookline_streams_open "));
    Ok(line.context("the metric")?.parse::<f64>()? as u64)
}

pub(super) async fn a_thousand_idle_streams_are_cheap(mode: Mode) -> anyhow::Result<()> {
    const STREAMS: usize = 1_000;
    const ORGANIZATIONS: usize = 10;
    const MOST_KIB: u64 = 64 * 1024;
    let deployment = Deployment::start(mode).await?;
    let mut tenants = Vec::new();
    for _ in 0..ORGANIZATIONS {
        tenants.push(deployment.tenant().await?);
    }
    let mut streams = Vec::new();
    for tenant in &tenants {
        let mut stream = EventStream::open(&tenant.client, "/stream", None).await?;
        stream.begin().await?;
        streams.push(stream);
    }
    let few = transactions(&deployment).await?;
    let before = deployment.memory(Service::Api).await?.now;
    while streams.len() < STREAMS {
        let client = &tenants[streams.len() % ORGANIZATIONS].client;
        let mut stream = EventStream::open(client, "/stream", None).await?;
        stream.begin().await?;
        streams.push(stream);
    }
    ensure!(open_streams(&deployment).await? == STREAMS as u64);
    let many = transactions(&deployment).await?;
    let grown = deployment
        .memory(Service::Api)
        .await?
        .now
        .saturating_sub(before);
    println!(
        "{mode:?}: {STREAMS} idle streams took {grown} KiB, and {many} transactions in the time of {few} with {ORGANIZATIONS}",
    );
    ensure!(grown < MOST_KIB, "{grown} KiB");
    // Other services write a probe each second, so the number varies a little.
    ensure!(
        many <= few + few / 2 + 10,
        "{many} transactions, {few} with few streams"
    );
    drop(streams);
    until("the end of all streams", async || {
        Ok((open_streams(&deployment).await? == 0).then_some(()))
    })
    .await?;
    deployment.end().await
}

/// The transactions of the database in 4 s; none in a folder.
async fn transactions(deployment: &Deployment) -> anyhow::Result<u64> {
    let Ok(dependencies) = deployment.dependencies() else {
        return Ok(0);
    };
    let database = dependencies.as_superuser()?;
    let count = "SELECT pg_stat_get_db_xact_commit(oid) FROM pg_database WHERE datname = current_database()";
    let before: u64 = database.sql(count).await?.parse()?;
    tokio::time::sleep(Duration::from_secs(4)).await;
    let after: u64 = database.sql(count).await?.parse()?;
    Ok(after - before)
}

pub(super) async fn a_client_that_does_not_read_is_closed_and_loses_nothing(
    mode: Mode,
) -> anyhow::Result<()> {
    const EVENTS: usize = 900;
    let deployment = Deployment::start(mode).await?;
    let tenant = deployment.tenant().await?;
    let receiver = Receiver::healthy()?;
    let id = tenant.subscribe(&receiver, &["workflow.failed"]).await?;
    let mut reading = EventStream::open(&tenant.client, "/stream", None).await?;
    let begin = reading.begin().await?;

    let socket = TcpSocket::new_v4()?;
    socket.set_recv_buffer_size(4096)?;
    let address = deployment.api();
    let address = address.trim_start_matches("http://").parse()?;
    let mut silent = socket.connect(address).await?;
    let key = deployment.key(&["--org", &tenant.organization]).await?;
    let head = format!("GET /stream HTTP/1.1\r\nhost: a\r\nauthorization: Bearer {key}\r\n\r\n");
    silent.write_all(head.as_bytes()).await?;
    until("the second stream", async || {
        Ok((open_streams(&deployment).await? == 2).then_some(()))
    })
    .await?;
    let mut published = BTreeSet::new();
    for _ in 0..EVENTS / 100 {
        let events = tenant.events("workflow.failed", 100);
        for event in &events {
            published.insert(event["event_id"].as_str().unwrap_or_default().to_owned());
        }
        tenant
            .client
            .post("/events", &json!(events))
            .await?
            .expect(202)?;
    }
    wait_for_attempts(&tenant.client, id, EVENTS).await?;
    let began = Instant::now();
    let mut seen = BTreeSet::new();
    while seen.len() < EVENTS {
        // A change of the subscription has no event.
        let event = reading.next().await?;
        seen.extend(event.data["event_id"].as_str().map(str::to_owned));
    }
    ensure!(seen == published, "a reader beside it has all");
    until("the end of the silent stream", async || {
        Ok((open_streams(&deployment).await? == 1).then_some(()))
    })
    .await?;
    println!(
        "{mode:?}: closed {:?} after the last attempt",
        began.elapsed()
    );
    ensure!(
        began.elapsed() < Duration::from_secs(45),
        "{:?}",
        began.elapsed()
    );
    let mut again = EventStream::open(&tenant.client, "/stream", Some(&begin)).await?;
    let mut seen = BTreeSet::new();
    while seen.len() < EVENTS {
        // A change of the subscription has no event.
        let event = again.next().await?;
        seen.extend(event.data["event_id"].as_str().map(str::to_owned));
    }
    ensure!(seen == published);
    drop(silent);
    deployment.end().await
}
