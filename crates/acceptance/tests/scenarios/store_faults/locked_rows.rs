//! Rows are locked for longer than the store waits for a lock: all of some organizations, or that of one
//! delivery. Their organizations or deliveries wait. Others do not wait, and nothing is dead-lettered.

use std::time::{Duration, Instant};

use anyhow::ensure;
use hookline_testkit::deployment::{Deployment, Mode};
use hookline_testkit::receiver::{Receiver, Reply};
use hookline_testkit::waiting::until;

use crate::poison::delivery_of;

/// More than there are transactions at a time.
const LOCKED: usize = 5;

/// Events of each. They come first, and the prefetch has no place for all of them.
const EVENTS: usize = 30;
const PREFETCH: [(&str, &str); 1] = [("HOOKLINE__INGEST__PREFETCH", "100")];

/// Several times as long as a statement may take.
const FAULT_DURATION: Duration = Duration::from_secs(24);

/// Three or four tries of a statement that waits 1 s for the lock, and what a busy machine adds: after that ingest
/// knows which organizations' rows are locked.
const KNOWN_AFTER: Duration = Duration::from_secs(16);

pub(super) async fn organizations_with_locked_rows_delay_no_other(
    mode: Mode,
) -> anyhow::Result<()> {
    let deployment = Deployment::start_with(mode, &PREFETCH).await?;
    let receiver = Receiver::healthy()?;
    let mut locked = Vec::new();
    for _ in 0..LOCKED {
        let tenant = deployment.tenant().await?;
        tenant.subscribe(&receiver, &["workflow.failed"]).await?;
        locked.push(tenant);
    }
    let other = deployment.tenant().await?;
    let prompt = Receiver::healthy()?;
    other.subscribe(&prompt, &["workflow.failed"]).await?;

    // Rows that another session has written in a transaction that it has not committed.
    let names: Vec<String> = locked
        .iter()
        .map(|tenant| format!("('{}')", tenant.organization))
        .collect();
    let lock = format!(
        "INSERT INTO storage_usage SELECT name, shard, 0
           FROM generate_series(0, 255) shard, (VALUES {}) organizations (name);
         SELECT pg_sleep({})",
        names.join(", "),
        FAULT_DURATION.as_secs()
    );
    let begun = Instant::now();
    let locking = async {
        deployment.dependencies()?.sql(&lock).await?;
        anyhow::Ok(Instant::now())
    };
    let publishing = async {
        tokio::time::sleep(Duration::from_millis(500)).await;
        for tenant in &locked {
            let events = tenant.events("workflow.failed", EVENTS);
            tenant.publish(&events).await?;
        }
        let mut waits = Vec::new();
        while begun.elapsed() < FAULT_DURATION - Duration::from_secs(4) {
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
    println!("the others waited {waits:?}");
    ensure!(
        waits.iter().all(|wait| *wait < KNOWN_AFTER) && sorted[sorted.len() / 2] < KNOWN_AFTER / 12,
        "{waits:?}"
    );
    ensure!(waits.len() > 10, "{waits:?}");

    receiver.wait_for(LOCKED * EVENTS).await?;
    let elapsed = unlocked.elapsed();
    println!("the last event of theirs came {elapsed:?} after the lock");
    ensure!(elapsed < Duration::from_secs(30), "{elapsed:?}");
    ensure!(deployment.dead_letters().await?.is_empty());
    deployment.end().await
}

/// The lock begins while the receiver takes its time. It lasts longer than a minute: that is how long a row may fail by
/// itself while others of its subscription are written.
const ANSWERS_AFTER: Duration = Duration::from_secs(10);
const DEADLINE: [(&str, &str); 1] = [("HOOKLINE__DISPATCHER__DEADLINE_SECONDS", "20")];
const ROW_FAULT_DURATION: Duration = Duration::from_secs(75);

pub(super) async fn an_attempt_is_recorded_after_its_row_is_unlocked(
    mode: Mode,
) -> anyhow::Result<()> {
    let deployment = Deployment::start_with(mode, &DEADLINE).await?;
    let tenant = deployment.tenant().await?;
    let receiver = Receiver::with(|_, before| match before {
        0 => Reply::status(200).after(ANSWERS_AFTER),
        _ => Reply::status(200),
    })?;
    let subscription = tenant.subscribe(&receiver, &["workflow.failed"]).await?;
    let event = tenant.event("workflow.failed");
    let delivery = delivery_of(&tenant, &event, subscription)?;
    tenant.publish(std::slice::from_ref(&event)).await?;
    receiver.wait_for(1).await?;

    let lock = format!(
        "SELECT 1 FROM deliveries WHERE id = '{}' FOR UPDATE; SELECT pg_sleep({})",
        delivery.0.simple(),
        ROW_FAULT_DURATION.as_secs()
    );
    let locking = deployment.dependencies()?.sql(&lock);
    let begun = Instant::now();
    let publishing = async {
        let mut others = 0;
        while begun.elapsed() < ROW_FAULT_DURATION {
            tenant.publish_one("workflow.failed").await?;
            others += 1;
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
        receiver.wait_for(1 + others).await
    };
    tokio::try_join!(locking, publishing)?;
    let path = format!("/deliveries/{delivery}");
    let shown = until("the record", async || {
        let shown = tenant.client.get(&path).await?.expect(200)?.json;
        Ok((shown["status"] != "pending").then_some(shown))
    })
    .await?;
    ensure!(
        shown["status"] == "delivered" && shown["attempts"].as_array().map(Vec::len) == Some(1),
        "{shown}"
    );
    ensure!(deployment.dead_letters().await?.is_empty());
    deployment.end().await
}
