//! Hands on again what is owed and seems to be lost: after a broker that lost its disk, or a process
//! that died between a commit and handing on. Sooner or later every owed delivery is delivered, even
//! if all messages are gone.
//!
//! It must not multiply messages: it rests while the dispatchers have enough before them, and a
//! delivery that was handed on again is left alone for twice as long each time, and given up in the
//! end: what is wrong with it cannot be that it was lost. A message too many does no harm: whoever
//! takes it finds in the store that nothing is owed.

use std::time::Duration;

use hookline_broker::contract::{Publisher, Scheduled};
use hookline_store::{Store, Sweep, Swept};

use crate::{TRY_AGAIN_AFTER, poison};

/// How many deliveries a sweep marks at once.
const AT_ONCE: u32 = 500;

/// While more attempts wait than this, what is overdue is behind them and not lost.
const ENOUGH: u64 = 2_000;

/// How a sweep failed; the next one tries again.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Failed(String);

/// Sweeps for ever. `grace` is how long after it was due an attempt counts as overdue.
pub async fn keep_sweeping(
    store: Store,
    publisher: std::sync::Arc<dyn Publisher>,
    grace: Duration,
) {
    let mut turns = tokio::time::interval(grace / 4);
    turns.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        turns.tick().await;
        match sweep(&store, &*publisher, grace).await {
            Ok(0) => {}
            Ok(handed_on) => tracing::warn!(
                attempts = handed_on,
                "handed on again what seemed to be lost"
            ),
            Err(why) => {
                tracing::warn!(error = %why, "could not look for lost attempts, trying again");
                turns.reset_after(turns.period().min(TRY_AGAIN_AFTER));
            }
        }
    }
}

async fn sweep(store: &Store, publisher: &dyn Publisher, grace: Duration) -> Result<usize, Failed> {
    let failed = |why: &dyn std::fmt::Display| Failed(why.to_string());
    let mut handed_on = 0;
    // A sweep marks what it finds as handed on, so it first makes sure that this can be done.
    while publisher.is_ready()
        && publisher
            .attempts_waiting()
            .await
            .map_err(|why| failed(&why))?
            < ENOUGH
    {
        let now = hookline_clock::now();
        let sweep = Sweep {
            grace,
            limit: AT_ONCE,
        };
        let Swept { again, given_up } =
            store.sweep(sweep, now).await.map_err(|why| failed(&why))?;
        if again.is_empty() && given_up.is_empty() {
            break;
        }
        if !given_up.is_empty() {
            let reason = "it was handed on again as often as that is done, and no attempt was made";
            poison::report(store, &given_up, reason).await;
        }
        let attempts: Vec<Scheduled> = again.into_iter().map(Scheduled::at_once).collect();
        publisher
            .publish_attempts(&attempts)
            .await
            .map_err(|why| failed(&why))?;
        handed_on += attempts.len();
    }
    Ok(handed_on)
}
