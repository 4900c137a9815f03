//! Connections that are kept without a request, and requests without an end.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use hookline_testkit::deployment::{Deployment, Mode, Service};
use hookline_testkit::raw_client::RawConnection;

use super::bearer;

const A_SECOND: Duration = Duration::from_secs(1);

/// Heads and bodies have 5 s; a busy machine may take a little longer.
const CUT_OFF: Duration = Duration::from_secs(12);

pub(super) async fn a_client_that_sends_a_byte_a_second_is_disconnected(
    deployment: Arc<Deployment>,
) -> anyhow::Result<()> {
    let tenant = deployment.tenant().await?;
    let key = bearer(&deployment, &tenant).await?;
    let body_of = |method: &str, path: &str| {
        format!(
            "{method} {path} HTTP/1.1\r\nHost: a\r\n{key}\r\nContent-Type: application/json\r\n\
             Content-Length: 1000\r\n\r\n{{"
        )
    };
    let drip = async |start: String| -> anyhow::Result<Option<u16>> {
        let mut connection = RawConnection::open(&deployment).await?;
        let began = Instant::now();
        connection.send(&start).await;
        connection.drip(&[b' '; 60], A_SECOND).await?;
        let answer = connection.answer().await?;
        ensure!(
            began.elapsed() < CUT_OFF,
            "{start} had {:?}",
            began.elapsed()
        );
        Ok(answer.map(|answer| answer.status))
    };
    let (nothing, head, events, webhooks) = tokio::join!(
        drip(String::new()),
        drip("GET /healthz HTTP/1.1\r\nX-A:".to_owned()),
        drip(body_of("POST", "/events")),
        drip(body_of("POST", "/webhooks")),
    );
    for status in [nothing?, head?] {
        ensure!(matches!(status, None | Some(400 | 408)), "{status:?}");
    }
    for status in [events?, webhooks?] {
        ensure!(status == Some(408), "{status:?}");
    }
    Ok(())
}

pub(super) async fn idle_connections_do_not_block_new_clients(mode: Mode) -> anyhow::Result<()> {
    let deployment = Deployment::start(mode).await?;
    let mut idle = Vec::new();
    for _ in 0..2_000 {
        idle.push(RawConnection::open(&deployment).await?);
    }
    let wait = healthy(&deployment).await?;
    ensure!(wait < 2 * A_SECOND, "an answer beside 2,000 took {wait:?}");
    idle.clear();

    // With a limit, each one that is too many closes the one that has waited longest.
    deployment
        .restart(Service::Api, &[("HOOKLINE__API__MAX_CONNECTIONS", "100")])
        .await?;
    let tenant = deployment.tenant().await?;
    let key = bearer(&deployment, &tenant).await?;
    let list = format!("GET /webhooks HTTP/1.1\r\nHost: a\r\n{key}\r\n\r\n");
    let mut with_a_key = RawConnection::open(&deployment).await?;
    with_a_key.send(&list).await;
    let answer = with_a_key.answer().await?.context("no answer")?;
    ensure!(answer.status == 200, "{answer:?}");
    for _ in 0..300 {
        idle.push(RawConnection::open(&deployment).await?);
    }
    let wait = healthy(&deployment).await?;
    ensure!(wait < 2 * A_SECOND, "an answer behind 300 took {wait:?}");
    with_a_key.send(&list).await;
    let answer = with_a_key.answer().await?.context("it was closed")?;
    ensure!(answer.status == 200, "{answer:?}");
    let mut first = idle.swap_remove(0);
    let statuses = first.statuses().await?;
    ensure!(statuses.is_empty(), "{statuses:?}");
    deployment.end().await
}

/// Each asks for the largest answer that needs no key, many times in one go.
pub(super) async fn clients_that_read_no_responses_use_little_memory(
    mode: Mode,
) -> anyhow::Result<()> {
    const CLIENTS: usize = 60;
    const MOST_KIB: u64 = 64 * 1024;
    let deployment = Deployment::start(mode).await?;
    healthy(&deployment).await?;
    let before = deployment.memory(Service::Api).await?;
    let many = "GET /openapi.json HTTP/1.1\r\nHost: a\r\n\r\n".repeat(50);
    let mut clients = Vec::new();
    for _ in 0..CLIENTS {
        let mut client = RawConnection::open(&deployment).await?;
        client.send(&many).await;
        clients.push(client);
    }
    for client in &clients {
        client.answer_begins().await?;
    }
    let wait = healthy(&deployment).await?;
    ensure!(wait < 2 * A_SECOND, "an answer beside them took {wait:?}");
    let after = deployment.memory(Service::Api).await?;
    let grown = after.peak.saturating_sub(before.now);
    println!("{mode:?}: {CLIENTS} clients that read nothing: {grown} KiB");
    ensure!(grown < MOST_KIB, "{grown} KiB");
    deployment.end().await
}

/// How long another client waits for an answer.
async fn healthy(deployment: &Deployment) -> anyhow::Result<Duration> {
    let began = Instant::now();
    let mut connection = RawConnection::open(deployment).await?;
    connection
        .send("GET /healthz HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        .await;
    let answer = connection.answer().await?.context("no answer")?;
    ensure!(answer.status == 200, "{answer:?}");
    Ok(began.elapsed())
}
