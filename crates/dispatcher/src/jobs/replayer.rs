//! Makes replays, some deliveries at a time, at a bounded rate. A replay of a month must neither delay live deliveries
//! nor flood the receiver.
//!
//! Any dispatcher takes the next turn of any replay. A turn restarts deliveries in one transaction of the store. They
//! are backlog then, and the subscription's owner reads it beside live deliveries. The wake-up for the owner is a hint.
//! A dispatcher that dies before it wakes the owner loses nothing.

use std::sync::Arc;
use std::time::Duration;

use hookline_core::ids::ReplayId;
use hookline_queue::{Publisher, Scheduled};
use hookline_runtime::failpoint;
use hookline_store::{Store, StoreError};
use tokio_util::sync::CancellationToken;

use crate::context::TRY_AGAIN_AFTER;

/// The time for which no other dispatcher takes a turn.
const TURN: Duration = Duration::from_secs(5);

/// The pause when no replay is due for a turn.
const REST: Duration = Duration::from_millis(250);

/// The job that makes replays.
#[derive(Clone)]
pub struct Replayer {
    pub store: Store,
    /// Wakes the owners of started deliveries.
    pub publisher: Arc<dyn Publisher>,
    /// The deliveries of one replay that are started in a second, from 1.
    pub per_second: u32,
}

impl Replayer {
    /// Makes replays until `shutdown`.
    pub async fn run(self, shutdown: CancellationToken) {
        while !shutdown.is_cancelled() {
            let rest = match self.turn().await {
                Ok(Some(_)) => continue,
                Ok(None) => REST,
                Err(why) => {
                    tracing::warn!(error = %why, "could not continue replay, trying again");
                    TRY_AGAIN_AFTER
                }
            };
            tokio::select! {
                () = tokio::time::sleep(rest) => {}
                () = shutdown.cancelled() => {}
            }
        }
    }

    /// Takes a turn of a replay that is due for one, and returns its id.
    async fn turn(&self) -> Result<Option<ReplayId>, StoreError> {
        let now = hookline_clock::now();
        let store = &self.store;
        let Some(turn) = store.lease_replay(now, now.after(TURN)).await? else {
            return Ok(None);
        };
        let started = store.replay_step(turn, self.per_second, now).await?;
        failpoint::point("replay::committed");
        // One wake-up is enough: its row tells the owner that there is more in the backlog.
        let first: Vec<Scheduled> = started
            .first()
            .copied()
            .map(Scheduled::at_once)
            .into_iter()
            .collect();
        self.publisher.wake(&first);
        failpoint::point("replay::published");
        tracing::debug!(replay.id = %turn.replay, deliveries = started.len(), "replayed deliveries");
        Ok(Some(turn.replay))
    }
}
