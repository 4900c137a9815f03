//! The next step of a due delivery, decided from its row alone: a wake-up may be late, early or out of date.

use std::time::Duration;

use hookline_core::delivery::{AttemptTask, DeliveryState};
use hookline_core::timestamp::Timestamp;
use hookline_queue::Scheduled;
use hookline_store::{DueDelivery, Eligibility};

use crate::pipeline::record::DeliveryOutcome;

/// The remaining time from which an attempt counts as early. Delays are whole seconds, and clocks differ a little.
const EARLY: Duration = Duration::from_secs(1);

/// The next step of a due delivery.
pub(crate) enum NextAction {
    Attempt(Box<DueDelivery>),
    /// No attempt is made, and the delivery gets this outcome.
    Settle(DeliveryOutcome),
}

/// Nothing is owed.
const NOTHING: NextAction = NextAction::Settle(DeliveryOutcome::Repeat(None));

/// Decides the next step. Nothing is owed for a delivery that is not `found`: the retention has deleted it.
pub(crate) fn decide(task: AttemptTask, found: Option<DueDelivery>, now: Timestamp) -> NextAction {
    let Some(found) = found else {
        return NOTHING;
    };
    let DeliveryState::Pending { due } = found.state else {
        return NOTHING;
    };
    let next = AttemptTask {
        delivery: task.delivery,
        generation: found.generation,
        attempt: found.attempts + 1,
        subscription: found.subscription,
    };
    let is_next = (next.generation, next.attempt) == (task.generation, task.attempt);
    match found.eligibility {
        Eligibility::Deleted => {
            NextAction::Settle(DeliveryOutcome::Ended(DeliveryState::Cancelled { at: now }))
        }
        Eligibility::Inactive => {
            NextAction::Settle(DeliveryOutcome::Ended(DeliveryState::Skipped { at: now }))
        }
        // A long delay ends early, because few bits of it count. The delivery waits for the rest.
        Eligibility::Active if is_next && due.remaining(now) >= EARLY => {
            let delay = due.remaining(now);
            NextAction::Settle(DeliveryOutcome::Repeat(Some(Scheduled {
                task: next,
                delay,
            })))
        }
        Eligibility::Active if is_next => NextAction::Attempt(Box::new(found)),
        Eligibility::Active => NOTHING,
    }
}

#[cfg(test)]
mod tests {
    use hookline_core::delivery::{DeliveryKind, RetryRun};
    use hookline_core::event_type::EventType;
    use hookline_core::ids::{DeliveryId, EventKey, OrganizationId, SubscriptionId};
    use hookline_core::target::TargetUrl;

    use super::*;

    fn task(attempt: u32) -> AttemptTask {
        AttemptTask {
            delivery: DeliveryId(Default::default()),
            generation: 0,
            attempt,
            subscription: SubscriptionId(1),
        }
    }

    fn found(attempts: u32, state: DeliveryState, eligibility: Eligibility) -> DueDelivery {
        DueDelivery {
            generation: 0,
            attempts,
            run: RetryRun::default(),
            state,
            kind: DeliveryKind::Event,
            backlog: None,
            event: EventKey(Default::default()),
            event_type: EventType::StepFailed,
            organization: OrganizationId::parse("o").unwrap(),
            subscription: SubscriptionId(1),
            eligibility,
            activation: 0,
            url: TargetUrl::from_store("https://example.com"),
            sealed: Default::default(),
        }
    }

    const NOW: i64 = 1_766_313_000_000_000;

    fn now() -> Timestamp {
        Timestamp::from_unix_micros(NOW)
    }

    fn pending(seconds: i64) -> DeliveryState {
        DeliveryState::Pending {
            due: Timestamp::from_unix_micros(NOW + seconds * 1_000_000),
        }
    }

    #[test]
    fn the_next_attempt_of_a_due_delivery_is_made() {
        let action = decide(
            task(2),
            Some(found(1, pending(0), Eligibility::Active)),
            now(),
        );
        assert!(matches!(action, NextAction::Attempt(_)));
    }

    #[test]
    fn an_early_wake_up_waits_for_the_remaining_delay() {
        let early = decide(
            task(2),
            Some(found(1, pending(90), Eligibility::Active)),
            now(),
        );
        let NextAction::Settle(DeliveryOutcome::Repeat(Some(next))) = early else {
            panic!("not delayed")
        };
        assert_eq!((next.task.attempt, next.delay.as_secs()), (2, 90));
    }

    #[test]
    fn a_wake_up_for_an_earlier_attempt_is_ignored() {
        let made = Some(found(2, pending(3), Eligibility::Active));
        let action = decide(task(2), made, now());
        assert!(matches!(
            action,
            NextAction::Settle(DeliveryOutcome::Repeat(None))
        ));
    }

    #[test]
    fn a_finished_or_unknown_delivery_is_ignored() {
        let delivered = DeliveryState::Delivered { at: now() };
        let finished = Some(found(1, delivered, Eligibility::Active));
        assert!(matches!(
            decide(task(1), finished, now()),
            NextAction::Settle(DeliveryOutcome::Repeat(None))
        ));
        assert!(matches!(
            decide(task(1), None, now()),
            NextAction::Settle(DeliveryOutcome::Repeat(None))
        ));
    }

    #[test]
    fn an_inactive_subscription_skips_and_a_deleted_one_cancels() {
        let skipped = decide(
            task(1),
            Some(found(0, pending(0), Eligibility::Inactive)),
            now(),
        );
        assert!(matches!(
            skipped,
            NextAction::Settle(DeliveryOutcome::Ended(DeliveryState::Skipped { .. }))
        ));
        let cancelled = decide(
            task(1),
            Some(found(0, pending(0), Eligibility::Deleted)),
            now(),
        );
        assert!(matches!(
            cancelled,
            NextAction::Settle(DeliveryOutcome::Ended(DeliveryState::Cancelled { .. }))
        ));
    }
}
