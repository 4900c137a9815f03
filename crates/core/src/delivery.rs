//! A delivery: one event on its way to one subscription.
//!
//! At least once, with no lease: whoever makes attempt n asks the store to move the delivery from
//! n-1 to n, and only one can. What a loser or a restarted process then finds in the store tells
//! it what is still owed.

use serde::Serialize;

use crate::ids::{DeliveryId, SubscriptionId};
use crate::timestamp::Timestamp;

/// What a message between our own processes names: the attempt that is owed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct OwedAttempt {
    /// The delivery.
    pub delivery: DeliveryId,
    /// 0 for the first run through the schedule; each replay starts the next.
    pub generation: u32,
    /// The attempt to make, from 1.
    pub attempt: u32,
    /// Whose delivery it is, so that messages can be sorted by receiver without asking the store;
    /// it tells no attempts apart.
    pub subscription: SubscriptionId,
}

/// Why a delivery exists.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Origin {
    /// An event that its subscription wants.
    Event,
    /// Somebody asked for a test: sent once, whatever the subscription wants.
    Test,
}

impl Origin {
    /// The name in answers and in the store.
    pub fn as_str(self) -> &'static str {
        match self {
            Origin::Event => "event",
            Origin::Test => "test",
        }
    }
}

/// Why an attempt was made: the contract's `trigger`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Trigger {
    /// The first one for an event.
    Event,
    /// A later one, by the schedule.
    Retry,
    /// A test.
    Test,
}

impl Trigger {
    /// The trigger of the `attempt`th request of a delivery of this origin.
    pub fn of(origin: Origin, attempt: u32) -> Self {
        match (origin, attempt) {
            (Origin::Test, _) => Trigger::Test,
            (Origin::Event, 1) => Trigger::Event,
            (Origin::Event, _) => Trigger::Retry,
        }
    }
}

/// Where a delivery stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeliveryState {
    /// The next attempt is owed at `due`.
    Pending {
        /// When.
        due: Timestamp,
    },
    /// The receiver has it.
    Delivered {
        /// Since when.
        at: Timestamp,
    },
    /// No further attempt is made.
    Exhausted {
        /// Since when.
        at: Timestamp,
        /// Why.
        why: GaveUp,
    },
    /// The subscription was inactive.
    Skipped {
        /// Since when.
        at: Timestamp,
    },
    /// The subscription was deleted.
    Cancelled {
        /// Since when.
        at: Timestamp,
    },
}

/// Why no further attempt is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GaveUp {
    /// The retry schedule has ended.
    OutOfAttempts,
    /// The receiver answered 410.
    Gone,
    /// A message of it could not be handled again and again.
    Poison,
}

impl GaveUp {
    /// The name in answers and in the store.
    pub fn as_str(self) -> &'static str {
        match self {
            GaveUp::OutOfAttempts => "out_of_attempts",
            GaveUp::Gone => "gone",
            GaveUp::Poison => "poison",
        }
    }
}
