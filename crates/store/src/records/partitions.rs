//! Owners of partitions, and the deliveries that are due in them.

use hookline_core::delivery::OwedAttempt;
use hookline_core::partition::{DispatcherId, Partition};
use hookline_core::timestamp::Timestamp;

/// A sign of life of a dispatcher.
#[derive(Debug, Clone, Copy)]
pub struct Beat {
    pub id: DispatcherId,
    /// The process stops: it takes no partition, and others do not count it.
    pub draining: bool,
    /// False while its writes fail, or no receiver can be reached from it.
    pub able: bool,
}

/// All dispatchers and partitions as a beat found them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Roster {
    pub dispatchers: Vec<RegisteredDispatcher>,
    /// Each partition once, in order.
    pub partitions: Vec<Holding>,
}

/// A registered dispatcher; it may be dead.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RegisteredDispatcher {
    pub id: DispatcherId,
    /// Raised by one with each sign of life.
    pub beat: i64,
    pub draining: bool,
    pub able: bool,
}

/// A partition and its owner.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holding {
    pub partition: Partition,
    pub owner: Option<DispatcherId>,
    /// Raised by one whenever the owner changes.
    pub epoch: i64,
    /// How many owners in a row died without release, each within ten minutes after the one before.
    pub deaths: u32,
    /// Requests of an earlier owner that may be in flight, as that owner wrote them: JSON, or empty.
    pub note: String,
}

/// A partition that a dispatcher wants, as it was observed. It is taken if owner and epoch are still the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PartitionClaim {
    pub partition: Partition,
    pub owner: Option<DispatcherId>,
    pub epoch: i64,
}

/// A partition that its owner gives up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HandOver {
    pub partition: Partition,
    pub epoch: i64,
    /// The new owner; none where any dispatcher may take it.
    pub to: Option<DispatcherId>,
    pub note: String,
}

/// A search for due deliveries in partitions.
#[derive(Debug, Clone)]
pub struct Look {
    pub partitions: Vec<LookInto>,
    /// Rows that are due at this moment or before.
    pub until: Timestamp,
}

/// How much of one partition is read.
#[derive(Debug, Clone, Copy)]
pub struct LookInto {
    pub partition: Partition,
    /// Rows that are due before are not read.
    pub floor: Timestamp,
    /// Rows at most, those that have been due for longest first.
    pub limit: u32,
    /// And so many of those that have been due for the shortest time.
    pub newest: u32,
}

/// A delivery that is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Due {
    /// Its next attempt.
    pub owed: OwedAttempt,
    pub partition: Partition,
    pub due: Timestamp,
}

/// What waits in a partition. Each count stops at [`PartitionTotals::MOST`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PartitionTotals {
    pub partition: Partition,
    /// Deliveries that are due now and not in the backlog.
    pub due: u64,
    /// Due deliveries that wait for their subscription's turn.
    pub backlog: u64,
    /// Deliveries that are due later.
    pub later: u64,
}

impl PartitionTotals {
    /// The largest count that is exact.
    pub const MOST: u64 = 10_000;
}
