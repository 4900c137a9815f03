//! How long healthy deliveries took, and how much longer they may take beside bad ones.

use std::fmt;
use std::time::Duration;

/// Latencies by the time at which their events were to be published.
#[derive(Debug, Clone, Default)]
pub struct Latencies {
    all: Vec<(Duration, Duration)>,
}

/// How long a window is, of which p99 is taken for itself.
const WINDOW: Duration = Duration::from_secs(2);

impl Latencies {
    /// Adds an event that was to be published at `intended`.
    pub fn note(&mut self, intended: Duration, latency: Duration) {
        self.all.push((intended, latency));
    }

    /// How many.
    pub fn count(&self) -> usize {
        self.all.len()
    }

    /// The latency that `percent` of the deliveries did not exceed.
    pub fn percentile(&self, percent: usize) -> Duration {
        percentile(
            self.all.iter().map(|(_, latency)| *latency).collect(),
            percent,
        )
    }

    /// The p99 of most windows of two seconds: other work of the machine spoils some of them.
    pub fn usual_p99(&self) -> Duration {
        let mut windows: Vec<Vec<Duration>> = Vec::new();
        for (intended, latency) in &self.all {
            let window = usize::try_from(intended.as_secs() / WINDOW.as_secs()).unwrap_or_default();
            if windows.len() <= window {
                windows.resize(window + 1, Vec::new());
            }
            windows[window].push(*latency);
        }
        let p99s = windows.into_iter().filter(|one| !one.is_empty());
        percentile(p99s.map(|one| percentile(one, 99)).collect(), 50)
    }
}

impl fmt::Display for Latencies {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let of = |percent| Millis(self.percentile(percent));
        write!(
            f,
            "{:>7} deliveries   p50 {}   p99 {}   max {}   usual p99 {}",
            self.count(),
            of(50),
            of(99),
            of(100),
            Millis(self.usual_p99()),
        )
    }
}

fn percentile(mut latencies: Vec<Duration>, percent: usize) -> Duration {
    latencies.sort_unstable();
    let at = (latencies.len() * percent).div_ceil(100).saturating_sub(1);
    latencies.get(at).copied().unwrap_or_default()
}

/// How much longer it may take.
#[derive(Debug, Clone, Copy)]
pub enum LatencyBound {
    /// p99 at most 1.5 times, or 5 ms longer.
    Strict,
    /// The usual p99 at most five times, or a second longer: on a machine that is busy with other
    /// things. A delivery that waits for slots that are held until a deadline waits for several.
    Rough,
}

impl LatencyBound {
    /// Whether it is no more than that.
    pub fn holds(self, without: &Latencies, with: &Latencies) -> bool {
        let (without, with, times, plus) = match self {
            LatencyBound::Strict => (without.percentile(99), with.percentile(99), 1.5, 5),
            LatencyBound::Rough => (without.usual_p99(), with.usual_p99(), 5.0, 1_000),
        };
        let plus = without + Duration::from_millis(plus);
        with <= without.mul_f64(times).max(plus)
    }
}

/// Milliseconds with one digit behind the point.
pub(super) struct Millis(pub(super) Duration);

impl fmt::Display for Millis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.1} ms", self.0.as_secs_f64() * 1_000.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_bad_window_does_not_change_the_usual_p99() {
        let mut latencies = Latencies::default();
        for number in 0..1_000 {
            let intended = Duration::from_millis(number * 10);
            let slow = (100..150).contains(&number);
            let latency = Duration::from_millis(if slow { 900 } else { 3 });
            latencies.note(intended, latency);
        }
        assert_eq!(latencies.percentile(50).as_millis(), 3);
        assert_eq!(latencies.percentile(99).as_millis(), 900);
        assert_eq!(latencies.usual_p99().as_millis(), 3);
        assert!(!LatencyBound::Strict.holds(&Latencies::default(), &latencies));
        assert!(LatencyBound::Rough.holds(&Latencies::default(), &latencies));
    }
}
