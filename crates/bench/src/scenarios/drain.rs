//! d: the rate at which one dispatcher drains a backlog while no other service works.

use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use hookline_testkit::deployment::{Mode, Service};

use super::Size;
use crate::child_process;
use crate::measurement::{DELIVERED, Labels, Measurement, RATE};
use crate::setup::{PATIENCE, Setup, SetupOptions, TYPE};

pub(super) async fn run(labels: Labels, size: Size) -> anyhow::Result<Vec<Measurement>> {
    let options = SetupOptions {
        later: vec![Service::Dispatcher],
        ..SetupOptions::default()
    };
    let setup = Setup::open(Mode::Distributed, options).await?;
    setup.subscribe("ok/0", TYPE).await?;
    let backlog = size.of(50_000);
    child_process::publish(&setup.many(0, backlog)).await?;
    wait_until_taken_in(&setup, backlog).await?;
    setup.deployment.stop(Service::Ingest).await?;
    setup.deployment.stop(Service::Api).await?;

    setup
        .deployment
        .start_service(Service::Dispatcher, &[])
        .await?;
    let report = setup.receiver.wait_for(backlog, PATIENCE).await?;
    setup.close().await?;
    let (first, last) = report.first.zip(report.last).context("nothing came")?;
    Ok(vec![labels.of(
        DELIVERED,
        backlog as f64 / last.seconds_since(first),
        RATE,
    )])
}

/// Waits until ingest has stored `events` events. Fails if it makes no progress.
pub(super) async fn wait_until_taken_in(setup: &Setup, events: u64) -> anyhow::Result<()> {
    let metrics = format!("{}/metrics", setup.deployment.admin(Service::Ingest).await?);
    let (mut stored, mut since) = (0.0, Instant::now());
    while stored < events as f64 {
        tokio::time::sleep(Duration::from_millis(100)).await;
        let text = hookline_testkit::http::get(&metrics).await?.text().await?;
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
