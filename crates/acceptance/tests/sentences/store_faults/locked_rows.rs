//! The rows of one organization are locked for longer than the store waits for a lock. Its events wait; those
//! of another organization do not, and nothing is put aside.

use std::time::{Duration, Instant};

use anyhow::ensure;
use hookline_acceptance::home::{Home, Kind};
use hookline_acceptance::receiver::Receiver;
use serde_json::Value;

/// Fewer than the events of the organization that is locked, which come first.
const PREFETCH: [(&str, &str); 1] = [("HOOKLINE__INGEST__PREFETCH", "100")];
const LOCKED: usize = 150;

/// Several times as long as a statement may take.
const LASTS: Duration = Duration::from_secs(24);

/// Two or three tries of a statement that takes 4 s, and what a busy machine adds: after that ingest knows
/// which organization's rows are locked.
const KNOWN_AFTER: Duration = Duration::from_secs(16);

pub(super) async fn an_organization_whose_rows_are_locked_holds_up_no_other(
    kind: Kind,
) -> anyhow::Result<()> {
    let home = Home::start_with(kind, &PREFETCH).await?;
    let (locked, other) = (home.tenant().await?, home.tenant().await?);
    let receiver = Receiver::healthy()?;
    locked.subscribe(&receiver, &["workflow.failed"]).await?;
    let prompt = Receiver::healthy()?;
    other.subscribe(&prompt, &["workflow.failed"]).await?;

    // Rows that another session has written in a transaction that it has not committed.
    let lock = format!(
        "INSERT INTO stored_bytes SELECT '{}', part, 0 FROM generate_series(0, 255) part;
         SELECT pg_sleep({})",
        locked.organization,
        LASTS.as_secs()
    );
    let begun = Instant::now();
    let locking = async {
        home.peers()?.sql(&lock).await?;
        anyhow::Ok(Instant::now())
    };
    let publishing = async {
        tokio::time::sleep(Duration::from_millis(500)).await;
        let events: Vec<Value> = (0..LOCKED)
            .map(|_| locked.event("workflow.failed"))
            .collect();
        locked.publish(&events).await?;
        let mut waits = Vec::new();
        while begun.elapsed() < LASTS - Duration::from_secs(4) {
            let at = Instant::now();
            other.publish_one("workflow.failed").await?;
            prompt.wait_for(waits.len() + 1).await?;
            waits.push(at.elapsed());
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        ensure!(receiver.received().is_empty(), "nothing was locked");
        anyhow::Ok(waits)
    };
    let (unlocked, waits) = tokio::try_join!(locking, publishing)?;
    let mut sorted = waits.clone();
    sorted.sort_unstable();
    ensure!(
        waits.iter().all(|wait| *wait < KNOWN_AFTER) && sorted[sorted.len() / 2] < KNOWN_AFTER / 12,
        "{waits:?}"
    );
    ensure!(waits.len() > 10, "{waits:?}");

    receiver.wait_for(LOCKED).await?;
    let took = unlocked.elapsed();
    ensure!(took < Duration::from_secs(30), "{took:?}");
    ensure!(home.dead_letters().await?.is_empty());
    home.end().await
}
