//! Memory: the memory of a request is bounded, however many receivers flood us at once.

use std::sync::Arc;

use anyhow::ensure;
use hookline_testkit::deployment::{Deployment, Mode, Service};
use hookline_testkit::raw_receiver::{RawReceiver, read_request};
use hookline_testkit::receiver::Receiver;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::answers::bomb;
use super::{outcome_of, subscribe_all};

/// This many receivers of each kind at once.
const EACH: usize = 25;

/// The memory that they may take on top, in KiB. A request holds at most some 64 KiB of head: all of them together
/// hold less than this.
const MORE: u64 = 96 * 1024;

/// The deadline that the harness sets.
const DEADLINE_MS: u64 = 3_000;

/// Says `head`, then `rest`, over and over or once, and then nothing.
async fn receiver(head: &str, rest: Arc<Vec<u8>>, times: usize) -> anyhow::Result<RawReceiver> {
    let head: Arc<str> = head.into();
    RawReceiver::with(move |mut connection| {
        let (head, rest) = (Arc::clone(&head), Arc::clone(&rest));
        async move {
            read_request(&mut connection).await?;
            connection.write_all(head.as_bytes()).await?;
            for _ in 0..times {
                connection.write_all(&rest).await?;
            }
            // Reads until the other side gives up.
            connection.read_to_end(&mut Vec::new()).await?;
            Ok(())
        }
    })
    .await
}

pub(super) async fn hostile_receivers_use_little_memory(mode: Mode) -> anyhow::Result<()> {
    const OK: &str = "HTTP/1.1 200 OK\r\n";
    let deployment = Deployment::start(mode).await?;
    let tenant = deployment.tenant().await?;
    let healthy = Receiver::healthy()?;
    tenant.subscribe(&healthy, &["workflow.started"]).await?;
    tenant.publish_one("workflow.started").await?;
    healthy.wait_for(1).await?;
    let before = deployment.memory(Service::Dispatcher).await?;

    let without_end = usize::MAX;
    let flood = Arc::new(vec![b'x'; 64 * 1024]);
    let header = Arc::new(b"X-More: yes\r\n".repeat(1_000));
    let kinds = [
        (
            "success",
            receiver(&format!("{OK}\r\n"), flood.clone(), without_end).await?,
        ),
        (
            "success",
            receiver(
                &format!("{OK}Content-Encoding: gzip\r\n\r\n"),
                Arc::new(bomb()),
                without_end,
            )
            .await?,
        ),
        ("response", receiver(OK, header, without_end).await?),
        (
            "response",
            receiver(&format!("{OK}X-Long: "), flood.clone(), without_end).await?,
        ),
        // As much of a head as is taken, a little of a body, and then nothing more.
        (
            "timeout",
            receiver(&format!("{OK}X-Long: "), Arc::new(vec![b'x'; 48 * 1024]), 1).await?,
        ),
        (
            "timeout",
            receiver(&format!("{OK}\r\n"), Arc::new(vec![b'x'; 16_000]), 1).await?,
        ),
    ];
    let urls: Vec<String> = kinds
        .iter()
        .flat_map(|(_, receiver)| vec![receiver.url(); EACH])
        .collect();
    let subscriptions = subscribe_all(&tenant, &urls).await?;
    tenant.publish_one("workflow.completed").await?;
    // The healthy receiver is served meanwhile.
    tenant.publish_one("workflow.started").await?;
    healthy.wait_for(2).await?;
    for (index, subscription) in subscriptions.into_iter().enumerate() {
        let (expected, _) = &kinds[index / EACH];
        let entry = tenant.client.wait_for_log(subscription, 1).await?.remove(0);
        let (status, mode, _) = outcome_of(&entry);
        // On a busy machine the deadline may come first.
        let seen = mode.unwrap_or(status);
        ensure!(
            seen == *expected || seen == "timeout",
            "{expected}: {entry}"
        );
        let duration = entry["duration_ms"].as_u64().unwrap_or(u64::MAX);
        ensure!(duration < DEADLINE_MS + 5_000, "{duration} ms: {entry}");
    }
    let after = deployment.memory(Service::Dispatcher).await?;
    let mib = |kib: u64| kib / 1024;
    println!(
        "{mode:?}: {} receivers that mean harm: {} MiB before, {} MiB at most, {} MiB after",
        urls.len(),
        mib(before.now),
        mib(after.peak),
        mib(after.now)
    );
    ensure!(
        after.peak < before.now + MORE,
        "{} MiB more",
        mib(after.peak - before.now)
    );
    deployment.end().await
}
