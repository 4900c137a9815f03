//! e: the cost of a hanging receiver for nine others.

use hookline_testkit::deployment::Mode;

use super::Size;
use super::latency::millis;
use crate::ledger::ReceiverReport;
use crate::measurement::{Goal, Labels, MILLIS, Measurement};
use crate::setup::{Setup, SetupOptions};

const RATE: u32 = 200;

/// Five event types with two subscriptions each.
const TYPES: [&str; 5] = [
    "workflow.started",
    "workflow.completed",
    "workflow.failed",
    "workflow.step.started",
    "workflow.step.completed",
];

pub(super) async fn run(
    labels: Labels,
    mode: Mode,
    size: Size,
) -> anyhow::Result<Vec<Measurement>> {
    let seconds = size.of(120);
    let without = healthy(mode, "ok", seconds).await?;
    let with = healthy(mode, "hangs", seconds).await?;
    let [before, after] = [&without, &with].map(|report| millis(&report.latencies, 99));
    // The limit: 1.5 times, or 5 ms more.
    let most = (1.5 * before).max(before + 5.0);
    Ok(vec![
        labels.of(
            "p50 of nine, the tenth is well",
            millis(&without.latencies, 50),
            MILLIS,
        ),
        labels.of(
            "p50 of nine, the tenth hangs",
            millis(&with.latencies, 50),
            MILLIS,
        ),
        labels.of("p99 of nine, the tenth is well", before, MILLIS),
        labels.of("p99 of nine, the tenth hangs", after, MILLIS),
        labels.to_reach(
            "p99 as a part of what it may be",
            after / most,
            "",
            Goal::AtMost(1.0),
        ),
    ])
}

/// The report of nine healthy receivers beside a tenth that behaves like `tenth`.
async fn healthy(mode: Mode, tenth: &str, seconds: u64) -> anyhow::Result<ReceiverReport> {
    let setup = Setup::open(mode, SetupOptions::default()).await?;
    for number in 0..2 * TYPES.len() {
        let behaviour = match number {
            0 => tenth,
            _ => "ok",
        };
        setup
            .subscribe(
                &format!("{behaviour}/{number}"),
                TYPES[number % TYPES.len()],
            )
            .await?;
    }
    // Each event has two deliveries, so the rate is that of deliveries.
    let events = setup.steadily(RATE / 2, seconds, &TYPES);
    let hanging = match tenth {
        "hangs" => events.count.div_ceil(TYPES.len() as u64),
        _ => 0,
    };
    let (_, report) = setup.deliver(&events, 2 * events.count - hanging).await?;
    setup.close().await?;
    Ok(report)
}
