//! Makes replays, some deliveries at a time, at a bounded rate: a replay of a month must not push
//! aside what happens now, nor flood the receiver.
//!
//! Any dispatcher takes the next turn at any replay. A turn starts deliveries again in one transaction of the store: they
//! are backlog then, which the subscription's owner reads beside what happens now. The wake-up for the owner is a hint. A
//! dispatcher that dies before it wakes the owner loses nothing.

use std::sync::Arc;
use std::time::Duration;

use hookline_queue::{Publisher, Scheduled};
use hookline_runtime::failpoint;
use hookline_store::{Store, StoreError};
use tokio_util::sync::CancellationToken;

use crate::context::TRY_AGAIN_AFTER;

/// How long no other dispatcher takes a turn.
const TURN: Duration = Duration::from_secs(5);

/// How long it rests when no replay's turn has come.
const REST: Duration = Duration::from_millis(250);

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
        let Some(turn) = store.lease_replay(now, now.after(TURN)).await? else {
            return Ok(Found::Nothing);
        };
        let started = store.replay_step(turn, self.per_second, now).await?;
        failpoint::point("replay::committed");
        // Its row tells the owner that there is more in the backlog.
        let first: Vec<Scheduled> = started
            .first()
            .copied()
            .map(Scheduled::at_once)
            .into_iter()
            .collect();
        self.publisher.wake(&first);
        failpoint::point("replay::published");
        tracing::debug!(replay.id = %turn.replay, deliveries = started.len(), "replayed");
        Ok(Found::Work)
    }
}
