//! c: the latency from publication to arrival of single events on an idle machine.

use hookline_testkit::deployment::Kind;

use super::Size;
use crate::measurement::{Figure, Figures, Goal, MILLIS};
use crate::setup::{Setting, Stage, TYPE};

/// Events per second.
pub(super) const RATE: u32 = 50;

pub(super) async fn run(figures: Figures, kind: Kind, size: Size) -> anyhow::Result<Vec<Figure>> {
    let stage = Stage::open(kind, Setting::default()).await?;
    stage.subscribe("ok/0", TYPE).await?;
    stage.warm_up(1).await?;
    let events = stage.steadily(RATE, size.of(30), &[TYPE]);
    let (_, report) = stage.deliver(&events, events.count).await?;
    stage.close().await?;
    let (p50, p99) = match kind {
        Kind::Distributed => (3.0, 7.0),
        Kind::Embedded => (1.5, 5.0),
    };
    let of = |percent, goal| {
        let name = format!("p{percent}");
        figures.to_reach(
            name,
            millis(&report.latencies, percent),
            MILLIS,
            Goal::AtMost(goal),
        )
    };
    Ok(vec![
        of(50, p50),
        of(99, p99),
        figures.of("slowest", millis(&report.latencies, 100), MILLIS),
    ])
}

/// The percentile of these microseconds, in milliseconds.
pub(super) fn millis(micros: &[u32], percent: usize) -> f64 {
    let mut sorted = micros.to_vec();
    sorted.sort_unstable();
    let at = (sorted.len() * percent).div_ceil(100).saturating_sub(1);
    sorted
        .get(at)
        .map_or(f64::NAN, |micros| f64::from(*micros) / 1_000.0)
}
