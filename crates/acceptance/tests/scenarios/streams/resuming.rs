//! A stream goes on after its last event, and loses nothing.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use hookline_testkit::client::ApiClient;
use hookline_testkit::deployment::{Deployment, Mode, Service};
use hookline_testkit::managed_process::free_port;
use hookline_testkit::receiver::Receiver;
use hookline_testkit::waiting::until;
use serde_json::Value;

use super::client::{EventStream, StreamEvent, wait_for_attempts};

/// The last id that a client has after some events.
async fn read(stream: &mut EventStream, count: usize) -> anyhow::Result<Vec<StreamEvent>> {
    let mut events = Vec::new();
    while events.len() < count {
        let event = stream.next().await?;
        if event.name == "delivery" {
            events.push(event);
        }
    }
    Ok(events)
}

fn event_ids(events: &[StreamEvent]) -> Vec<String> {
    let id = |event: &StreamEvent| {
        event.data["event_id"]
            .as_str()
            .unwrap_or_default()
            .to_owned()
    };
    events.iter().map(id).collect()
}

/// Reads until a client has all of these events. It may get some again; one that is lost never comes.
async fn read_rest(
    stream: &mut EventStream,
    had: &[StreamEvent],
    all: &BTreeSet<String>,
) -> anyhow::Result<()> {
    let mut seen = BTreeSet::from_iter(event_ids(had));
    while !seen.is_superset(all) {
        seen.extend(event_ids(&read(stream, 1).await?));
    }
    Ok(())
}

fn ids_of(events: &[Value]) -> BTreeSet<String> {
    let id = |event: &Value| event["event_id"].as_str().unwrap_or_default().to_owned();
    events.iter().map(id).collect()
}

pub(super) async fn a_stream_goes_on_after_its_last_event(
    deployment: Arc<Deployment>,
) -> anyhow::Result<()> {
    const EVENTS: usize = 120;
    let tenant = deployment.tenant().await?;
    let receiver = Receiver::healthy()?;
    let id = tenant.subscribe(&receiver, &["workflow.failed"]).await?;
    let mut stream = EventStream::open(&tenant.client, "/stream", None).await?;
    let begin = stream.begin().await?;
    let events = tenant.events("workflow.failed", EVENTS);
    tenant.publish(&events).await?;
    let first = read(&mut stream, 5).await?;
    let last_id = first[4].id.clone();
    drop(stream);
    wait_for_attempts(&tenant.client, id, EVENTS).await?;

    let mut rest = EventStream::open(&tenant.client, "/stream", Some(&last_id)).await?;
    read_rest(&mut rest, &first, &ids_of(&events)).await?;
    // From before the first event: the log alone.
    let mut again = EventStream::open(&tenant.client, "/stream", Some(&begin)).await?;
    read_rest(&mut again, &[], &ids_of(&events)).await?;
    let more = tenant.publish_one("workflow.failed").await?;
    read_rest(&mut again, &[], &BTreeSet::from([more])).await
}

pub(super) async fn an_id_of_another_stream_is_refused(
    deployment: Arc<Deployment>,
) -> anyhow::Result<()> {
    let (tenant, other) = (deployment.tenant().await?, deployment.tenant().await?);
    let filtered = "/stream?status=failed&event_type=workflow.failed";
    let same = "/stream?event_type=workflow.failed&status=failed";
    let mut stream = EventStream::open(&tenant.client, filtered, None).await?;
    let id = stream.begin().await?;
    EventStream::open(&tenant.client, same, Some(&id)).await?;
    let ask = async |client: &ApiClient, path: &str, id: &str| {
        let request = client.request(reqwest::Method::GET, path);
        let answer = client.send(request.header("last-event-id", id)).await?;
        let fields = answer.problem(422)?.bad_fields();
        ensure!(fields == ["Last-Event-ID"], "{path}: {fields:?}");
        anyhow::Ok(())
    };
    ask(&tenant.client, "/stream", &id).await?;
    ask(&tenant.client, "/stream?status=failed", &id).await?;
    ask(&other.client, filtered, &id).await?;
    ask(&tenant.client, filtered, "1").await?;
    ask(&tenant.client, filtered, &id.replacen('B', "A", 1)).await
}

pub(super) async fn a_stop_ends_streams_at_once_and_they_go_on_after_it(
    mode: Mode,
) -> anyhow::Result<()> {
    const EVENTS: usize = 50;
    let deployment = Deployment::start(mode).await?;
    let tenant = deployment.tenant().await?;
    let receiver = Receiver::healthy()?;
    let id = tenant.subscribe(&receiver, &["workflow.failed"]).await?;
    let mut stream = EventStream::open(&tenant.client, "/stream", None).await?;
    let mut idle = EventStream::open(&tenant.client, "/stream?status=failed", None).await?;
    stream.begin().await?;
    let events = tenant.events("workflow.failed", EVENTS);
    tenant.publish(&events).await?;
    let first = read(&mut stream, 1).await?;
    wait_for_attempts(&tenant.client, id, EVENTS).await?;
    let last_id = first[0].id.clone();
    let (took, ended) = tokio::join!(
        deployment.stop_oldest(Service::Api),
        idle.ends_within(Duration::from_secs(2)),
    );
    ended?;
    let took = took?;
    println!("{mode:?}: the stop took {took:?}");
    ensure!(took < Duration::from_secs(3), "a stop took {took:?}");
    deployment.start_service(Service::Api, &[]).await?;
    deployment.wait_ready().await?;
    let mut rest = EventStream::open(&tenant.client, "/stream", Some(&last_id)).await?;
    read_rest(&mut rest, &first, &ids_of(&events)).await?;
    deployment.end().await
}

pub(super) async fn another_replica_goes_on(mode: Mode) -> anyhow::Result<()> {
    const EVENTS: usize = 40;
    let deployment = Deployment::start(mode).await?;
    let tenant = deployment.tenant().await?;
    let listen = format!("127.0.0.1:{}", free_port()?);
    let other = [("HOOKLINE__API__LISTEN", listen.as_str())];
    deployment.start_service(Service::Api, &other).await?;
    deployment.wait_ready().await?;
    let elsewhere = tenant.client.at(&format!("http://{listen}/v1"));
    let receiver = Receiver::healthy()?;
    let id = tenant.subscribe(&receiver, &["workflow.failed"]).await?;
    let mut stream = EventStream::open(&tenant.client, "/stream", None).await?;
    let mut beside = EventStream::open(&elsewhere, "/stream", None).await?;
    stream.begin().await?;
    beside.begin().await?;
    let events = tenant.events("workflow.failed", EVENTS);
    tenant.publish(&events).await?;
    let first = read(&mut stream, 3).await?;
    wait_for_attempts(&tenant.client, id, EVENTS).await?;
    let mut rest = EventStream::open(&elsewhere, "/stream", Some(&first[2].id)).await?;
    read_rest(&mut rest, &first, &ids_of(&events)).await?;
    read_rest(&mut beside, &[], &ids_of(&events)).await?;
    deployment.end().await
}

/// A transaction inserts an attempt and commits after others that began later.
pub(super) async fn a_transaction_that_commits_late_is_not_lost(mode: Mode) -> anyhow::Result<()> {
    let deployment = Deployment::start(mode).await?;
    let tenant = deployment.tenant().await?;
    let receiver = Receiver::healthy()?;
    let id = tenant.subscribe(&receiver, &["workflow.failed"]).await?;
    tenant.publish_one("workflow.failed").await?;
    let log = tenant.client.wait_for_log(id, 1).await?;
    let mut stream = EventStream::open(&tenant.client, "/stream", None).await?;
    stream.begin().await?;
    let columns = "delivery_id, organization_id, subscription_id, event_key, event_type, attempt, trigger, status, url, \
                   duration_ms, created_at";
    let late = "00000000-0000-4000-8000-00000000002a";
    let first = log[0]["id"].as_str().context("an id")?;
    let sql = format!(
        "BEGIN; INSERT INTO attempts (id, {columns}) SELECT '{late}', {columns} FROM attempts WHERE id = '{first}'; \
         SELECT pg_sleep(6); COMMIT"
    );
    let database = deployment.dependencies()?.as_superuser()?;
    let running = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep'";
    let meanwhile = async {
        until("the open transaction", async || {
            let sessions = database.sql(running).await?;
            Ok((sessions != "0").then_some(()))
        })
        .await?;
        let events = tenant.events("workflow.failed", 10);
        tenant.publish(&events).await?;
        let read = read(&mut stream, 10).await?;
        ensure!(
            database.sql(running).await? != "0",
            "it has committed already"
        );
        ensure!(BTreeSet::from_iter(event_ids(&read)) == ids_of(&events));
        anyhow::Ok(read[9].id.clone())
    };
    let (held, last_id) = tokio::join!(database.sql(&sql), meanwhile);
    held?;
    let last_id = last_id?;
    let is_late = |event: &StreamEvent| event.is("attempt", "id", late);
    let told = stream.next().await?;
    ensure!(is_late(&told), "the open stream: {told:?}");
    let mut again = EventStream::open(&tenant.client, "/stream", Some(&last_id)).await?;
    while !is_late(&again.next().await?) {}
    deployment.end().await
}
