//! Receivers that close a connection at the moment at which the next request is on its way.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::ensure;
use hookline_testkit::deployment::Deployment;
use hookline_testkit::raw_receiver::{RawReceiver, read_request};
use hookline_testkit::tenant::Tenant;
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;

const OK: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

/// Requests that receivers have read, by the number of the attempt.
#[derive(Default)]
struct Counted {
    first: AtomicUsize,
    all: AtomicUsize,
}

impl Counted {
    async fn read(&self, connection: &mut TcpStream) -> anyhow::Result<()> {
        let request = read_request(connection).await?;
        let head = String::from_utf8_lossy(&request).to_ascii_lowercase();
        let is_first = head.contains("x-webhook-attempt: 1\r\n");
        self.first
            .fetch_add(usize::from(is_first), Ordering::Relaxed);
        self.all.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    fn first(&self) -> usize {
        self.first.load(Ordering::Relaxed)
    }
}

/// Answers the first request of each connection, and says `then` to the second before it closes.
async fn answering_once(then: &'static [u8]) -> anyhow::Result<(RawReceiver, Arc<Counted>)> {
    let counted = Arc::new(Counted::default());
    let receiver = RawReceiver::with({
        let counted = Arc::clone(&counted);
        move |mut connection| {
            let counted = Arc::clone(&counted);
            async move {
                counted.read(&mut connection).await?;
                connection.write_all(OK).await?;
                counted.read(&mut connection).await?;
                connection.write_all(then).await?;
                Ok(connection.shutdown().await?)
            }
        }
    })
    .await?;
    Ok((receiver, counted))
}

async fn subscribe(tenant: &Tenant<'_>, receiver: &RawReceiver) -> anyhow::Result<i64> {
    let body = json!({"name": "kept", "url": receiver.url(), "events": ["workflow.failed"]});
    tenant.client.subscribe(&body).await
}

/// The log after so many events, each published once the one before was logged.
async fn log_of(tenant: &Tenant<'_>, to: i64, events: usize) -> anyhow::Result<Vec<Value>> {
    for count in 1..=events {
        tenant.publish_one("workflow.failed").await?;
        tenant.client.wait_for_log(to, count).await?;
    }
    tenant.client.log_of(to).await
}

pub(super) async fn a_request_on_a_connection_that_ends_is_made_again_in_the_same_attempt(
    deployment: Arc<Deployment>,
) -> anyhow::Result<()> {
    let (receiver, counted) = answering_once(b"").await?;
    let tenant = deployment.tenant().await?;
    let subscription = subscribe(&tenant, &receiver).await?;
    let log = log_of(&tenant, subscription, 6).await?;
    for entry in &log {
        ensure!(entry["status"] == "success", "{entry}");
        ensure!(entry["attempt"] == 1, "{entry}");
    }
    ensure!(log.len() == 6, "{log:?}");
    let first = counted.first();
    ensure!(first > 6, "no kept connection ended: {first} requests");
    Ok(())
}

pub(super) async fn half_an_answer_on_a_kept_connection_is_a_failure(
    deployment: Arc<Deployment>,
) -> anyhow::Result<()> {
    let (receiver, counted) = answering_once(b"HTTP/1.1 20").await?;
    let tenant = deployment.tenant().await?;
    let subscription = subscribe(&tenant, &receiver).await?;
    let log = log_of(&tenant, subscription, 2).await?;
    ensure!(log[0]["status"] == "success", "{}", log[0]);
    ensure!(log[1]["error"]["kind"] == "response", "{}", log[1]);
    ensure!(counted.first() == 2, "{} requests", counted.first());
    Ok(())
}

pub(super) async fn a_fresh_connection_that_closes_without_an_answer_is_a_failure(
    deployment: Arc<Deployment>,
) -> anyhow::Result<()> {
    let counted = Arc::new(Counted::default());
    let receiver = RawReceiver::with({
        let counted = Arc::clone(&counted);
        move |mut connection| {
            let counted = Arc::clone(&counted);
            async move { counted.read(&mut connection).await }
        }
    })
    .await?;
    let tenant = deployment.tenant().await?;
    let subscription = subscribe(&tenant, &receiver).await?;
    let log = log_of(&tenant, subscription, 1).await?;
    ensure!(log[0]["error"]["kind"] == "response", "{}", log[0]);
    ensure!(counted.first() == 1, "{} requests", counted.first());
    Ok(())
}
