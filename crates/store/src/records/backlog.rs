//! Backlog: due deliveries that wait for their subscription's turn, and circuit breakers that are not closed.

use std::time::Duration;

use hookline_core::delivery::OwedAttempt;
use hookline_core::ids::{DeliveryId, SubscriptionId};
use hookline_core::partition::Partition;
use hookline_core::timestamp::Timestamp;

use crate::error::StoreError;

/// The class of a delivery in the backlog.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum BacklogClass {
    /// There was no room for it. New deliveries of its subscription go behind it.
    Live,
    /// A replay started it again. Nothing waits behind it.
    Replay,
}

impl BacklogClass {
    pub(crate) fn number(self) -> i16 {
        match self {
            BacklogClass::Live => 1,
            BacklogClass::Replay => 2,
        }
    }
}

impl TryFrom<i16> for BacklogClass {
    type Error = StoreError;

    fn try_from(number: i16) -> Result<Self, StoreError> {
        match number {
            1 => Ok(BacklogClass::Live),
            2 => Ok(BacklogClass::Replay),
            other => Err(StoreError::Corrupt(format!("class of backlog: {other}"))),
        }
    }
}

/// A place in the backlog of a subscription: rows are read in the order of `due` and id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct BacklogPosition {
    pub due: Timestamp,
    pub delivery: DeliveryId,
}

/// A search for the next rows in the backlog of a subscription.
#[derive(Debug, Clone, Copy)]
pub struct BacklogRead {
    pub partition: Partition,
    pub subscription: SubscriptionId,
    pub class: BacklogClass,
    /// Rows behind this place; none reads from the start.
    pub after: Option<BacklogPosition>,
    /// Rows at most.
    pub limit: u32,
}

/// A delivery in the backlog.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BacklogRow {
    /// Its next attempt.
    pub owed: OwedAttempt,
    pub class: BacklogClass,
    pub due: Timestamp,
}

impl BacklogRow {
    pub fn position(&self) -> BacklogPosition {
        BacklogPosition {
            due: self.due,
            delivery: self.owed.delivery,
        }
    }
}

/// A subscription with backlog, as its partition's index lists it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Backlogged {
    pub partition: Partition,
    pub subscription: SubscriptionId,
    pub class: BacklogClass,
}

impl Backlogged {
    /// Entries in a page of a list.
    pub const MOST: i64 = 1_000;
}

/// A change of a circuit breaker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BreakerChange {
    pub subscription: SubscriptionId,
    /// The wait between two probes; none where the breaker has closed.
    pub wait: Option<Duration>,
}
