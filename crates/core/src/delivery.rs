//! A delivery: one event on its way to one subscription.
//!
//! Delivery is at least once, without a lease. A dispatcher that has made attempt n asks the store to move the
//! delivery from n-1 to n, and one of several succeeds. The others, and a restarted process, read in the store
//! which attempt comes next.

use serde::Serialize;

use crate::ids::{DeliveryId, SubscriptionId};
use crate::timestamp::Timestamp;

/// The next attempt of a delivery, as messages between our own processes name it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct AttemptTask {
    pub delivery: DeliveryId,
    /// 0 for the first run through the schedule; each replay starts the next.
    pub generation: u32,
    /// From 1.
    pub attempt: u32,
    /// Lets a dispatcher sort messages by receiver without a query; not part of the identity.
    pub subscription: SubscriptionId,
}

/// Why a delivery exists. The column and the API's field are called `origin`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, strum::IntoStaticStr, strum::EnumString)]
#[strum(serialize_all = "snake_case")]
pub enum DeliveryKind {
    /// An event that its subscription wants.
    Event,
    /// A test that a user asked for: sent once, whatever the subscription wants.
    Test,
}

impl DeliveryKind {
    /// The name in answers and in the store.
    pub fn as_str(self) -> &'static str {
        self.into()
    }
}

/// A run through the retry schedule: the first one, or one that a user started.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct RetryRun {
    pub started_by: StartedBy,
    /// Attempts of earlier runs.
    pub attempts_before: u32,
}

impl StartedBy {
    /// The name in the store.
    pub fn as_str(self) -> &'static str {
        self.into()
    }
}

impl RetryRun {
    /// The place in this run of the delivery's `attempt`th attempt, from 1.
    pub fn step(self, attempt: u32) -> u32 {
        attempt.saturating_sub(self.attempts_before)
    }
}

/// The start of a run through the retry schedule.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Hash, Default, strum::IntoStaticStr, strum::EnumString,
)]
#[strum(serialize_all = "snake_case")]
pub enum StartedBy {
    /// The event or test itself.
    #[default]
    First,
    /// A user asked for this delivery again.
    Retry,
    Replay,
}

/// Why an attempt was made: the contract's `trigger`.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, strum::IntoStaticStr, strum::EnumString,
)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum Trigger {
    /// The first one for an event.
    Event,
    /// A later one, by the schedule or because a user asked for it.
    Retry,
    Test,
    /// The first one of a replay.
    Replay,
}

impl Trigger {
    /// The name in answers and in the store.
    pub fn as_str(self) -> &'static str {
        self.into()
    }

    /// The trigger of the `attempt`th request of a delivery of this kind, made in this run.
    pub fn of(kind: DeliveryKind, run: RetryRun, attempt: u32) -> Self {
        match (run.started_by, kind, run.step(attempt)) {
            (StartedBy::First, DeliveryKind::Test, _) => Trigger::Test,
            (StartedBy::First, DeliveryKind::Event, 1) => Trigger::Event,
            (StartedBy::Replay, _, 1) => Trigger::Replay,
            _ => Trigger::Retry,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeliveryState {
    /// The next attempt is due at `due`.
    Pending { due: Timestamp },
    /// The receiver has it.
    Delivered { at: Timestamp },
    /// No further attempt is made.
    Exhausted {
        at: Timestamp,
        reason: ExhaustedReason,
    },
    /// The subscription was inactive.
    Skipped { at: Timestamp },
    /// The subscription was deleted.
    Cancelled { at: Timestamp },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, strum::IntoStaticStr, strum::EnumString)]
#[strum(serialize_all = "snake_case")]
pub enum ExhaustedReason {
    /// The retry schedule has ended.
    OutOfAttempts,
    /// The receiver answered 410.
    Gone,
    /// No process could handle it: see [`crate::quarantine`] and [`crate::row_failures`].
    Poison,
}

impl ExhaustedReason {
    /// The name in answers and in the store.
    pub fn as_str(self) -> &'static str {
        self.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn triggers(kind: DeliveryKind, started_by: StartedBy, attempts_before: u32) -> [Trigger; 2] {
        let run = RetryRun {
            started_by,
            attempts_before,
        };
        [1, 2].map(|step| Trigger::of(kind, run, attempts_before + step))
    }

    #[test]
    fn the_first_attempt_of_a_run_has_the_trigger_of_its_start() {
        use Trigger::{Event, Replay, Retry, Test};
        let of_event = |started_by, before| triggers(DeliveryKind::Event, started_by, before);
        assert_eq!(of_event(StartedBy::First, 0), [Event, Retry]);
        assert_eq!(of_event(StartedBy::Retry, 9), [Retry, Retry]);
        assert_eq!(of_event(StartedBy::Replay, 9), [Replay, Retry]);
        // A skipped delivery had no attempt before its replay.
        assert_eq!(of_event(StartedBy::Replay, 0), [Replay, Retry]);
        assert_eq!(
            triggers(DeliveryKind::Test, StartedBy::First, 0),
            [Test, Test]
        );
        assert_eq!(
            triggers(DeliveryKind::Test, StartedBy::Retry, 1),
            [Retry, Retry]
        );
    }
}
