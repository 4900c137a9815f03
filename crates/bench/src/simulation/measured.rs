//! The measurements of a run, second by second.

use std::ops::Range;

/// Counts of one second, or values at its end.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Second {
    /// Milliseconds from publication to first request, of each message to a healthy endpoint that was published in
    /// this second.
    pub healthy_waits: Vec<u32>,
    /// The same for the endpoint of 500 ms.
    pub slow_waits: Vec<u32>,
    /// Messages that were marked as backlog.
    pub marked: u32,
    /// The most that one dispatcher marked.
    pub marked_by_one: u32,
    /// Requests that began to the endpoint that refuses connections.
    pub to_dead: u32,
    /// Searches of a backlog.
    pub searches: u32,
    /// Messages that these searches found.
    pub found: u32,
    /// Deliveries to bad endpoints that ended.
    pub bad_ended: u32,
    /// Requests in flight to bad endpoints, from all dispatchers.
    pub bad_in_flight: u32,
    /// The most requests in flight to one hanging endpoint.
    pub to_one_hanging: u32,
    /// Requests in flight to the tenant's host.
    pub to_tenant: u32,
    /// Messages in the memory of all dispatchers.
    pub in_memory: u32,
    /// Due messages without room in a dispatcher.
    pub queued: u32,
}

/// The measurements of a whole run.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SimulationResult {
    /// From the first second until the last delivery ended.
    pub seconds: Vec<Second>,
    /// Published deliveries.
    pub published: usize,
    /// Deliveries that ended with a success.
    pub delivered: usize,
    /// Deliveries that ended with their retry schedule.
    pub exhausted: usize,
    /// Requests for an attempt that another request had made.
    pub twice: usize,
}

impl SimulationResult {
    /// The waits of messages to healthy endpoints that were published in these seconds.
    pub fn healthy(&self, seconds: Range<usize>) -> Waits {
        Waits::of(self.of(seconds).flat_map(|second| &second.healthy_waits))
    }

    /// The same for the endpoint of 500 ms.
    pub fn slow(&self, seconds: Range<usize>) -> Waits {
        Waits::of(self.of(seconds).flat_map(|second| &second.slow_waits))
    }

    /// The first second by the end of which this share of the deliveries to bad endpoints has ended.
    pub fn drained(&self, share: f64) -> usize {
        let ended = |second: &Second| f64::from(second.bad_ended);
        let all: f64 = self.seconds.iter().map(ended).sum();
        let mut so_far = 0.0;
        let found = self.seconds.iter().position(|second| {
            so_far += ended(second);
            so_far >= all * share
        });
        found.unwrap_or_default()
    }

    /// The maximum of a measurement in these seconds.
    pub fn most(&self, seconds: Range<usize>, what: impl Fn(&Second) -> u32) -> u32 {
        self.of(seconds).map(what).max().unwrap_or_default()
    }

    /// The average of a measurement over these seconds.
    pub fn mean(&self, seconds: Range<usize>, what: impl Fn(&Second) -> u32) -> f64 {
        let count = seconds.len().max(1) as f64;
        self.of(seconds)
            .map(|one| f64::from(what(one)))
            .sum::<f64>()
            / count
    }

    fn of(&self, seconds: Range<usize>) -> impl Iterator<Item = &Second> {
        self.seconds.iter().take(seconds.end).skip(seconds.start)
    }
}

/// Percentiles of waits for a slot, in milliseconds. All are 0 if no message waited.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Waits {
    pub p50: u32,
    pub p99: u32,
    pub max: u32,
}

impl Waits {
    pub(super) fn of<'a>(waits: impl Iterator<Item = &'a u32>) -> Self {
        let mut waits: Vec<u32> = waits.copied().collect();
        waits.sort_unstable();
        let at = |percent: usize| {
            let index = (waits.len() * percent / 100).min(waits.len().saturating_sub(1));
            waits.get(index).copied().unwrap_or_default()
        };
        Self {
            p50: at(50),
            p99: at(99),
            max: at(100),
        }
    }
}
