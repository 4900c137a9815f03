//! Makes replays, some deliveries at a time, at a bounded rate: a replay of a month must not push
//! aside what happens now, nor flood the receiver.
//!
//! Any dispatcher takes the next turn at any replay. A turn starts deliveries again in one transaction of the store, so
//! they are due; the wake-up for their owners is a hint. A dispatcher that dies before it wakes them loses nothing.

use std::sync::Arc;
use std::time::Duration;

use hookline_broker::contract::{Publisher, Scheduled};
use hookline_runtime::fault;
use hookline_store::{Store, StoreError};
use tokio_util::sync::CancellationToken;

use crate::TRY_AGAIN_AFTER;

/// How long no other dispatcher takes a turn.
const TURN: Duration = Duration::from_secs(5);

/// How long it rests when no replay's turn has come, or when there is enough to do without.
const REST: Duration = Duration::from_millis(250);

/// While more deliveries are due than this, replays wait for them: what happens now comes first.
const ENOUGH: u64 = 2_000;

/// What replays are made with.
#[derive(Clone)]
pub struct Replayer {
    /// Where they are kept.
    pub store: Store,
    /// What wakes the owners of started deliveries.
    pub publisher: Arc<dyn Publisher>,
    /// How many deliveries of one replay are started in a second, from 1.
    pub per_second: u32,
}

/// What there was to do.
enum Found {
    Work,
    Nothing,
}

impl Replayer {
    /// Makes replays until `shutdown`.
    pub async fn run(self, shutdown: CancellationToken) {
        while !shutdown.is_cancelled() {
            let rest = match self.turn().await {
                Ok(Found::Work) => continue,
                Ok(Found::Nothing) => REST,
                Err(why) => {
                    tracing::warn!(error = %why, "could not go on with a replay, trying again");
                    TRY_AGAIN_AFTER
                }
            };
            tokio::select! {
                () = tokio::time::sleep(rest) => {}
                () = shutdown.cancelled() => {}
            }
        }
    }

    async fn turn(&self) -> Result<Found, StoreError> {
        let now = hookline_clock::now();
        let store = &self.store;
        let Some(turn) = store.take_replay_turn(now, now.after(TURN)).await? else {
            return Ok(Found::Nothing);
        };
        if store.count_due(now, ENOUGH).await? >= ENOUGH {
            // The turn is left to pass.
            return Ok(Found::Nothing);
        }
        let started = store.replay_step(turn, self.per_second, now).await?;
        fault::point("replay::committed");
        let due: Vec<Scheduled> = started.into_iter().map(Scheduled::at_once).collect();
        self.publisher.wake(&due);
        fault::point("replay::published");
        tracing::debug!(replay.id = %turn.replay, deliveries = due.len(), "replayed");
        Ok(Found::Work)
    }
}
