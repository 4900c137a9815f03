//! Periodic maintenance, by any dispatcher. It makes partitions for the days to come. It deletes data older than the
//! retention and secrets that sign no longer. Doing it twice is harmless.
//!
//! Deletion cannot be undone. It follows the database's clock, and stops while this machine's clock differs from it. It
//! advances no faster than the time before explains ([`TrustedTime`]). The steps are independent: a failed one is named
//! by a warning and a gauge, and the others continue.
//!
//! [`TrustedTime`]: hookline_core::retention::TrustedTime

use std::time::{Duration, Instant, SystemTime};

use hookline_core::retention::REPEATS_KEPT;
use hookline_core::retry::MAX_WAIT;
use hookline_core::timestamp::Timestamp;
use hookline_store::{Store, StoreError, clocks_differ};
use opentelemetry::KeyValue;
use opentelemetry::metrics::Gauge;

const EVERY: Duration = Duration::from_secs(60 * 60);

/// The pause after a turn with a failed step.
const AGAIN: Duration = Duration::from_secs(60);

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// The most attempts without a partition that are counted.
const UNPARTITIONED: i64 = 100_000;

/// Runs for ever.
pub async fn keep_up(store: Store, retention: Duration) {
    let upkeep = Upkeep::new(store, retention);
    loop {
        let rest = match upkeep.turn().await {
            Turn::Done => EVERY,
            Turn::Failed => AGAIN,
        };
        tokio::time::sleep(rest).await;
    }
}

struct Upkeep {
    store: Store,
    retention: Duration,
    /// 1 for a step that failed last time, by its name.
    failing: Gauge<u64>,
    /// The seconds by which retention is behind the clock.
    lag: Gauge<u64>,
    unpartitioned: Gauge<u64>,
}

/// The result of a turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Turn {
    Done,
    Failed,
}

impl Turn {
    fn and(self, other: Turn) -> Turn {
        match self {
            Turn::Done => other,
            Turn::Failed => self,
        }
    }
}

/// The reason why a step failed.
#[derive(Debug, thiserror::Error)]
enum Failed {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("the database does not say what time it is")]
    NoClock,
    #[error("this machine's clock says {ours} and the database's {theirs}")]
    ClocksDiffer { ours: Timestamp, theirs: Timestamp },
}

impl Upkeep {
    fn new(store: Store, retention: Duration) -> Self {
        let meter = opentelemetry::global::meter("hookline-dispatcher");
        let gauge = |name| meter.u64_gauge(name).build();
        Self {
            store,
            retention,
            failing: gauge("hookline.upkeep.failing"),
            lag: gauge("hookline.retention.lag_seconds"),
            unpartitioned: gauge("hookline.attempts.unpartitioned"),
        }
    }

    async fn turn(&self) -> Turn {
        let partitions = self.note("partitions", self.prepare_days().await);
        let unpartitioned = self.note("unpartitioned", self.count_unpartitioned().await);
        let trusted = self.trusted_time().await;
        let forgotten = match trusted {
            Ok(now) => self
                .note("clock", Ok::<(), Failed>(()))
                .and(self.forget(now).await),
            Err(why) => self.note("clock", Err::<(), Failed>(why)),
        };
        partitions.and(unpartitioned).and(forgotten)
    }

    /// Deletes old rows. An event outlives the log of its attempts, which shows its body. The longest default schedule
    /// spans two days, and a day's log is deleted as a whole.
    async fn forget(&self, now: Timestamp) -> Turn {
        let store = &self.store;
        let day = now.before(self.retention).unix_day();
        let cutoff = now.before(self.retention + MAX_WAIT * 2 + DAY);
        let secrets = store.forget_previous_secrets(now).await;
        let secrets = self.note("previous_secrets", secrets);
        let crashes = self.note(
            "crash_counts",
            store.forget_crash_counts(now.before(DAY * 7)).await,
        );
        let replays = self.note("replays", store.forget_replays(cutoff).await);
        let requests = in_slices(|| store.forget_requests(now.before(REPEATS_KEPT))).await;
        let requests = self.note("idempotent_requests", requests);
        let attempts = in_slices(|| store.forget_attempts(day)).await;
        let attempts = self.note("attempts", attempts);
        let events = in_slices(|| store.forget_events(cutoff)).await;
        let events = self.note("events", events);
        let deleted = in_slices(|| store.forget_deleted_subscriptions(cutoff)).await;
        let deleted = self.note("deleted_subscriptions", deleted);
        let rows = attempts.and(events).and(deleted);
        secrets.and(crashes).and(replays).and(requests).and(rows)
    }

    async fn database_time(&self) -> Result<Timestamp, Failed> {
        self.store.clock().await.ok_or(Failed::NoClock)
    }

    async fn prepare_days(&self) -> Result<(), Failed> {
        Ok(self.store.prepare_days(self.database_time().await?).await?)
    }

    /// The time that deletion may rely on.
    async fn trusted_time(&self) -> Result<Timestamp, Failed> {
        let theirs = self.database_time().await?;
        let ours = Timestamp::from(SystemTime::now());
        if clocks_differ(ours, theirs) {
            return Err(Failed::ClocksDiffer { ours, theirs });
        }
        let trusted = self.store.advance_retention(theirs).await?;
        self.lag.record(trusted.lag().as_secs(), &[]);
        if trusted.lag() > DAY {
            tracing::warn!(
                clock = %theirs,
                trusted = %trusted.at,
                "retention holds back: no run of before explains what the clock says"
            );
        }
        Ok(trusted.at)
    }

    /// Rows in the default partition outlive their day, and keep its partition from being made.
    async fn count_unpartitioned(&self) -> Result<(), Failed> {
        let attempts = self.store.unpartitioned_attempts(UNPARTITIONED).await?;
        self.unpartitioned.record(attempts, &[]);
        if attempts > 0 {
            tracing::warn!(
                attempts,
                "attempts stand in the default partition, for their day had none in time"
            );
        }
        Ok(())
    }

    /// Logs and measures the result of a step.
    fn note(&self, step: &'static str, result: Result<(), impl Into<Failed>>) -> Turn {
        let (turn, failing) = match result.map_err(Into::into) {
            Ok(()) => (Turn::Done, 0),
            Err(why) => {
                tracing::warn!(step, error = %why, "a step of the upkeep failed, trying again in a minute");
                (Turn::Failed, 1)
            }
        };
        self.failing.record(failing, &[KeyValue::new("step", step)]);
        turn
    }
}

/// Deletes until nothing is left. After each slice, the store is free for other work for the same time.
async fn in_slices<F>(forget: impl Fn() -> F) -> Result<(), StoreError>
where
    F: Future<Output = Result<usize, StoreError>>,
{
    loop {
        let began = Instant::now();
        if forget().await? == 0 {
            return Ok(());
        }
        tokio::time::sleep(began.elapsed()).await;
    }
}
