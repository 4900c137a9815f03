//! Which rows of the tail a filter selects.

use hookline_core::filter::{AttemptFacts, Filter};
use hookline_store::{AttemptStatus, DeliveryEnd, SubscriptionEvent, TailEntry};

/// A condition on what an entry does not have excludes it.
pub(super) fn matches(filter: &Filter<AttemptStatus>, entry: &TailEntry) -> bool {
    match entry {
        TailEntry::Attempt { attempt, workflow } => {
            filter.matches(&attempt.facts(workflow.as_ref()))
        }
        TailEntry::DeliveryEnd(end) => !asks_about_attempts(filter) && selects_end(filter, end),
        TailEntry::Subscription(event) => {
            !asks_about_attempts(filter)
                && filter.event_type.is_none()
                && filter.event.is_none()
                && filter.workflow.is_none()
                && selects_subscription(filter, event)
        }
    }
}

fn asks_about_attempts(filter: &Filter<AttemptStatus>) -> bool {
    filter.status.is_some()
        || filter.response_status.is_some()
        || filter.error_kind.is_some()
        || filter.attempt.is_some()
        || filter.min_duration_ms.is_some()
}

fn selects_end(filter: &Filter<AttemptStatus>, end: &DeliveryEnd) -> bool {
    filter.matches(&AttemptFacts {
        created_at: end.at,
        event_type: end.event_type,
        subscription: end.subscription,
        event: &end.event,
        workflow: end.workflow.as_ref(),
        // No condition asks about these.
        status: AttemptStatus::Failed,
        response_status: None,
        error_kind: None,
        attempt: end.attempts,
        duration_ms: 0,
    })
}

fn selects_subscription(filter: &Filter<AttemptStatus>, event: &SubscriptionEvent) -> bool {
    filter.since.is_none_or(|since| event.at >= since)
        && filter.until.is_none_or(|until| event.at < until)
        && filter
            .subscription
            .is_none_or(|subscription| subscription == event.subscription)
}
