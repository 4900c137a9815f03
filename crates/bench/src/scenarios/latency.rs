//! c: the latency from publication to arrival of single events on an idle machine.

use hookline_testkit::deployment::Mode;

use super::Size;
use crate::measurement::{Goal, Labels, MILLIS, Measurement};
use crate::setup::{Setup, SetupOptions, TYPE};

/// Events per second.
pub(super) const RATE: u32 = 50;

pub(super) async fn run(
    labels: Labels,
    mode: Mode,
    size: Size,
) -> anyhow::Result<Vec<Measurement>> {
    let setup = Setup::open(mode, SetupOptions::default()).await?;
    setup.subscribe("ok/0", TYPE).await?;
    setup.warm_up(1).await?;
    let events = setup.steadily(RATE, size.of(30), &[TYPE]);
    let (_, report) = setup.deliver(&events, events.count).await?;
    setup.close().await?;
    let (p50, p99) = match mode {
        Mode::Distributed => (3.0, 7.0),
        Mode::Standalone => (1.5, 5.0),
    };
    let of = |percent, goal| {
        let name = format!("p{percent}");
        labels.to_reach(
            name,
            millis(&report.latencies, percent),
            MILLIS,
            Goal::AtMost(goal),
        )
    };
    Ok(vec![
        of(50, p50),
        of(99, p99),
        labels.of("slowest", millis(&report.latencies, 100), MILLIS),
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
