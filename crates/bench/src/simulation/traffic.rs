//! The times and endpoints of published messages.
//!
//! Both have heavy tails. Few endpoints get most messages (Zipf). Messages come in bursts to one endpoint: mostly one
//! message, at times a hundred.
//!
//! Each kind of endpoint has its own random numbers. Healthy endpoints thus get the same messages at the same times
//! with and without bad endpoints.

use std::ops::Range;

use rand::rngs::ChaCha8Rng;
use rand::{RngExt as _, SeedableRng as _};

/// A burst is longer than n with the probability n^TAIL.
const TAIL: f64 = -1.5;

const LONGEST_BURST: u32 = 100;

/// The messages to the endpoints of one kind.
pub(super) struct Traffic {
    rng: ChaCha8Rng,
    endpoints: Range<usize>,
    /// For each endpoint, the sum of the weights up to it.
    weights: Vec<f64>,
    /// Average milliseconds between two bursts.
    apart: f64,
    next: f64,
}

/// Messages that are published at the same time.
pub(super) struct Burst {
    pub(super) endpoint: usize,
    pub(super) messages: u32,
}

impl Traffic {
    /// Traffic of `rate` messages per second. None if the rate is 0.
    pub(super) fn new(endpoints: Range<usize>, rate: f64, seed: u64) -> Option<Self> {
        if rate <= 0.0 {
            return None;
        }
        let mut sum = 0.0;
        let zipf = (1..=endpoints.len()).map(|rank| 1.0 / rank as f64);
        let weights = zipf
            .map(|weight| {
                sum += weight;
                sum
            })
            .collect();
        let length: f64 = (1..=LONGEST_BURST).map(|n| f64::from(n).powf(TAIL)).sum();
        let mut traffic = Self {
            rng: ChaCha8Rng::seed_from_u64(seed ^ endpoints.start as u64),
            endpoints,
            weights,
            apart: length * 1_000.0 / rate,
            next: 0.0,
        };
        traffic.go_on();
        Some(traffic)
    }

    /// The time of the next burst, in milliseconds from the beginning.
    pub(super) fn next(&self) -> u32 {
        self.next as u32
    }

    /// The next burst, if its time has come.
    pub(super) fn take(&mut self, now: u32) -> Option<Burst> {
        if self.next() > now {
            return None;
        }
        self.go_on();
        let all = self.weights.last().copied().unwrap_or_default();
        let drawn = all * self.rng.random::<f64>();
        let index = self.weights.partition_point(|sum| *sum <= drawn);
        let length = (1.0 - self.rng.random::<f64>()).powf(1.0 / TAIL);
        Some(Burst {
            endpoint: self.endpoints.start + index.min(self.endpoints.len() - 1),
            messages: (length as u32).clamp(1, LONGEST_BURST),
        })
    }

    fn go_on(&mut self) {
        self.next -= self.apart * (1.0 - self.rng.random::<f64>()).ln();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_is_as_configured_and_few_endpoints_get_most_messages() {
        let mut traffic = Traffic::new(100..1_100, 1_000.0, 1).unwrap();
        let mut counts = vec![0_u32; 1_000];
        while let Some(burst) = traffic.take(100_000) {
            counts[burst.endpoint - 100] += burst.messages;
        }
        let all: u32 = counts.iter().sum();
        assert!((95_000..105_000).contains(&all), "{all} in 100 s");
        let first: u32 = counts[..100].iter().sum();
        assert!(first > all / 2, "{first} of {all} to a tenth of them");
    }
}
