//! How many requests were started since the last answer: what a receiver that begins to hang can
//! hold before anybody knows, without any limit for one that answers.

use std::time::{Duration, Instant};

use super::subscription_queue::SLOW;

/// Requests started since one was answered in time. They never exceed those in flight.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct SlowStart {
    pub(super) count: usize,
    since: Option<Instant>,
}

impl SlowStart {
    pub(super) fn start(&mut self, now: Instant) {
        self.count += 1;
        self.since.get_or_insert(now);
    }

    /// A request is over; none when it was never made. An answer in time vouches for all that are
    /// on their way, a late one or none for itself.
    pub(super) fn over(&mut self, took: Option<Duration>) {
        match took {
            Some(took) if took <= SLOW => *self = Self::default(),
            Some(_) | None => self.count = self.count.saturating_sub(1),
        }
    }

    /// Whether it has been so for longer than an answer in time takes.
    pub(super) fn is_old(&self, now: Instant) -> bool {
        self.since
            .is_some_and(|since| now.saturating_duration_since(since) > SLOW)
    }
}
