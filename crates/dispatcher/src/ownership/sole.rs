//! The only dispatcher of a folder. The lock of the folder guarantees that no other one lives.

use std::sync::Arc;

use hookline_core::partition::DispatcherId;
use hookline_store::{HandOver, Heartbeat, PartitionClaim, PartitionOwner, StoreError};

use super::keeper::new_id;
use super::owned::OwnedPartitions;
use super::registry::Registry;

/// The owner of all partitions.
pub(crate) struct SoleOwner<R> {
    registry: Arc<R>,
    id: DispatcherId,
    holdings: Vec<PartitionOwner>,
}

/// Takes all partitions at once, also those of a process that died.
///
/// # Errors
/// Where the store fails, or another process has changed an owner.
pub(crate) async fn take_all<R: Registry>(
    registry: Arc<R>,
) -> Result<(OwnedPartitions, SoleOwner<R>), StoreError> {
    let id = new_id();
    registry.register_dispatcher(id).await?;
    let beat = Heartbeat {
        id,
        draining: false,
        can_deliver: true,
    };
    let (roster, partitions) = registry.beat(beat).await?.ok_or(StoreError::Stale)?;
    let claim = |holding: &PartitionOwner| PartitionClaim {
        partition: holding.partition,
        owner: holding.owner,
        epoch: holding.epoch,
    };
    let claims = roster.partitions.iter().map(claim).collect();
    let holdings = registry.claim_partitions(id, claims).await?;
    if holdings.len() < usize::from(partitions.count()) {
        return Err(StoreError::Stale);
    }
    let owned = OwnedPartitions::all(&holdings, partitions, hookline_clock::now());
    let sole = SoleOwner {
        registry,
        id,
        holdings,
    };
    Ok((owned, sole))
}

impl<R: Registry> SoleOwner<R> {
    /// Leaves all partitions free at a clean end, which counts as no death.
    ///
    /// # Errors
    /// Where the store fails.
    pub(crate) async fn release_all(self) -> Result<(), StoreError> {
        let hand_over = |holding: PartitionOwner| HandOver {
            partition: holding.partition,
            epoch: holding.epoch,
            to: None,
            note: String::new(),
        };
        let all = self.holdings.into_iter().map(hand_over).collect();
        self.registry.hand_over(self.id, all).await?;
        self.registry.unregister_dispatcher(self.id).await
    }
}
