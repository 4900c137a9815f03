//! How far the backlog of a subscription was read.
//!
//! What does not fit into a lane is marked in the store, and read again in the order in which it is due. New deliveries
//! go behind it: while a lane has backlog of the class `live`, they are marked, too. A search goes on behind the last
//! row that it found. What was marked with an earlier `due` is found by a search from the start, and so the backlog ends
//! only with a search from the start that finds nothing new.

use std::time::{Duration, Instant};

use hookline_core::ids::SubscriptionId;
use hookline_store::{BacklogClass, BacklogPosition};

/// The time between two searches from the start, which pass over what is in hand.
const FROM_START_EVERY: Duration = Duration::from_millis(250);

/// The next rows of a subscription's backlog that a lane has room for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Read {
    /// Whose backlog.
    pub subscription: SubscriptionId,
    /// Which part of it.
    pub class: BacklogClass,
    /// Where the search begins; none: at the start.
    pub after: Option<BacklogPosition>,
    /// Rows at most.
    pub limit: usize,
}

/// The result of a search.
#[derive(Debug, Default, Clone, Copy)]
pub struct ReadResult {
    /// Rows that were found.
    pub found: usize,
    /// Of these, those that were not in hand.
    pub new: usize,
    /// The place of the last one.
    pub last: Option<BacklogPosition>,
}

/// The backlog of one class.
#[derive(Debug, Clone, Copy)]
pub(super) struct Backlog {
    after: Option<BacklogPosition>,
    is_under_way: bool,
    /// The last search found all that is behind `after`.
    is_at_end: bool,
    /// When a search from the start may begin.
    from_start_at: Instant,
}

impl Backlog {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            after: None,
            is_under_way: false,
            is_at_end: false,
            from_start_at: now,
        }
    }

    /// Rows were marked, maybe behind the place up to which it was read.
    pub(super) fn grew(&mut self) {
        self.is_at_end = false;
    }

    /// A row that was read was let go.
    pub(super) fn gave_back(&mut self) {
        self.after = None;
        self.is_at_end = false;
    }

    pub(super) fn is_under_way(&self) -> bool {
        self.is_under_way
    }

    /// Begins a search, and answers with where; none where it is too early.
    pub(super) fn begin(&mut self, now: Instant) -> Option<Option<BacklogPosition>> {
        if self.is_under_way || self.is_at_end && now < self.from_start_at {
            return None;
        }
        if self.is_at_end {
            self.after = None;
        }
        if self.after.is_none() {
            self.from_start_at = now + FROM_START_EVERY;
        }
        self.is_under_way = true;
        Some(self.after)
    }

    /// A search has ended; whether the backlog has, too.
    pub(super) fn end(&mut self, read: Read, result: ReadResult) -> bool {
        self.is_under_way = false;
        if result.found >= read.limit {
            self.after = result.last;
            return false;
        }
        self.is_at_end = true;
        self.after = result.last.or(read.after);
        read.after.is_none() && result.new == 0
    }

    /// A search has failed.
    pub(super) fn fail(&mut self, now: Instant) {
        self.is_under_way = false;
        self.is_at_end = true;
        self.from_start_at = now + FROM_START_EVERY;
    }
}
