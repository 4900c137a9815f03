//! The queries of the worker: owed deliveries, bodies, deliveries that share an event, and targets of subscriptions.

use std::collections::{BTreeSet, HashMap};

use hookline_core::ids::{DeliveryId, EventKey, SubscriptionId};
use hookline_runtime::retry::RetryOutcome;
use hookline_store::{EventPayload, LoadedDeliveries, StoreError};

use super::{Turn, Worker};
use crate::due::InHand;
use crate::scheduler::ShareGroups;

impl Worker {
    /// Finds the groups of each message. The store is asked about subscriptions that are not known yet. If it fails,
    /// they share one group.
    pub(super) async fn sort(&mut self, messages: Vec<InHand>) -> Vec<(InHand, ShareGroups)> {
        let unknown: HashMap<SubscriptionId, DeliveryId> = messages
            .iter()
            .map(|in_hand| in_hand.owed)
            .filter(|owed| self.whereabouts.of(owed.subscription).is_none())
            .map(|owed| (owed.subscription, owed.delivery))
            .collect();
        if !unknown.is_empty() {
            let ids: Vec<DeliveryId> = unknown.into_values().collect();
            let store = &self.dispatcher.store;
            let found = self
                .loads
                .keep_on("load targets", || store.owed(ids.clone()));
            if let RetryOutcome::Done(found) = found.await {
                found.values().for_each(|owed| self.whereabouts.learn(owed));
            }
        }
        let of = |in_hand: &InHand| self.whereabouts.of(in_hand.owed.subscription);
        messages
            .into_iter()
            .map(|in_hand| {
                let kin = of(&in_hand).unwrap_or_default();
                (in_hand, kin)
            })
            .collect()
    }

    /// The rows of these deliveries, and the bodies that are not in the cache.
    pub(super) async fn load(&self, turns: &[Turn]) -> RetryOutcome<LoadedDeliveries, StoreError> {
        let ids: Vec<DeliveryId> = turns
            .iter()
            .map(|(in_hand, _)| in_hand.owed.delivery)
            .collect();
        let store = &self.dispatcher.store;
        let loaded = self.loads.keep_on("load deliveries", || {
            let known = self.bodies.clone();
            store.due_deliveries_with_bodies(ids.clone(), move |owed| {
                !known.contains_key(&owed.event)
            })
        });
        let loaded = loaded.await;
        if let RetryOutcome::Done(loaded) = &loaded {
            self.keep(&loaded.bodies).await;
        }
        loaded
    }

    /// The bodies of these events. A body that was cached when the rows were loaded may be evicted by now.
    pub(super) async fn bodies(
        &self,
        keys: Vec<EventKey>,
        mut bodies: HashMap<EventKey, EventPayload>,
    ) -> RetryOutcome<HashMap<EventKey, EventPayload>, StoreError> {
        let mut missing = BTreeSet::new();
        for key in keys {
            if bodies.contains_key(&key) {
                continue;
            }
            match self.bodies.get(&key).await {
                Some(body) => drop(bodies.insert(key, body)),
                None => drop(missing.insert(key)),
            }
        }
        if missing.is_empty() {
            return RetryOutcome::Done(bodies);
        }
        let store = &self.dispatcher.store;
        let found = self.loads.keep_on("load bodies", || {
            store.bodies(missing.iter().copied().collect())
        });
        match found.await {
            RetryOutcome::Done(found) => {
                self.keep(&found).await;
                bodies.extend(found);
                RetryOutcome::Done(bodies)
            }
            ended => ended,
        }
    }

    async fn keep(&self, bodies: &HashMap<EventKey, EventPayload>) {
        for (key, body) in bodies {
            self.bodies.insert(*key, body.clone()).await;
        }
    }
}
