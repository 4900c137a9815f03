//! Deliveries in partitions that do not exist, which no look finds.
//!
//! `hookline partitions set` moves them. Each minute this task finds the rest. One source is a transaction that read
//! the number before a change and committed after the command had ended. Another source is a command that was
//! interrupted. The owner of partition 0 does this for all. For a minute after a change of the number, it leaves these
//! rows alone. An earlier owner may have one of them in hand.

use std::time::Duration;

use hookline_core::partition::{Partition, Partitions};
use hookline_store::{Store, StoreError};
use tokio_util::sync::CancellationToken;

use crate::context::{TRY_AGAIN_AFTER, ticks_every};
use crate::ownership::OwnedPartitions;

const EVERY: Duration = Duration::from_secs(60);

/// Moves them until `shutdown`.
pub(crate) async fn keep_refiling(
    owned: OwnedPartitions,
    store: Store,
    shutdown: CancellationToken,
) {
    let mut ticks = ticks_every(EVERY);
    let mut known = None;
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return,
            _ = ticks.tick() => {}
        }
        let is_for_all = owned.get_owned(Partition(0)).is_some();
        match refile(&store, known, is_for_all).await {
            Ok(partitions) => known = Some(partitions),
            Err(why) => {
                tracing::warn!(error = %why, "could not move deliveries to existing partitions, trying again");
                ticks.reset_after(TRY_AGAIN_AFTER);
            }
        }
    }
}

/// Returns the present number of partitions.
async fn refile(
    store: &Store,
    known: Option<Partitions>,
    is_for_all: bool,
) -> Result<Partitions, StoreError> {
    let partitions = store.partitions().await?;
    if !is_for_all || known != Some(partitions) {
        return Ok(partitions);
    }
    let moved = store.repartition_all().await?;
    if moved > 0 {
        tracing::info!(
            deliveries = moved,
            "moved deliveries to existing partitions"
        );
    }
    Ok(partitions)
}
