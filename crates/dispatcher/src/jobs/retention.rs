//! Periodic maintenance, by any dispatcher. It makes partitions for the days to come. It deletes data older than the
//! retention and secrets that sign no longer. Doing it twice is harmless.
//!
//! Deletion cannot be undone. It follows the database's clock, and stops while this machine's clock differs from it. It
//! advances no faster than the time before explains ([`TrustedTime`]). The steps are independent: a failed one is named
//! by a warning and a gauge, and the others continue.
//!
//! [`TrustedTime`]: hookline_core::retention::TrustedTime

use std::fmt::Display;
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context as _, ensure};
use hookline_core::retention::{REPEATS_KEPT, STATS_MINUTES_KEPT};
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
    let maintenance = Maintenance::new(store, retention);
    loop {
        let rest = match maintenance.turn().await {
            0 => EVERY,
            1.. => AGAIN,
        };
        tokio::time::sleep(rest).await;
    }
}

struct Maintenance {
    store: Store,
    retention: Duration,
    /// 1 for a step that failed last time, by its name.
    failing: Gauge<u64>,
    /// The seconds by which retention is behind the clock.
    lag: Gauge<u64>,
    unpartitioned: Gauge<u64>,
}

impl Maintenance {
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

    /// Makes each step. Returns the number of failed ones.
    async fn turn(&self) -> u64 {
        let mut failed = self.note("partitions", &self.prepare_days().await);
        failed += self.note("unpartitioned", &self.count_unpartitioned().await);
        let now = self.trusted_time().await;
        failed += self.note("clock", &now);
        match now {
            Ok(now) => failed + self.delete_expired(now).await,
            Err(_) => failed,
        }
    }

    /// Deletes old rows. An event outlives the log of its attempts, which shows its body. The longest default schedule
    /// spans two days, and a day's log is deleted as a whole. Returns the number of failed steps.
    async fn delete_expired(&self, now: Timestamp) -> u64 {
        let store = &self.store;
        let day = now.before(self.retention).unix_day();
        let cutoff = now.before(self.retention + MAX_WAIT * 2 + DAY);
        let secrets = store.forget_previous_secrets(now).await;
        let mut failed = self.note("previous_secrets", &secrets);
        let crash_counts = store.forget_crash_counts(now.before(DAY * 7)).await;
        failed += self.note("crash_counts", &crash_counts);
        failed += self.note("replays", &store.forget_replays(cutoff).await);
        let requests = in_slices(|| store.forget_requests(now.before(REPEATS_KEPT))).await;
        failed += self.note("idempotent_requests", &requests);
        let stats = in_slices(|| store.fold_stats(now.before(STATS_MINUTES_KEPT))).await;
        failed += self.note("stats", &stats);
        // Before the attempts are deleted, so that no stream passes over them without telling.
        let removals = in_slices(|| store.note_removals(day)).await;
        failed += self.note("stream_removals", &removals);
        let changes = in_slices(|| store.forget_changes(day)).await;
        failed += self.note("stream_changes", &changes);
        let attempts = in_slices(|| store.forget_attempts(day)).await;
        failed += self.note("attempts", &attempts);
        let events = in_slices(|| store.forget_events(cutoff)).await;
        failed += self.note("events", &events);
        let deleted = in_slices(|| store.forget_deleted_subscriptions(cutoff)).await;
        failed + self.note("deleted_subscriptions", &deleted)
    }

    async fn database_time(&self) -> anyhow::Result<Timestamp> {
        let time = self.store.clock().await;
        time.context("the database does not say what time it is")
    }

    async fn prepare_days(&self) -> anyhow::Result<()> {
        Ok(self.store.prepare_days(self.database_time().await?).await?)
    }

    /// The time that deletion may rely on.
    async fn trusted_time(&self) -> anyhow::Result<Timestamp> {
        let theirs = self.database_time().await?;
        let ours = Timestamp::from(SystemTime::now());
        ensure!(
            !clocks_differ(ours, theirs),
            "this machine's clock says {ours} and the database's {theirs}"
        );
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
    async fn count_unpartitioned(&self) -> anyhow::Result<()> {
        let attempts = self.store.unpartitioned_attempts(UNPARTITIONED).await?;
        self.unpartitioned.record(attempts, &[]);
        if attempts > 0 {
            tracing::warn!(
                attempts,
                "found attempts in the default partition: their day had no partition"
            );
        }
        Ok(())
    }

    /// Logs and measures the result of a step. Returns 1 for a failed one, else 0.
    fn note<T>(&self, step: &'static str, result: &Result<T, impl Display>) -> u64 {
        let failed = u64::from(result.is_err());
        if let Err(why) = result {
            tracing::warn!(step, error = %why, "could not complete maintenance step, trying again in a minute");
        }
        self.failing.record(failed, &[KeyValue::new("step", step)]);
        failed
    }
}

/// Deletes until nothing is left. After each slice, the store is free for other work for the same time.
async fn in_slices<F>(delete_expired: impl Fn() -> F) -> Result<(), StoreError>
where
    F: Future<Output = Result<usize, StoreError>>,
{
    loop {
        let began = Instant::now();
        if delete_expired().await? == 0 {
            return Ok(());
        }
        tokio::time::sleep(began.elapsed()).await;
    }
}
