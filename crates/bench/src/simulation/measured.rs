//! What is seen of a run, second by second.

use std::ops::Range;

/// What happened in one second, or stood at its end.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Second {
    /// How long each message to a healthy endpoint that was published in it waited for its first
    /// request, in milliseconds.
    pub healthy_waits: Vec<u32>,
    /// The same for the honest endpoint of 500 ms.
    pub slow_waits: Vec<u32>,
    /// Messages that were marked as backlog.
    pub marked: u32,
    /// Of these, by the dispatcher that marked most.
    pub marked_by_one: u32,
    /// Requests that began to the endpoint that refuses.
    pub to_dead: u32,
    /// Searches of a backlog.
    pub searches: u32,
    /// Messages that these found.
    pub found: u32,
    /// Deliveries to bad endpoints that ended.
    pub bad_ended: u32,
    /// Requests in flight to bad endpoints, of all dispatchers.
    pub bad_in_flight: u32,
    /// Of these, to the endpoint that has most.
    pub to_one_hanging: u32,
    /// Of these, to the tenant's host.
    pub to_tenant: u32,
    /// Messages in all dispatchers.
    pub in_memory: u32,
    /// Due messages that no dispatcher has room for.
    pub queued: u32,
}

/// A whole run.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Run {
    /// From the first second until the last delivery ended.
    pub seconds: Vec<Second>,
    /// Deliveries.
    pub published: usize,
    /// Those whose receiver has them.
    pub delivered: usize,
    /// Those that came to the end of their schedule.
    pub exhausted: usize,
    /// Requests that were made though another one had done the same.
    pub twice: usize,
}

impl Run {
    /// Of healthy messages published in these seconds, how long they waited.
    pub fn healthy(&self, seconds: Range<usize>) -> Waits {
        Waits::of(self.of(seconds).flat_map(|second| &second.healthy_waits))
    }

    /// The same for the honest endpoint of 500 ms.
    pub fn slow(&self, seconds: Range<usize>) -> Waits {
        Waits::of(self.of(seconds).flat_map(|second| &second.slow_waits))
    }

    /// The second in which this share of the deliveries to bad endpoints had ended.
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

    /// The most of something in one of these seconds.
    pub fn most(&self, seconds: Range<usize>, what: impl Fn(&Second) -> u32) -> u32 {
        self.of(seconds).map(what).max().unwrap_or_default()
    }

    /// So many a second, on average over these seconds.
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

/// Waits for a slot, in milliseconds; all are 0 where nobody waited.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Waits {
    /// Half of them waited no longer.
    pub p50: u32,
    /// All but one of a hundred waited no longer.
    pub p99: u32,
    /// None waited longer.
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
