//! The deliveries that one dispatcher knows: those that wait and those in hand.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};
use std::time::Duration;

use hookline_core::delivery::AttemptTask;
use hookline_core::ids::{DeliveryId, SubscriptionId};
use hookline_core::partition::Partition;
use hookline_core::timestamp::Timestamp;
use hookline_store::BacklogClass;
use parking_lot::{Mutex, MutexGuard};

use super::waiting::{Waiting, WaitingRow};
use crate::ownership::InFlightByPartition;

/// The deliveries that wait and those in hand.
#[derive(Default)]
pub(crate) struct KnownDeliveries(Mutex<KnownState>);

#[derive(Default)]
pub(super) struct KnownState {
    /// The deliveries that wait and those in hand.
    pub(super) entries: HashMap<DeliveryId, KnownDelivery>,
    pub(super) waiting: Waiting,
    /// The number of known deliveries of each partition.
    pub(super) of_partition: HashMap<Partition, usize>,
    /// Partitions that a look has read since they were taken, with the epoch at that time.
    pub(super) looked_up: HashMap<Partition, i64>,
    /// Deliveries that were let go since the present look was sent; none without a look in flight.
    pub(super) released: Option<HashSet<DeliveryId>>,
    /// News of backlogs for the worker.
    pub(super) backlog_news: BacklogNews,
}

/// News of backlogs, for subscription queues.
#[derive(Default)]
pub(crate) struct BacklogNews {
    /// Subscriptions of partitions that were just taken, with backlog or with a circuit breaker that is not closed. The
    /// duration is the wait of that circuit breaker.
    pub(crate) taken: Vec<(SubscriptionId, Option<Duration>)>,
    /// Subscriptions with backlog.
    pub(crate) backlog: Vec<(SubscriptionId, BacklogClass)>,
}

#[derive(Debug, Clone, Copy)]
pub(super) struct KnownDelivery {
    pub(super) partition: Partition,
    pub(super) task: AttemptTask,
    /// A later attempt that a wake-up named while the delivery was in hand. It is the delivery itself where it comes
    /// again.
    pub(super) next: Option<WaitingRow>,
    /// The latest end of its request; none where no request has begun.
    pub(super) request_until: Option<Timestamp>,
}

impl KnownState {
    /// Puts a row on the waiting list, unless it is known.
    pub(super) fn add(&mut self, found: WaitingRow) {
        match self.entries.entry(found.task.delivery) {
            Entry::Occupied(known) => {
                let known = known.into_mut();
                if known.task != found.task {
                    known.next = Some(found);
                }
            }
            Entry::Vacant(_) if self.waiting.is_full_for(found.task.subscription) => {}
            Entry::Vacant(_) => {
                self.insert(found);
                self.waiting.push(found);
            }
        }
    }

    /// Notes a delivery. Returns false if it was known.
    pub(super) fn insert(&mut self, found: WaitingRow) -> bool {
        let Entry::Vacant(place) = self.entries.entry(found.task.delivery) else {
            return false;
        };
        place.insert(KnownDelivery {
            partition: found.partition,
            task: found.task,
            next: None,
            request_until: None,
        });
        *self.of_partition.entry(found.partition).or_default() += 1;
        true
    }

    /// Removes a delivery. Returns the later attempt that a wake-up has named meanwhile.
    pub(super) fn remove(&mut self, delivery: DeliveryId) -> Option<WaitingRow> {
        let known = self.entries.remove(&delivery)?;
        if let Entry::Occupied(mut count) = self.of_partition.entry(known.partition) {
            *count.get_mut() -= 1;
            if *count.get() == 0 {
                count.remove();
            }
        }
        known.next
    }
}

impl KnownDeliveries {
    pub(super) fn lock(&self) -> MutexGuard<'_, KnownState> {
        self.0.lock()
    }
}

impl InFlightByPartition for KnownDeliveries {
    fn of(&self, partition: Partition) -> Vec<(SubscriptionId, Timestamp)> {
        let state = self.lock();
        let known = state.entries.values();
        let in_partition = known.filter(|known| known.partition == partition);
        in_partition
            .filter_map(|known| Some((known.task.subscription, known.request_until?)))
            .collect()
    }
}
