//! Makes replays, some deliveries at a time, at a bounded rate. A replay of a month must neither delay live deliveries
//! nor flood the receiver.
//!
//! Any dispatcher takes the next turn of any replay. A turn makes deliveries due in one transaction of the store. They
//! are backlog then, and the owners of their subscriptions read it beside live deliveries. The wake-ups for the owners
//! are hints. A dispatcher that dies before it wakes them loses nothing.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use hookline_core::ids::ReplayId;
use hookline_queue::{Publisher, Scheduled};
use hookline_runtime::failpoint;
use hookline_store::{ReplayPace, Store, StoreError};
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
    pub pace: ReplayPace,
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
        let started = store.replay_step(turn, self.pace, now).await?;
        failpoint::point("replay::committed");
        // One wake-up for a subscription is enough: its row tells the owner that there is more in the backlog.
        let of_each: BTreeMap<_, _> = started
            .iter()
            .rev()
            .map(|task| (task.subscription, Scheduled::at_once(*task)))
            .collect();
        let first: Vec<Scheduled> = of_each.into_values().collect();
        self.publisher.wake(&first);
        failpoint::point("replay::published");
        tracing::debug!(replay.id = %turn.replay, deliveries = started.len(), "replayed deliveries");
        Ok(Some(turn.replay))
    }
}
