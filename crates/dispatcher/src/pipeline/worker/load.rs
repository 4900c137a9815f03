//! Loads deliveries, bodies of events, and the groups in which subscriptions share slots.

use std::collections::{BTreeSet, HashMap};

use hookline_core::ids::{DeliveryId, EventKey, SubscriptionId};
use hookline_runtime::retry::RetryOutcome;
use hookline_store::{EventPayload, LoadedDeliveries, Store, StoreError};
use moka::future::Cache;

use crate::context::Dispatcher;
use crate::due::{GroupCache, InHand};
use crate::pipeline::load_retry::LoadRetry;
use crate::scheduler::ShareGroups;

/// The most deliveries in one query.
pub(super) const BATCH: usize = 1_024;

/// The approximate size of a cached body besides its bytes.
const ENTRY: usize = 400;

type Bodies = HashMap<EventKey, EventPayload>;

pub(super) struct Loader {
    store: Store,
    load_retry: LoadRetry,
    bodies: Cache<EventKey, EventPayload>,
    group_cache: GroupCache,
}

impl Loader {
    pub(super) fn new(
        dispatcher: &Dispatcher,
        load_retry: LoadRetry,
        group_cache: GroupCache,
    ) -> Self {
        let bodies = Cache::builder()
            .max_capacity(dispatcher.policy.body_cache_bytes)
            .weigher(|_, body: &EventPayload| {
                u32::try_from(body.bytes.len() + ENTRY).unwrap_or(u32::MAX)
            })
            .build();
        Self {
            store: dispatcher.store.clone(),
            load_retry,
            bodies,
            group_cache,
        }
    }

    /// Finds the groups of each delivery. The store is asked about subscriptions that are not known yet. If it fails,
    /// they share one group.
    pub(super) async fn groups(&mut self, deliveries: Vec<InHand>) -> Vec<(InHand, ShareGroups)> {
        let unknown: HashMap<SubscriptionId, DeliveryId> = deliveries
            .iter()
            .map(|in_hand| in_hand.task)
            .filter(|task| self.group_cache.of(task.subscription).is_none())
            .map(|task| (task.subscription, task.delivery))
            .collect();
        if !unknown.is_empty() {
            let ids: Vec<DeliveryId> = unknown.into_values().collect();
            let found = self
                .load_retry
                .retry("load targets", || self.store.due_deliveries(ids.clone()));
            if let RetryOutcome::Done(found) = found.await {
                found.values().for_each(|one| self.group_cache.learn(one));
            }
        }
        let with_groups = |in_hand: InHand| {
            let groups = self.known_groups(in_hand.task.subscription);
            (in_hand, groups)
        };
        deliveries.into_iter().map(with_groups).collect()
    }

    pub(super) fn known_groups(&self, subscription: SubscriptionId) -> ShareGroups {
        self.group_cache.of(subscription).unwrap_or_default()
    }

    /// The rows of these deliveries, and the bodies that are not in the cache.
    pub(super) async fn load(
        &mut self,
        ids: Vec<DeliveryId>,
    ) -> RetryOutcome<LoadedDeliveries, StoreError> {
        let loaded = self.load_retry.retry("load deliveries", || {
            let known = self.bodies.clone();
            self.store
                .due_deliveries_with_bodies(ids.clone(), move |one| !known.contains_key(&one.event))
        });
        let loaded = loaded.await;
        if let RetryOutcome::Done(loaded) = &loaded {
            self.keep(&loaded.bodies).await;
            let deliveries = loaded.deliveries.values();
            deliveries.for_each(|one| self.group_cache.learn(one));
        }
        loaded
    }

    /// The bodies of these events. A body that was cached when the rows were loaded may be evicted by now.
    pub(super) async fn bodies(
        &self,
        events: BTreeSet<EventKey>,
        mut bodies: Bodies,
    ) -> RetryOutcome<Bodies, StoreError> {
        let mut missing = Vec::new();
        for event in events {
            if bodies.contains_key(&event) {
                continue;
            }
            match self.bodies.get(&event).await {
                Some(body) => drop(bodies.insert(event, body)),
                None => missing.push(event),
            }
        }
        if missing.is_empty() {
            return RetryOutcome::Done(bodies);
        }
        let found = self
            .load_retry
            .retry("load bodies", || self.store.bodies(missing.clone()));
        match found.await {
            RetryOutcome::Done(found) => {
                self.keep(&found).await;
                bodies.extend(found);
                RetryOutcome::Done(bodies)
            }
            ended => ended,
        }
    }

    async fn keep(&self, bodies: &Bodies) {
        for (event, body) in bodies {
            self.bodies.insert(*event, body.clone()).await;
        }
    }
}
