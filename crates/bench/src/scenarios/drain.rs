//! d: the rate at which one dispatcher drains a backlog while no other service works.

use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use hookline_testkit::deployment::{Kind, Part};

use super::Size;
use crate::child_process;
use crate::measurement::{DELIVERED, Figure, Figures, RATE};
use crate::setup::{PATIENCE, Setting, Stage, TYPE};

pub(super) async fn run(figures: Figures, size: Size) -> anyhow::Result<Vec<Figure>> {
    let setting = Setting {
        later: vec![Part::Dispatcher],
        ..Setting::default()
    };
    let stage = Stage::open(Kind::Distributed, setting).await?;
    stage.subscribe("ok/0", TYPE).await?;
    let backlog = size.of(50_000);
    child_process::publish(&stage.many(0, backlog)).await?;
    wait_until_taken_in(&stage, backlog).await?;
    stage.home.stop(Part::Ingest).await?;
    stage.home.stop(Part::Api).await?;

    stage.home.start_part(Part::Dispatcher, &[]).await?;
    let report = stage.receiver.wait_for(backlog, PATIENCE).await?;
    stage.close().await?;
    let (first, last) = report.first.zip(report.last).context("nothing came")?;
    Ok(vec![figures.of(
        DELIVERED,
        backlog as f64 / last.seconds_since(first),
        RATE,
    )])
}

/// Waits until ingest has stored `events` events. Fails if it makes no progress.
pub(super) async fn wait_until_taken_in(stage: &Stage, events: u64) -> anyhow::Result<()> {
    let metrics = format!("{}/metrics", stage.home.admin(Part::Ingest).await?);
    let (mut stored, mut since) = (0.0, Instant::now());
    while stored < events as f64 {
        tokio::time::sleep(Duration::from_millis(100)).await;
        let text = reqwest::get(&metrics).await?.text().await?;
        let now = text.lines().find_map(|line| {
            line.strip_prefix("hookline_events_taken_in_total")?
                .rsplit(' ')
                .next()?
                .parse::<f64>()
                .ok()
        });
        if let Some(now) = now.filter(|now| *now > stored) {
            (stored, since) = (now, Instant::now());
        }
        ensure!(
            since.elapsed() < PATIENCE,
            "ingest has stored {stored} of {events} events, and then none"
        );
    }
    Ok(())
}
