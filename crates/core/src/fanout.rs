//! Which subscriptions want an event.
//!
//! An index in memory, by organization. It is brought up to date from the store by applying what
//! changed, in the order of the changes' versions, so a reload costs what changed and not what
//! there is.

use std::collections::HashMap;

use crate::event_type::{EventType, EventTypeSet};
use crate::ids::{OrganizationId, SubscriptionId};

/// A subscription as fan-out sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Listener {
    /// The subscription.
    pub subscription: SubscriptionId,
    /// What it wants.
    pub wants: EventTypeSet,
    /// How often it was switched off before; a delivery of an earlier count is void.
    pub activation: i64,
    /// Whether it gets what it wants.
    pub ear: Ear,
}

/// Whether a subscription gets the events that it wants, or only a note of what it missed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ear {
    /// It is active.
    Open,
    /// It is inactive: its deliveries are skipped, and can be replayed.
    Closed,
}

/// A subscription after a change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SubscriptionChange {
    /// Whose it is.
    pub organization: OrganizationId,
    /// Which one it is.
    pub subscription: SubscriptionId,
    /// How it listens now; none when it is deleted.
    pub listener: Option<Listener>,
}

/// Every subscription, inactive ones too: what they miss is noted.
#[derive(Debug, Default)]
pub struct SubscriptionIndex {
    by_organization: HashMap<OrganizationId, Vec<Listener>>,
}

impl SubscriptionIndex {
    /// Takes in a change; taking it in twice is harmless.
    pub fn apply(&mut self, change: SubscriptionChange) {
        let listeners = self
            .by_organization
            .entry(change.organization.clone())
            .or_default();
        let place =
            listeners.binary_search_by_key(&change.subscription, |known| known.subscription);
        match (place, change.listener) {
            (Ok(index), Some(listener)) => listeners[index] = listener,
            (Ok(index), None) => drop(listeners.remove(index)),
            (Err(index), Some(listener)) => listeners.insert(index, listener),
            (Err(_), None) => {}
        }
        if listeners.is_empty() {
            self.by_organization.remove(&change.organization);
        }
    }

    /// The subscriptions of `organization` that want `event_type`, in the order of their ids.
    pub fn wanting(
        &self,
        organization: &OrganizationId,
        event_type: EventType,
    ) -> impl Iterator<Item = &Listener> {
        self.by_organization
            .get(organization)
            .into_iter()
            .flatten()
            .filter(move |listener| listener.wants.contains(event_type))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event_type::EventTypes;

    fn change(organization: &str, id: i64, wants: Option<EventType>) -> SubscriptionChange {
        let subscription = SubscriptionId(id);
        SubscriptionChange {
            organization: OrganizationId::parse(organization).unwrap(),
            subscription,
            listener: wants.map(|event_type| Listener {
                subscription,
                wants: EventTypes::new(vec![event_type]).unwrap().to_set(),
                activation: 0,
                ear: Ear::Open,
            }),
        }
    }

    fn wanting(index: &SubscriptionIndex, organization: &str, event_type: EventType) -> Vec<i64> {
        index
            .wanting(&OrganizationId::parse(organization).unwrap(), event_type)
            .map(|listener| listener.subscription.0)
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
