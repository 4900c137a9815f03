//! The statements of the store that ownership consists of.

use hookline_core::partition::{DispatcherId, Partition, Partitions};
use hookline_store::{Beat, HandOver, Holding, PartitionClaim, Roster, StoreError};

type Answer<T> = Result<T, StoreError>;

/// A store with the tables of dispatchers and partitions.
pub(crate) trait Registry: Send + Sync + 'static {
    fn register_dispatcher(&self, id: DispatcherId) -> impl Future<Output = Answer<()>> + Send;

    /// None where the dispatcher is not registered.
    fn beat(&self, beat: Beat)
    -> impl Future<Output = Answer<Option<(Roster, Partitions)>>> + Send;

    /// Those of the claimed partitions that are as they were observed, with their new epoch.
    fn take_partitions(
        &self,
        id: DispatcherId,
        claims: Vec<PartitionClaim>,
    ) -> impl Future<Output = Answer<Vec<Holding>>> + Send;

    /// Those of the partitions that the dispatcher still owned in their epoch.
    fn hand_over(
        &self,
        id: DispatcherId,
        hand_overs: Vec<HandOver>,
    ) -> impl Future<Output = Answer<Vec<Partition>>> + Send;

    /// Replaces the note in this epoch only.
    fn note(
        &self,
        partition: Partition,
        epoch: i64,
        note: String,
    ) -> impl Future<Output = Answer<()>> + Send;

    fn unregister_dispatcher(&self, id: DispatcherId) -> impl Future<Output = Answer<()>> + Send;
}
