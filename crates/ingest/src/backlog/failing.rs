//! The state of an organization whose transactions fail while those of other organizations succeed.
//!
//! It has slices of its own, one under way at a time: one event first, then more with each success. An event
//! that fails alone is held and retried. An organization of which nothing is taken for a while is
//! *stuck*: something may be wrong with all of its rows (another session may hold a lock on them), so it is tried more
//! and more rarely, and most of its events are put off. That says nothing about any of them, so none is put
//! aside for it: only the time counts in which others of the same organization are written.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use super::{Failure, Kind, Waiting};

const FIRST_WAIT: Duration = Duration::from_millis(50);

/// The longest wait of an event that fails by itself, and of an organization that is stuck.
pub(super) const LONGEST_WAIT: Duration = Duration::from_secs(5);

/// After so long without a success, in at least two transactions, an organization is stuck.
const STUCK_AFTER: Duration = Duration::from_secs(2);

/// After an organization was stuck for so long an operator is told.
const TOLD_AFTER: Duration = Duration::from_secs(10);

/// For how long the messages of a stuck organization are put off, and those that a trial could not write. Meanwhile
/// messages of other organizations have their places in the prefetch.
pub(crate) const PUT_OFF: Duration = Duration::from_secs(5);

/// For how long it is remembered that an organization is stuck of which nothing is in hand.
const REMEMBERED: Duration = Duration::from_secs(60);

/// After slices of so many events have succeeded, there is no limit any more.
const NO_LIMIT: usize = 1_024;

/// By how much the limit grows with each success.
const GROWTH: usize = 4;

/// How long to wait after so many failures.
pub(super) fn backoff(failures: u32, longest: Duration) -> Duration {
    (FIRST_WAIT * (1 << failures.min(10))).min(longest)
}

#[derive(Debug)]
pub(super) struct Failing {
    /// The first since a transaction succeeded.
    pub(super) first_failure: Option<Failure>,
    /// It has slices of its own: others were written while its events were not.
    pub(super) is_apart: bool,
    /// How many events its next slice has at most.
    pub(super) limit: usize,
    /// Events that failed by themselves, each with the time of its next try.
    pub(super) held: Vec<(Instant, Waiting)>,
    /// How many transactions failed since one succeeded; retries of held events do not count.
    in_a_row: u32,
    was_told: bool,
    stuck_since: Option<Instant>,
    /// Nothing is tried before.
    not_before: Option<Instant>,
    last_was_held: bool,
    written: Option<Instant>,
    written_with_deliveries: Option<Instant>,
}

impl Default for Failing {
    fn default() -> Self {
        Self {
            first_failure: None,
            is_apart: false,
            limit: NO_LIMIT,
            held: Vec::new(),
            in_a_row: 0,
            was_told: false,
            stuck_since: None,
            not_before: None,
            last_was_held: false,
            written: None,
            written_with_deliveries: None,
        }
    }
}

impl Failing {
    /// When other events of this organization and kind were last written.
    pub(super) fn written(&self, kind: Kind) -> Option<Instant> {
        match kind {
            Kind::EventsAlone => self.written,
            Kind::WithDeliveries => self.written_with_deliveries,
        }
    }

    pub(super) fn succeeded(&mut self, written: Option<Kind>, now: Instant) {
        if let Some(kind) = written {
            self.written = Some(now);
            if kind == Kind::WithDeliveries {
                self.written_with_deliveries = Some(now);
            }
        }
        if !self.last_was_held {
            self.limit = self.limit.saturating_mul(GROWTH);
        }
        self.first_failure = None;
        self.in_a_row = 0;
        self.was_told = false;
        self.stuck_since = None;
        self.not_before = None;
    }

    /// Whether it has failed by itself, so that its next slice may fail, too.
    pub(super) fn is_slow(&self) -> bool {
        self.limit < NO_LIMIT || !self.held.is_empty()
    }

    /// For how long its transactions have failed while the store could be written, as far as is known.
    pub(super) fn lasts_for(&self, last: Failure, unwritable: Option<Instant>) -> Duration {
        let first = self.first_failure.map_or(last.began, |first| first.began);
        let since = unwritable.map_or(first, |at| at.max(first));
        last.ended.saturating_duration_since(since)
    }

    /// Notes that a transaction failed because of its rows, of this organization alone or also of others, as
    /// all have for so long.
    pub(super) fn failed(&mut self, is_alone: bool, is_retry: bool, lasts: Duration, now: Instant) {
        self.is_apart = true;
        if is_alone {
            self.limit = 1;
        }
        if !is_retry {
            self.in_a_row += 1;
        }
        if self.in_a_row > 1 && lasts >= STUCK_AFTER {
            self.stuck_since.get_or_insert(now);
            self.not_before = Some(now + backoff(self.in_a_row, LONGEST_WAIT));
        }
    }

    /// Whether an operator is to be told now that nothing of it is written.
    pub(super) fn tells(&mut self, now: Instant) -> bool {
        let lasts = |since| now.saturating_duration_since(since) >= TOLD_AFTER;
        !self.was_told && {
            self.was_told = self.stuck_since.is_some_and(lasts);
            self.was_told
        }
    }

    pub(super) fn is_stuck(&self) -> bool {
        self.stuck_since.is_some()
    }

    /// Whether what is known of it still counts: what was put off is to come again meanwhile.
    pub(super) fn lasts(&self, now: Instant) -> bool {
        let last = self.not_before.or(self.stuck_since);
        last.is_some_and(|at| now.saturating_duration_since(at) < REMEMBERED)
    }

    pub(super) fn is_due(&self, others_wait: bool, now: Instant) -> bool {
        self.not_before.is_none_or(|at| at <= now)
            && (others_wait || self.held.iter().any(|(at, _)| *at <= now))
    }

    /// When it is due next.
    pub(super) fn due(&self, others_wait: bool) -> Option<Instant> {
        let held = self.held.iter().map(|(at, _)| *at).min();
        match others_wait {
            true => self.not_before,
            false => held.max(self.not_before),
        }
    }

    /// The held event that is due first. Held events alternate with events that were not tried yet.
    pub(super) fn next_held(&mut self, others_wait: bool, now: Instant) -> Option<Waiting> {
        let gives_way = self.last_was_held && others_wait;
        let due = (0..self.held.len())
            .filter(|place| !gives_way && self.held[*place].0 <= now)
            .min_by_key(|place| self.held[*place].0);
        self.last_was_held = due.is_some();
        due.map(|place| self.held.swap_remove(place).1)
    }

    pub(super) fn forget(&mut self, messages: &HashSet<u64>) {
        self.held
            .retain(|(_, one)| !messages.contains(&one.message));
    }
}
