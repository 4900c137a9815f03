//! Makes replays, some deliveries at a time, at a bounded rate: a replay of a month must not push
//! aside what happens now, nor flood the receiver.
//!
//! Any dispatcher takes the next turn at any replay, and has it for a few seconds. It starts
//! deliveries again in the store, hands them on, and then ends the turn. If it dies or freezes in
//! between, whoever takes the next turn finds what was started and hands that on first.

use std::sync::Arc;
use std::time::Duration;

use hookline_broker::contract::{Publisher, Scheduled};
use hookline_core::timestamp::Timestamp;
use hookline_runtime::fault;
use hookline_store::{ReplayStep, ReplayTurn, Store};
use tokio_util::sync::CancellationToken;

use crate::TRY_AGAIN_AFTER;

/// How long a turn is nobody else's.
const TURN: Duration = Duration::from_secs(5);

/// How long it rests when no replay's turn has come, or when there is enough to do without.
const REST: Duration = Duration::from_millis(250);

/// Turns of one replay in a second, at most.
const TURNS: u32 = 4;

/// While more deliveries are due than this, replays wait for them: what happens now comes first.
const ENOUGH: u64 = 2_000;

/// What replays are made with.
#[derive(Clone)]
pub struct Replayer {
    /// Where they are kept.
    pub store: Store,
    /// Where started deliveries go.
    pub publisher: Arc<dyn Publisher>,
    /// How many deliveries of one replay are started in a second, from 1.
    pub per_second: u32,
}

/// A turn that failed; there will be another one.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Failed(String);

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

    async fn turn(&self) -> Result<Found, Failed> {
        let now = hookline_clock::now();
        let turn = self.store.take_replay_turn(now, now.after(TURN));
        let Some(turn) = turn.await.map_err(failed)? else {
            return Ok(Found::Nothing);
        };
        let waiting = self.store.count_due(now, ENOUGH).await.map_err(failed)?;
        if waiting >= ENOUGH {
            // The turn is left to pass: ending it would say that all was handed on.
            return Ok(Found::Nothing);
        }
        let limit = usize::try_from(self.per_second / TURNS).unwrap_or(1).max(1);
        let step = self.store.replay_step(turn, limit, now).await;
        let ReplayStep::HandOn(owed) = step.map_err(failed)? else {
            return Ok(Found::Work);
        };
        fault::point("replay::committed");
        let started = u32::try_from(owed.len()).unwrap_or(u32::MAX);
        let attempts: Vec<Scheduled> = owed.into_iter().map(Scheduled::at_once).collect();
        self.publisher.wake(&attempts);
        fault::point("replay::published");
        let next = now.after(Duration::from_secs(1) * started / self.per_second);
        self.end(turn, next).await?;
        tracing::debug!(replay.id = %turn.replay, deliveries = started, "replayed");
        Ok(Found::Work)
    }

    async fn end(&self, turn: ReplayTurn, next: Timestamp) -> Result<(), Failed> {
        self.store.end_replay_turn(turn, next).await.map_err(failed)
    }
}

fn failed(why: impl std::fmt::Display) -> Failed {
    Failed(why.to_string())
}
