//! The statements of the store about dispatchers and partitions, in memory.

use std::collections::BTreeMap;

use hookline_core::partition::{DispatcherId, Partition, Partitions};
use hookline_store::{
    ClusterState, HandOver, Heartbeat, PartitionClaim, PartitionOwner, RegisteredDispatcher,
};

#[derive(Debug)]
pub(super) struct Model {
    pub(super) partitions: Partitions,
    pub(super) holdings: Vec<PartitionOwner>,
    pub(super) dispatchers: BTreeMap<DispatcherId, RegisteredDispatcher>,
}

impl Model {
    pub(super) fn new(partitions: Partitions) -> Self {
        let free = |partition| PartitionOwner {
            partition,
            owner: None,
            epoch: 0,
            deaths: 0,
            note: String::new(),
        };
        Self {
            partitions,
            holdings: partitions.all().map(free).collect(),
            dispatchers: BTreeMap::new(),
        }
    }

    pub(super) fn register(&mut self, id: DispatcherId) {
        let row = RegisteredDispatcher {
            id,
            heartbeat: 0,
            draining: false,
            can_deliver: true,
        };
        self.dispatchers.insert(id, row);
    }

    pub(super) fn unregister(&mut self, id: DispatcherId) {
        self.dispatchers.remove(&id);
    }

    pub(super) fn roster(&self) -> ClusterState {
        ClusterState {
            dispatchers: self.dispatchers.values().copied().collect(),
            partitions: self.holdings.clone(),
        }
    }

    /// Returns false where the dispatcher is not registered.
    pub(super) fn raise(&mut self, beat: Heartbeat) -> bool {
        let Some(row) = self.dispatchers.get_mut(&beat.id) else {
            return false;
        };
        row.heartbeat += 1;
        (row.draining, row.can_deliver) = (beat.draining, beat.can_deliver);
        true
    }

    pub(super) fn take(
        &mut self,
        id: DispatcherId,
        claims: &[PartitionClaim],
    ) -> Vec<PartitionOwner> {
        let mut taken = Vec::new();
        for claim in claims {
            let holding = self.holding(claim.partition);
            if (holding.owner, holding.epoch) == (claim.owner, claim.epoch) {
                let died = claim.owner.is_some_and(|owner| owner != id);
                holding.deaths += u32::from(died);
                holding.owner = Some(id);
                holding.epoch += 1;
                taken.push(holding.clone());
            }
        }
        taken
    }

    pub(super) fn hand_over(&mut self, id: DispatcherId, all: &[HandOver]) -> Vec<Partition> {
        let mut left = Vec::new();
        for hand_over in all {
            let holding = self.holding(hand_over.partition);
            if (holding.owner, holding.epoch) == (Some(id), hand_over.epoch) {
                holding.owner = hand_over.to;
                holding.epoch += 1;
                holding.note.clone_from(&hand_over.note);
                left.push(holding.partition);
            }
        }
        left
    }

    pub(super) fn note(&mut self, partition: Partition, epoch: i64, note: &str) {
        let holding = self.holding(partition);
        if holding.epoch == epoch {
            note.clone_into(&mut holding.note);
        }
    }

    fn holding(&mut self, partition: Partition) -> &mut PartitionOwner {
        &mut self.holdings[usize::from(partition.0)]
    }
}
