//! What the store is asked besides: bodies, which deliveries of one event share, and where the
//! subscriptions point that nobody here has heard of.

use std::collections::HashMap;

use hookline_core::ids::{DeliveryId, EventKey, SubscriptionId};
use hookline_runtime::patience::{Ended, keep_on};
use hookline_store::{Body, StoreError};
use tokio_util::sync::CancellationToken;

use super::Worker;
use crate::busy::Engaged;
use crate::lanes::Kin;
use crate::recorder::unavailable;

impl Worker {
    /// Finds out with whom each message shares. The store is asked about subscriptions that are
    /// not known yet; should it refuse, they share with one another.
    pub(super) async fn sort(
        &mut self,
        messages: Vec<Engaged>,
        shutdown: &CancellationToken,
    ) -> Vec<(Engaged, Kin)> {
        let unknown: HashMap<SubscriptionId, DeliveryId> = messages
            .iter()
            .map(|engaged| engaged.message.message)
            .filter(|owed| self.whereabouts.of(owed.subscription).is_none())
            .map(|owed| (owed.subscription, owed.delivery))
            .collect();
        if !unknown.is_empty() {
            let ids: Vec<DeliveryId> = unknown.into_values().collect();
            let store = &self.dispatcher.store;
            let found = keep_on(shutdown, "load targets", unavailable, || {
                store.owed(ids.clone())
            });
            if let Ended::Done(found) = found.await {
                found.values().for_each(|owed| self.whereabouts.learn(owed));
            }
        }
        let of = |engaged: &Engaged| self.whereabouts.of(engaged.message.message.subscription);
        messages
            .into_iter()
            .map(|engaged| {
                let kin = of(&engaged).unwrap_or_default();
                (engaged, kin)
            })
            .collect()
    }

    /// The bodies of these events.
    pub(super) async fn bodies(
        &self,
        mut keys: Vec<EventKey>,
        shutdown: &CancellationToken,
    ) -> Ended<HashMap<EventKey, Body>, StoreError> {
        let mut bodies = HashMap::with_capacity(keys.len());
        keys.sort_unstable();
        keys.dedup();
        let mut missing = Vec::new();
        for key in keys {
            match self.bodies.get(&key).await {
                Some(body) => drop(bodies.insert(key, body)),
                None => missing.push(key),
            }
        }
        if missing.is_empty() {
            return Ended::Done(bodies);
        }
        let store = &self.dispatcher.store;
        let found = keep_on(shutdown, "load bodies", unavailable, || {
            store.bodies(missing.clone())
        });
        match found.await {
            Ended::Done(found) => {
                for (key, body) in &found {
                    self.bodies.insert(*key, body.clone()).await;
                }
                bodies.extend(found);
                Ended::Done(bodies)
            }
            ended => ended,
        }
    }
}
