//! A failing organization: its transactions fail while those of other organizations succeed.
//!
//! It has slices of its own, one in flight at a time: one event first, then more with each success. An event that fails
//! alone is held and retried. An organization of which nothing is written for a while is *stuck*: all of its rows may
//! be affected, for example by a lock of another session. A stuck organization is tried more and more rarely, and most
//! of its events are deferred. That says nothing about a single event, so none is dead-lettered for it. Only time
//! counts in which other events of the same organization are written.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use super::slice::{SliceFailure, WaitingEvent, WriteKind};

const FIRST_WAIT: Duration = Duration::from_millis(50);

/// The backoff of an event that fails alone, and of a stuck organization.
pub(crate) const MAX_WAIT: Duration = Duration::from_secs(5);

/// An organization is stuck after this time without a success, in at least two transactions.
const STUCK_AFTER: Duration = Duration::from_secs(2);

/// How long an organization is stuck before that is logged.
const LOG_AFTER: Duration = Duration::from_secs(10);

/// How long messages of a stuck organization are deferred, and messages that a trial could not write. Meanwhile other
/// organizations use their places in the prefetch.
pub(crate) const DEFER_FOR: Duration = Duration::from_secs(5);

/// How long a stuck organization without unsettled messages is remembered.
const REMEMBER_FOR: Duration = Duration::from_secs(60);

/// From this limit of events on, the organization counts as healthy.
const NO_LIMIT: usize = 1_024;

/// The factor by which the limit grows with each success.
const GROWTH: usize = 4;

/// The backoff, exponential in the number of failures.
pub(crate) fn backoff(failures: u32, longest: Duration) -> Duration {
    (FIRST_WAIT * (1 << failures.min(10))).min(longest)
}

/// A failed transaction that is the fault of its rows.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RowFailure {
    pub(crate) is_of_one_organization: bool,
    /// The transaction retried a held event.
    pub(crate) is_retry: bool,
    /// How long the transactions of the organization have failed.
    pub(crate) duration: Duration,
}

#[derive(Debug)]
pub(crate) struct FailingOrganization {
    /// The first failure since a transaction succeeded.
    pub(crate) first_failure: Option<SliceFailure>,
    /// It has slices of its own, because others were written while its events were not.
    pub(crate) is_apart: bool,
    /// Events of its next slice.
    pub(crate) limit: usize,
    /// Events that failed alone, each with the time of its next attempt.
    pub(crate) held: Vec<(Instant, WaitingEvent)>,
    /// Failed transactions since one succeeded, without retries of held events.
    consecutive_failures: u32,
    was_logged: bool,
    stuck_since: Option<Instant>,
    /// The time of the next attempt.
    not_before: Option<Instant>,
    last_was_held: bool,
    written: Option<Instant>,
    written_with_deliveries: Option<Instant>,
}

impl Default for FailingOrganization {
    fn default() -> Self {
        Self {
            first_failure: None,
            is_apart: false,
            limit: NO_LIMIT,
            held: Vec::new(),
            consecutive_failures: 0,
            was_logged: false,
            stuck_since: None,
            not_before: None,
            last_was_held: false,
            written: None,
            written_with_deliveries: None,
        }
    }
}

impl FailingOrganization {
    /// The time when other events of this organization and kind were last written.
    pub(crate) fn written(&self, kind: WriteKind) -> Option<Instant> {
        match kind {
            WriteKind::EventsOnly => self.written,
            WriteKind::WithDeliveries => self.written_with_deliveries,
        }
    }

    pub(crate) fn succeeded(&mut self, written: Option<WriteKind>, now: Instant) {
        if let Some(kind) = written {
            self.written = Some(now);
            if kind == WriteKind::WithDeliveries {
                self.written_with_deliveries = Some(now);
            }
        }
        if !self.last_was_held {
            self.limit = self.limit.saturating_mul(GROWTH);
        }
        self.first_failure = None;
        self.consecutive_failures = 0;
        self.was_logged = false;
        self.stuck_since = None;
        self.not_before = None;
    }

    /// Whether its next slice may fail, too.
    pub(crate) fn is_slow(&self) -> bool {
        self.limit < NO_LIMIT || !self.held.is_empty()
    }

    /// How long its transactions have failed while the store could be written, as far as is known.
    pub(crate) fn duration_until(
        &self,
        last: SliceFailure,
        unwritable: Option<Instant>,
    ) -> Duration {
        let first = self.first_failure.map_or(last.began, |first| first.began);
        let since = unwritable.map_or(first, |at| at.max(first));
        last.ended.saturating_duration_since(since)
    }

    pub(crate) fn failed(&mut self, failure: RowFailure, now: Instant) {
        self.is_apart = true;
        if failure.is_of_one_organization {
            self.limit = 1;
        }
        if !failure.is_retry {
            self.consecutive_failures += 1;
        }
        if self.consecutive_failures > 1 && failure.duration >= STUCK_AFTER {
            self.stuck_since.get_or_insert(now);
            self.not_before = Some(now + backoff(self.consecutive_failures, MAX_WAIT));
        }
    }

    /// True once, when it has been stuck for long enough to be logged.
    pub(crate) fn should_log(&mut self, now: Instant) -> bool {
        let is_long = |since| now.saturating_duration_since(since) >= LOG_AFTER;
        !self.was_logged && {
            self.was_logged = self.stuck_since.is_some_and(is_long);
            self.was_logged
        }
    }

    pub(crate) fn is_stuck(&self) -> bool {
        self.stuck_since.is_some()
    }

    /// Whether it is still remembered. Its deferred messages come again meanwhile.
    pub(crate) fn is_remembered(&self, now: Instant) -> bool {
        let last = self.not_before.or(self.stuck_since);
        last.is_some_and(|at| now.saturating_duration_since(at) < REMEMBER_FOR)
    }

    pub(crate) fn is_due(&self, others_wait: bool, now: Instant) -> bool {
        self.not_before.is_none_or(|at| at <= now)
            && (others_wait || self.held.iter().any(|(at, _)| *at <= now))
    }

    pub(crate) fn due(&self, others_wait: bool) -> Option<Instant> {
        let held = self.held.iter().map(|(at, _)| *at).min();
        match others_wait {
            true => self.not_before,
            false => held.max(self.not_before),
        }
    }

    /// The held event that is due first. Held events alternate with events that were not tried before.
    pub(crate) fn next_held(&mut self, others_wait: bool, now: Instant) -> Option<WaitingEvent> {
        let yields = self.last_was_held && others_wait;
        let due = (0..self.held.len())
            .filter(|place| !yields && self.held[*place].0 <= now)
            .min_by_key(|place| self.held[*place].0);
        self.last_was_held = due.is_some();
        due.map(|place| self.held.swap_remove(place).1)
    }

    pub(crate) fn forget(&mut self, messages: &HashSet<u64>) {
        self.held
            .retain(|(_, one)| !messages.contains(&one.message));
    }
}
