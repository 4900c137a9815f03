//! The read position in the backlog of a subscription.
//!
//! The store marks a message without room in its subscription queue. The owner reads it again in the order of due
//! times. New deliveries go behind the backlog: while a subscription has backlog of the class `live`, they are marked,
//! too. A search continues behind the last row that the search before it found. A row that was marked with an earlier
//! `due` is found by a search from the start. The backlog therefore ends only with a search from the start that finds
//! nothing new.

use std::time::{Duration, Instant};

use hookline_core::ids::SubscriptionId;
use hookline_store::{BacklogClass, BacklogPosition};

/// The time between two searches from the start. They pass over the rows in hand.
const FROM_START_EVERY: Duration = Duration::from_millis(250);

/// A search for the next rows of a backlog, for which the subscription queue has room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BacklogSearch {
    pub subscription: SubscriptionId,
    pub class: BacklogClass,
    /// The position behind which the search begins; none: at the start.
    pub after: Option<BacklogPosition>,
    /// The most rows that the search returns.
    pub limit: usize,
}

/// The result of a search.
#[derive(Debug, Default, Clone, Copy)]
pub struct SearchResult {
    /// Rows that were found.
    pub found: usize,
    /// The part of `found` that was not in hand.
    pub new: usize,
    /// The position of the last row found.
    pub last: Option<BacklogPosition>,
}

/// The backlog of one class.
#[derive(Debug, Clone, Copy)]
pub(super) struct Backlog {
    after: Option<BacklogPosition>,
    is_searching: bool,
    /// The last search found all rows behind `after`.
    is_at_end: bool,
    /// The earliest time of the next search from the start.
    from_start_at: Instant,
}

impl Backlog {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            after: None,
            is_searching: false,
            is_at_end: false,
            from_start_at: now,
        }
    }

    /// Notes that rows were marked. They may stand behind the read position.
    pub(super) fn rows_were_marked(&mut self) {
        self.is_at_end = false;
    }

    /// Notes that a row was read and then let go.
    pub(super) fn row_was_returned(&mut self) {
        self.after = None;
        self.is_at_end = false;
    }

    pub(super) fn is_searching(&self) -> bool {
        self.is_searching
    }

    /// Begins a search, and returns its position; none where it is too early for one.
    pub(super) fn begin(&mut self, now: Instant) -> Option<Option<BacklogPosition>> {
        if self.is_searching || self.is_at_end && now < self.from_start_at {
            return None;
        }
        if self.is_at_end {
            self.after = None;
        }
        if self.after.is_none() {
            self.from_start_at = now + FROM_START_EVERY;
        }
        self.is_searching = true;
        Some(self.after)
    }

    /// Ends a search. Returns whether the backlog has ended, too.
    pub(super) fn end(&mut self, read: BacklogSearch, result: SearchResult) -> bool {
        self.is_searching = false;
        if result.found >= read.limit {
            self.after = result.last;
            return false;
        }
        self.is_at_end = true;
        self.after = result.last.or(read.after);
        read.after.is_none() && result.new == 0
    }

    /// Notes a failed search.
    pub(super) fn fail(&mut self, now: Instant) {
        self.is_searching = false;
        self.is_at_end = true;
        self.from_start_at = now + FROM_START_EVERY;
    }
}
