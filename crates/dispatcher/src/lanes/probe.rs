//! Which message is the probe of an open breaker: the one with the most attempts.
//!
//! A dead receiver gets a request a minute, whatever its backlog. Were that for whatever comes
//! first, none of many deliveries would ever get to the end of its schedule, and only that tells
//! the system that the subscription fails. So of what is put off, the message with the most
//! attempts comes back when the breaker lets a probe through, and the place is kept for it.

use std::time::{Duration, Instant};

/// For how long the place is kept for one that does not come back; another dispatcher may have it.
const LATE: Duration = Duration::from_secs(2);

/// What waits in lanes.
pub trait Message {
    /// Which attempt it asks for.
    fn attempt(&self) -> u32;
}

/// The place of the next probe is kept for a message of this attempt.
#[derive(Debug, Clone, Copy)]
pub(super) struct Reservation {
    attempt: u32,
    back: Instant,
}

impl Reservation {
    pub(super) fn new(attempt: u32, back: Instant) -> Self {
        Self { attempt, back }
    }

    /// Whether a message of this attempt may be the probe.
    pub(super) fn admits(self, attempt: u32, now: Instant) -> bool {
        attempt >= self.attempt || now >= self.back + LATE
    }

    /// Whether the place is to be kept for this one from now on: it has more attempts, or is the one
    /// that came back.
    pub(super) fn yields_to(self, attempt: u32, now: Instant) -> bool {
        attempt > self.attempt || now >= self.back && self.admits(attempt, now)
    }
}
