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

/// A run through the retry schedule: the first one, or one that somebody has begun again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Run {
    /// Who began it.
    pub cause: Cause,
    /// How many attempts were made in the runs before.
    pub attempts_before: u32,
}

impl Run {
    /// The place in this run of the delivery's `attempt`th attempt, from 1.
    pub fn step(self, attempt: u32) -> u32 {
        attempt.saturating_sub(self.attempts_before)
    }
}

/// Who began a run through the retry schedule.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Cause {
    /// Nobody but the event or test itself.
    #[default]
    First,
    /// Somebody asked for this delivery once more.
    Retry,
    /// It is part of a replay.
    Replay,
}

/// Why an attempt was made: the contract's `trigger`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Trigger {
    /// The first one for an event.
    Event,
    /// A later one, by the schedule or because somebody asked for it.
    Retry,
    /// A test.
    Test,
    /// The first one of a replay.
    Replay,
}

impl Trigger {
    /// The trigger of the `attempt`th request of a delivery of this origin, made in this run.
    pub fn of(origin: Origin, run: Run, attempt: u32) -> Self {
        match (run.cause, origin, run.step(attempt)) {
            (Cause::First, Origin::Test, _) => Trigger::Test,
            (Cause::First, Origin::Event, 1) => Trigger::Event,
            (Cause::Replay, _, 1) => Trigger::Replay,
            _ => Trigger::Retry,
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
    pub const fn as_str(self) -> &'static str {
        match self {
            GaveUp::OutOfAttempts => "out_of_attempts",
            GaveUp::Gone => "gone",
            GaveUp::Poison => "poison",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn triggers(origin: Origin, cause: Cause, attempts_before: u32) -> [Trigger; 2] {
        let run = Run {
            cause,
            attempts_before,
        };
        [1, 2].map(|step| Trigger::of(origin, run, attempts_before + step))
    }

    #[test]
    fn the_first_attempt_of_a_run_tells_who_began_it() {
        use Trigger::{Event, Replay, Retry, Test};
        let of_event = |cause, before| triggers(Origin::Event, cause, before);
        assert_eq!(of_event(Cause::First, 0), [Event, Retry]);
        assert_eq!(of_event(Cause::Retry, 9), [Retry, Retry]);
        assert_eq!(of_event(Cause::Replay, 9), [Replay, Retry]);
        // A delivery that was skipped had no attempt before its replay.
        assert_eq!(of_event(Cause::Replay, 0), [Replay, Retry]);
        assert_eq!(triggers(Origin::Test, Cause::First, 0), [Test, Test]);
        assert_eq!(triggers(Origin::Test, Cause::Retry, 1), [Retry, Retry]);
    }
}
