//! What has to be done now and then, by any dispatcher: room for the days to come, and forgetting
//! what is older than the retention or signs no longer. Doing it twice is harmless.

use std::time::{Duration, SystemTime};

use hookline_core::retry::MAX_WAIT;
use hookline_core::timestamp::Timestamp;
use hookline_store::{Store, StoreError};

const EVERY: Duration = Duration::from_secs(60 * 60);
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// Goes on for ever; a step that fails is tried again at the next turn.
pub async fn keep_up(store: Store, retention: Duration) {
    let mut turns = tokio::time::interval(EVERY);
    turns.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        turns.tick().await;
        if let Err(why) = turn(&store, retention, Timestamp::from(SystemTime::now())).await {
            tracing::warn!(error = %why, "could not tidy the store up, trying again in an hour");
        }
    }
}

/// An event outlives the log of its attempts, which shows its body: the longest default schedule
/// spans two days, and a day's log goes as a whole.
async fn turn(store: &Store, retention: Duration, now: Timestamp) -> Result<(), StoreError> {
    store.prepare_days(now).await?;
    store.forget_previous_secrets(now).await?;
    store
        .forget_attempts(now.before(retention).unix_day())
        .await?;
    store.forget_trials(now.before(DAY * 7)).await?;
    let cutoff = now.before(retention + MAX_WAIT * 2 + DAY);
    store.forget_replays(cutoff).await?;
    while store.forget_events(cutoff).await? > 0 {}
    Ok(())
}
