//! Fan-out: the subscriptions that want an event.
//!
//! The index is in memory, by organization. The store applies changes to it in the order of their versions, so
//! a reload costs the number of changes and not the number of subscriptions.

use std::collections::HashMap;

use crate::event_type::{EventType, EventTypeSet};
use crate::ids::{OrganizationId, SubscriptionId};

/// A subscription as fan-out sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Subscriber {
    pub subscription: SubscriptionId,
    pub wants: EventTypeSet,
    /// How often the subscription was switched off before. A delivery of an earlier activation is void.
    pub activation: i64,
    /// Deliveries of an inactive subscription are skipped, and can be replayed.
    pub is_active: bool,
}

/// A subscription after a change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SubscriptionChange {
    pub organization: OrganizationId,
    pub subscription: SubscriptionId,
    /// None when it is deleted.
    pub subscriber: Option<Subscriber>,
}

/// Every subscription, inactive ones included: fan-out makes skipped deliveries for these.
#[derive(Debug, Default)]
pub struct SubscriptionIndex {
    by_organization: HashMap<OrganizationId, Vec<Subscriber>>,
}

impl SubscriptionIndex {
    /// Idempotent.
    pub fn apply(&mut self, change: SubscriptionChange) {
        let subscribers = self
            .by_organization
            .entry(change.organization.clone())
            .or_default();
        let place =
            subscribers.binary_search_by_key(&change.subscription, |known| known.subscription);
        match (place, change.subscriber) {
            (Ok(index), Some(subscriber)) => subscribers[index] = subscriber,
            (Ok(index), None) => drop(subscribers.remove(index)),
            (Err(index), Some(subscriber)) => subscribers.insert(index, subscriber),
            (Err(_), None) => {}
        }
        if subscribers.is_empty() {
            self.by_organization.remove(&change.organization);
        }
    }

    /// The subscriptions of `organization` that want `event_type`, in the order of their ids.
    pub fn wanting(
        &self,
        organization: &OrganizationId,
        event_type: EventType,
    ) -> impl Iterator<Item = &Subscriber> {
        self.by_organization
            .get(organization)
            .into_iter()
            .flatten()
            .filter(move |subscriber| subscriber.wants.contains(event_type))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event_type::EventPattern;

    fn change(organization: &str, id: i64, wants: Option<EventType>) -> SubscriptionChange {
        let subscription = SubscriptionId(id);
        SubscriptionChange {
            organization: OrganizationId::parse(organization).unwrap(),
            subscription,
            subscriber: wants.map(|event_type| Subscriber {
                subscription,
                wants: [EventPattern::from(event_type)].into_iter().collect(),
                activation: 0,
                is_active: true,
            }),
        }
    }

    fn wanting(index: &SubscriptionIndex, organization: &str, event_type: EventType) -> Vec<i64> {
        index
            .wanting(&OrganizationId::parse(organization).unwrap(), event_type)
            .map(|subscriber| subscriber.subscription.0)
            .collect()
    }

    #[test]
    fn an_event_goes_to_the_subscriptions_of_its_organization_that_want_its_type() {
        let mut index = SubscriptionIndex::default();
        index.apply(change("a", 2, Some(EventType::StepFailed)));
        index.apply(change("a", 1, Some(EventType::StepFailed)));
        index.apply(change("a", 3, Some(EventType::StepStarted)));
        index.apply(change("b", 4, Some(EventType::StepFailed)));
        assert_eq!(wanting(&index, "a", EventType::StepFailed), [1, 2]);
        assert_eq!(wanting(&index, "b", EventType::StepStarted), [0i64; 0]);
    }

    #[test]
    fn a_change_replaces_and_a_deleted_subscription_is_gone() {
        let mut index = SubscriptionIndex::default();
        index.apply(change("a", 1, Some(EventType::StepFailed)));
        index.apply(change("a", 1, Some(EventType::StepStarted)));
        assert_eq!(wanting(&index, "a", EventType::StepFailed), [0i64; 0]);
        assert_eq!(wanting(&index, "a", EventType::StepStarted), [1]);
        index.apply(change("a", 1, None));
        index.apply(change("a", 1, None));
        assert_eq!(wanting(&index, "a", EventType::StepStarted), [0i64; 0]);
    }
}
