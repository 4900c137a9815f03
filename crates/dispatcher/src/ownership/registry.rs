//! The statements of the store for ownership.

use hookline_core::partition::{DispatcherId, Partition, Partitions};
use hookline_store::{
    ClusterState, HandOver, Heartbeat, PartitionClaim, PartitionOwner, Store, StoreError,
};

type StoreResult<T> = Result<T, StoreError>;

/// A store with the tables of dispatchers and partitions.
pub(crate) trait Registry: Send + Sync + 'static {
    fn register_dispatcher(&self, id: DispatcherId)
    -> impl Future<Output = StoreResult<()>> + Send;

    /// None where the dispatcher is not registered.
    fn beat(
        &self,
        beat: Heartbeat,
    ) -> impl Future<Output = StoreResult<Option<(ClusterState, Partitions)>>> + Send;

    /// Returns the claimed partitions that are as they were observed, with their new epoch.
    fn claim_partitions(
        &self,
        id: DispatcherId,
        claims: Vec<PartitionClaim>,
    ) -> impl Future<Output = StoreResult<Vec<PartitionOwner>>> + Send;

    /// Returns the partitions that the dispatcher still owned in their epoch.
    fn hand_over(
        &self,
        id: DispatcherId,
        hand_overs: Vec<HandOver>,
    ) -> impl Future<Output = StoreResult<Vec<Partition>>> + Send;

    /// Replaces the note in this epoch only.
    fn note(
        &self,
        partition: Partition,
        epoch: i64,
        note: String,
    ) -> impl Future<Output = StoreResult<()>> + Send;

    fn unregister_dispatcher(
        &self,
        id: DispatcherId,
    ) -> impl Future<Output = StoreResult<()>> + Send;
}

impl Registry for Store {
    async fn register_dispatcher(&self, id: DispatcherId) -> StoreResult<()> {
        Self::register_dispatcher(self, id).await
    }

    async fn beat(&self, beat: Heartbeat) -> StoreResult<Option<(ClusterState, Partitions)>> {
        Self::beat(self, beat).await
    }

    async fn claim_partitions(
        &self,
        id: DispatcherId,
        claims: Vec<PartitionClaim>,
    ) -> StoreResult<Vec<PartitionOwner>> {
        Self::claim_partitions(self, id, claims).await
    }

    async fn hand_over(
        &self,
        id: DispatcherId,
        hand_overs: Vec<HandOver>,
    ) -> StoreResult<Vec<Partition>> {
        Self::hand_over(self, id, hand_overs).await
    }

    async fn note(&self, partition: Partition, epoch: i64, note: String) -> StoreResult<()> {
        Self::note(self, partition, epoch, note).await.map(drop)
    }

    async fn unregister_dispatcher(&self, id: DispatcherId) -> StoreResult<()> {
        Self::unregister_dispatcher(self, id).await
    }
}
