//! Slow start: the count of requests since the last timely response. It bounds the slots that a receiver can hold
//! before its hang is observed. A receiver that responds has no limit.

use std::time::{Duration, Instant};

use super::speed::SLOW;

/// Requests started since the last response in time. They never exceed those in flight.
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

    /// Counts the end of a request; `took` is none where no request was made. A response in time clears all requests in
    /// flight; a late one, or none, clears its own request only.
    pub(super) fn finished(&mut self, took: Option<Duration>) {
        match took {
            Some(took) if took <= SLOW => *self = Self::default(),
            Some(_) | None => self.count = self.count.saturating_sub(1),
        }
    }

    /// Whether the first of these requests has waited for longer than a timely response takes.
    pub(super) fn is_overdue(&self, now: Instant) -> bool {
        self.since
            .is_some_and(|since| now.saturating_duration_since(since) > SLOW)
    }
}
