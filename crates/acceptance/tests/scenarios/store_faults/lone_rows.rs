//! The store refuses one row again and again, and takes all others. The row is dead-lettered after a minute, with one line
//! in the log. Until then it is held.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use hookline_core::ids::DeliveryId;
use hookline_testkit::deployment::{Deployment, Mode};
use hookline_testkit::receiver::Receiver;
use hookline_testkit::tenant::Tenant;
use serde_json::Value;

use crate::poison::delivery_of;

/// The rule: a minute in which others are written. A held row is tried again each 5 s.
const EARLIEST: Duration = Duration::from_secs(60);
const LATEST: Duration = Duration::from_secs(120);

pub(super) async fn a_row_that_fails_alone_for_a_minute_is_dead_lettered_with_one_log_line(
    mode: Mode,
) -> anyhow::Result<()> {
    let deployment = Deployment::start(mode).await?;
    let tenant = deployment.tenant().await?;
    let receiver = Receiver::healthy()?;
    let subscription = tenant.subscribe(&receiver, &["workflow.failed"]).await?;
    let refused = tenant.event("workflow.failed");
    let unrecorded = tenant.event("workflow.failed");
    let delivery = delivery_of(&tenant, &unrecorded, subscription)?;
    refuse(&deployment, id_of(&refused)?, &delivery).await?;
    let began = Instant::now();
    tenant
        .publish(&[refused.clone(), unrecorded.clone()])
        .await?;

    // Looking at dead letters takes seconds on a busy machine, and meanwhile others must be written.
    let over = AtomicBool::new(false);
    let publishing = async {
        let mut others = 0;
        while !over.load(Ordering::Relaxed) {
            tenant.publish_one("workflow.failed").await?;
            others += 1;
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
        anyhow::Ok(others)
    };
    let looking = async {
        loop {
            tokio::time::sleep(Duration::from_millis(500)).await;
            let dead = deployment.dead_letters().await?;
            let elapsed = began.elapsed();
            ensure!(
                dead.is_empty() || elapsed >= EARLIEST,
                "{elapsed:?}: {dead:?}"
            );
            ensure!(
                elapsed < LATEST,
                "{elapsed:?}: {dead:?}\n{}",
                deployment.output().await
            );
            if dead.len() == 2 {
                over.store(true, Ordering::Relaxed);
                return Ok(dead);
            }
        }
    };
    let (others, dead) = tokio::try_join!(publishing, looking)?;
    // The answer to the delivery that could not be recorded came, too.
    receiver.wait_for(others + 1).await?;
    ensure!(
        dead.iter()
            .any(|letter| letter["event_id"] == refused["event_id"])
    );
    ensure!(
        dead.iter()
            .any(|letter| letter["id"] == delivery.to_string())
    );
    for event in [&refused, &unrecorded] {
        one_line(&deployment, &tenant, id_of(event)?).await?;
    }
    deployment.end().await
}

/// The event's row and the delivery's attempts; anything else is taken.
async fn refuse(deployment: &Deployment, event: &str, delivery: &DeliveryId) -> anyhow::Result<()> {
    let delivery = delivery.0.simple();
    let refuse = format!(
        "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS
         $$ BEGIN RAISE EXCEPTION 'this row is refused'; END $$;
         CREATE TRIGGER refuse BEFORE INSERT ON events FOR EACH ROW
         WHEN (NEW.event_id = '{event}') EXECUTE FUNCTION refuse();
         CREATE TRIGGER refuse BEFORE INSERT ON attempts FOR EACH ROW
         WHEN (NEW.delivery_id = '{delivery}') EXECUTE FUNCTION refuse()"
    );
    deployment.dependencies()?.sql(&refuse).await?;
    Ok(())
}

/// One warning with the event's id, its organization and the reason.
async fn one_line(deployment: &Deployment, tenant: &Tenant<'_>, event: &str) -> anyhow::Result<()> {
    let output = deployment.output().await;
    let lines: Vec<&str> = output
        .lines()
        .filter(|line| line.contains(event) && line.contains("dead-lettered "))
        .collect();
    ensure!(lines.len() == 1, "{event}: {lines:?}\n{output}");
    let complete = ["WARN", &tenant.organization, "this row is refused"]
        .iter()
        .all(|part| lines[0].contains(part));
    ensure!(complete, "{lines:?}");
    Ok(())
}

fn id_of(event: &Value) -> anyhow::Result<&str> {
    event["event_id"].as_str().context("an id")
}
