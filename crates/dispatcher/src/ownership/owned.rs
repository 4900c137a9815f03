//! The partitions of this dispatcher, as the other modules read them.

use std::collections::BTreeMap;
use std::future::pending;
use std::sync::Arc;
use std::time::Instant;

use hookline_core::ids::SubscriptionId;
use hookline_core::partition::{Partition, Partitions};
use hookline_core::quarantine::SUSPECT_AFTER;
use hookline_core::timestamp::Timestamp;
use hookline_store::PartitionOwner;
use tokio::sync::watch;

use super::note::{self, BlockedSubscription};

/// A partition that this dispatcher owns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct OwnedPartition {
    pub(crate) partition: Partition,
    pub(crate) epoch: i64,
    /// The number of owners in a row that died without release.
    pub(super) deaths: u32,
    /// In service time.
    taken_at: Timestamp,
    pub(crate) blocked: Arc<[BlockedSubscription]>,
}

impl OwnedPartition {
    /// Whether owners of this partition have died so often that a row with this due time may be the reason.
    pub(crate) fn is_suspect(&self, due: Timestamp) -> bool {
        self.deaths >= SUSPECT_AFTER && due <= self.taken_at
    }

    /// Whether a request of the earlier owner may be in flight to the subscription.
    pub(crate) fn blocks(&self, subscription: SubscriptionId, now: Timestamp) -> bool {
        let mut blocked = self.blocked.iter();
        blocked.any(|one| one.subscription == subscription && now < one.until)
    }
}

#[derive(Debug, Default)]
struct State {
    held: BTreeMap<Partition, OwnedPartition>,
    /// None: without end.
    valid_until: Option<Instant>,
    /// None before the first beat, and while the number changes.
    partitions: Option<Partitions>,
}

/// Cheap to clone. Each clone waits for changes on its own.
#[derive(Debug, Clone)]
pub(crate) struct OwnedPartitions {
    state: watch::Receiver<State>,
}

impl OwnedPartitions {
    /// A value without partitions, and the publisher that changes it.
    pub(super) fn new() -> (Self, OwnershipPublisher) {
        let (sender, state) = watch::channel(State::default());
        (Self { state }, OwnershipPublisher { state: sender })
    }

    /// Owns these partitions for as long as the process lives.
    pub(crate) fn all(
        holdings: &[PartitionOwner],
        partitions: Partitions,
        taken_at: Timestamp,
    ) -> Self {
        let (owned, publisher) = Self::new();
        let holdings = holdings.iter().map(|each| (each.partition, each.clone()));
        publisher.publish(&holdings.collect(), None, Some(partitions), taken_at);
        owned
    }

    /// None where this dispatcher does not own the partition. [`OwnedPartitions::may_start`] tells whether it still acts for it.
    pub(crate) fn get_owned(&self, partition: Partition) -> Option<OwnedPartition> {
        self.state.borrow().held.get(&partition).cloned()
    }

    /// Whether a request may start: the partition is still owned in this epoch.
    pub(crate) fn may_start(&self, partition: Partition, epoch: i64, now: Instant) -> bool {
        let state = self.state.borrow();
        let held = state.held.get(&partition);
        held.is_some_and(|held| held.epoch == epoch)
            && state.valid_until.is_none_or(|until| now < until)
    }

    /// The partition of a subscription. None before the first answer of the store, and while the number of partitions
    /// changes.
    pub(crate) fn partition_of(&self, subscription: SubscriptionId) -> Option<Partition> {
        let partitions = self.state.borrow().partitions?;
        Some(partitions.of(subscription))
    }

    /// The partition of a subscription, where this dispatcher owns it.
    pub(crate) fn held_for(&self, subscription: SubscriptionId) -> Option<OwnedPartition> {
        self.get_owned(self.partition_of(subscription)?)
    }

    /// In the order of partitions.
    pub(crate) fn list(&self) -> Vec<OwnedPartition> {
        self.state.borrow().held.values().cloned().collect()
    }

    /// Waits until a partition, an epoch or a note has changed since the last call. Cancel safe.
    pub(crate) async fn changed(&mut self) {
        if self.state.changed().await.is_err() {
            pending().await
        }
    }
}

/// Publishes the owned partitions to all [`OwnedPartitions`].
#[derive(Debug)]
pub(super) struct OwnershipPublisher {
    state: watch::Sender<State>,
}

impl OwnershipPublisher {
    pub(super) fn publish(
        &self,
        holdings: &BTreeMap<Partition, PartitionOwner>,
        valid_until: Option<Instant>,
        partitions: Option<Partitions>,
        now: Timestamp,
    ) {
        self.state.send_if_modified(|state| {
            let taken_at = |holding: &PartitionOwner| match state.held.get(&holding.partition) {
                Some(held) if held.epoch == holding.epoch => held.taken_at,
                _ => now,
            };
            let held = |holding: &PartitionOwner| OwnedPartition {
                partition: holding.partition,
                epoch: holding.epoch,
                deaths: holding.deaths,
                taken_at: taken_at(holding),
                blocked: note::read(&holding.note).into(),
            };
            let held: BTreeMap<_, _> = holdings.iter().map(|(at, it)| (*at, held(it))).collect();
            state.valid_until = valid_until;
            state.partitions = partitions;
            let changed = held != state.held;
            state.held = held;
            changed
        });
    }
}
