//! Writes rows to the store until it takes them.
//!
//! A transaction that fails is retried in the background, so that later ones go on. It may keep failing while others of
//! its kind are written, or while the store can be written. Then it is halved until the row at fault stands alone. A
//! row that fails alone is held, and is dead-lettered by the rule of `hookline_core::quarantine`. That rule compares it
//! with other rows of the same subscription: the rows of one organization may be locked. A row that another session has
//! locked is not at fault, however long the lock lasts. While the store cannot be written, every row is held.

use std::collections::{HashMap, VecDeque};
use std::future::Future;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use hookline_core::delivery::AttemptTask;
use hookline_core::ids::SubscriptionId;
use hookline_core::row_failures::{RowFailures, RowVerdict};
use hookline_runtime::panics;
use hookline_store::{Store, StoreError};
use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

const FIRST_WAIT: Duration = Duration::from_millis(50);

/// The longest wait of a transaction: the work continues soon after the store is back.
const LONGEST_WAIT: Duration = Duration::from_secs(1);

/// The longest wait of a row that fails alone while others are written.
const LONGEST_LONE_WAIT: Duration = Duration::from_secs(5);

/// A transaction that fails for this long while the store can be written is halved.
const SPLIT_AFTER: Duration = Duration::from_secs(2);

/// The result of a write.
pub(crate) enum WriteOutcome<T> {
    /// The rows were written.
    Done(T),
    /// The store does not take this one row.
    AtFault(StoreError),
    /// The process ends; whether the rows were written is not known.
    Stopped,
}

/// A kind of rows, and the functions that write and settle them.
pub(crate) trait RowWriter: Clone + Send + Sync + 'static {
    type Row: Send + Sync + 'static;
    type Done: Send;
    /// The name of the operation in log lines, such as `record attempts`.
    const WHAT: &'static str;

    fn task(row: &Self::Row) -> AttemptTask;

    fn write(
        &self,
        rows: &[Self::Row],
    ) -> impl Future<Output = Result<Self::Done, StoreError>> + Send;

    fn settle(&self, rows: Vec<Self::Row>, outcome: WriteOutcome<Self::Done>);
}

/// The last write of one subscription, kept for as long as a row of it fails alone.
type LastWrite = Arc<Mutex<Option<Instant>>>;

/// The time of the last write of one kind of rows: of any row, and of each watched subscription.
#[derive(Debug, Clone, Default)]
pub(crate) struct LastWrites(Arc<Mutex<WriteTimes>>);

#[derive(Debug, Default)]
struct WriteTimes {
    any: Option<Instant>,
    watched: HashMap<SubscriptionId, Weak<Mutex<Option<Instant>>>>,
}

impl LastWrites {
    fn note(&self, subscriptions: impl Iterator<Item = SubscriptionId>, now: Instant) {
        let mut last = self.0.lock();
        last.any = Some(now);
        if last.watched.is_empty() {
            return;
        }
        for subscription in subscriptions {
            if let Some(watch) = last.watched.get(&subscription).and_then(Weak::upgrade) {
                *watch.lock() = Some(now);
            }
        }
    }

    fn any(&self) -> Option<Instant> {
        self.0.lock().any
    }

    /// The time of the last write of a subscription's rows, from now on.
    fn watch(&self, subscription: SubscriptionId) -> LastWrite {
        let mut last = self.0.lock();
        last.watched.retain(|_, watch| watch.strong_count() > 0);
        let known = last.watched.get(&subscription).and_then(Weak::upgrade);
        let watch = known.unwrap_or_default();
        last.watched.insert(subscription, Arc::downgrade(&watch));
        watch
    }
}

/// Writes rows of one kind to the store.
#[derive(Clone)]
pub(crate) struct WriteRetry {
    pub(crate) store: Store,
    pub(crate) late: CancellationToken,
    pub(crate) background: TaskTracker,
    pub(crate) written: LastWrites,
}

/// Rows that share a transaction.
struct WriteBatch<R> {
    rows: Vec<R>,
    tries: u32,
    failing_since: Option<Instant>,
    not_before: Option<Instant>,
    row_failures: RowFailures,
    /// Watches the subscription of a row that has failed alone.
    watch: Option<LastWrite>,
}

/// The next step for a piece that has failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum RetryStep {
    Retry(Duration),
    Halve,
    GiveUp,
}

impl<R> WriteBatch<R> {
    fn of(rows: Vec<R>) -> Self {
        Self {
            rows,
            tries: 0,
            failing_since: None,
            not_before: None,
            row_failures: RowFailures::default(),
            watch: None,
        }
    }

    fn halves(mut self) -> [Self; 2] {
        let rest = self.rows.split_off(self.rows.len() / 2);
        [self.rows, rest].map(|rows| Self {
            tries: 1,
            ..Self::of(rows)
        })
    }

    fn failed(
        &mut self,
        is_transient: bool,
        now: Instant,
        others_written: Option<Instant>,
        can_write: bool,
    ) -> RetryStep {
        let since = *self.failing_since.get_or_insert(now);
        let others_succeed = others_written.is_some_and(|written| written > since);
        let of_subscription = self.watch.as_ref().and_then(|watch| *watch.lock());
        let is_alone = self.rows.len() == 1;
        if is_alone {
            let verdict = self.row_failures.failed(now, of_subscription);
            if !is_transient || verdict == RowVerdict::DeadLetter {
                return RetryStep::GiveUp;
            }
        } else {
            let fails_for_long = can_write && now.duration_since(since) >= SPLIT_AFTER;
            if !is_transient || others_succeed || fails_for_long {
                return RetryStep::Halve;
            }
        }
        let longest = if is_alone && others_succeed {
            LONGEST_LONE_WAIT
        } else {
            LONGEST_WAIT
        };
        let wait = (FIRST_WAIT * (1 << self.tries.min(10))).min(longest);
        self.retry(wait, now)
    }

    fn retry(&mut self, wait: Duration, now: Instant) -> RetryStep {
        self.tries += 1;
        self.not_before = Some(now + wait);
        RetryStep::Retry(wait)
    }
}

impl WriteRetry {
    /// Writes these rows in one transaction. Returns when that is done, or has failed once. After a failure, the rows
    /// are retried in the background.
    pub(crate) async fn write<W: RowWriter>(&self, writer: &W, rows: Vec<W::Row>) {
        if rows.is_empty() {
            return;
        }
        let mut batches = VecDeque::new();
        self.attempt(writer, WriteBatch::of(rows), &mut batches)
            .await;
        if !batches.is_empty() {
            let (retry, writer) = (self.clone(), writer.clone());
            self.background
                .spawn(panics::fatal("rows in retry", async move {
                    retry.retry_all(&writer, batches).await
                }));
        }
    }

    async fn retry_all<W: RowWriter>(&self, writer: &W, mut batches: VecDeque<WriteBatch<W::Row>>) {
        loop {
            batches
                .make_contiguous()
                .sort_by_key(|batch| batch.not_before);
            let Some(batch) = batches.pop_front() else {
                return;
            };
            if let Some(at) = batch.not_before {
                tokio::select! {
                    () = tokio::time::sleep_until(at.into()) => {}
                    () = self.late.cancelled() => {}
                }
            }
            if self.late.is_cancelled() {
                for batch in std::iter::once(batch).chain(batches) {
                    writer.settle(batch.rows, WriteOutcome::Stopped);
                }
                return;
            }
            self.attempt(writer, batch, &mut batches).await;
        }
    }

    async fn attempt<W: RowWriter>(
        &self,
        writer: &W,
        mut batch: WriteBatch<W::Row>,
        batches: &mut VecDeque<WriteBatch<W::Row>>,
    ) {
        let why = match writer.write(&batch.rows).await {
            Ok(done) => return self.succeed(writer, batch, done),
            Err(why) => why,
        };
        if let [row] = &batch.rows[..]
            && batch.watch.is_none()
        {
            batch.watch = Some(self.written.watch(W::task(row).subscription));
        }
        let mut next = batch.failed(
            why.is_transient(),
            Instant::now(),
            self.written.any(),
            self.store.can_be_written(),
        );
        if next == RetryStep::GiveUp
            && why.is_transient()
            && let [row] = &batch.rows[..]
        {
            // The row may have been locked until now.
            let unlocked = self.store.wait_for_lock(W::task(row).delivery).await;
            if unlocked.is_ok()
                && let Ok(done) = writer.write(&batch.rows).await
            {
                return self.succeed(writer, batch, done);
            }
            if unlocked.is_err() || !self.store.can_be_written() {
                next = batch.retry(LONGEST_LONE_WAIT, Instant::now());
            }
        }
        match next {
            RetryStep::GiveUp => writer.settle(batch.rows, WriteOutcome::AtFault(why)),
            RetryStep::Halve => batches.extend(batch.halves()),
            RetryStep::Retry(wait) => {
                tracing::warn!(
                    what = W::WHAT,
                    rows = batch.rows.len(),
                    error = %why,
                    wait_ms = wait.as_millis(),
                    "failed, trying again"
                );
                batches.push_back(batch);
            }
        }
    }

    fn succeed<W: RowWriter>(&self, writer: &W, batch: WriteBatch<W::Row>, done: W::Done) {
        let subscriptions = batch.rows.iter().map(|row| W::task(row).subscription);
        self.written.note(subscriptions, Instant::now());
        writer.settle(batch.rows, WriteOutcome::Done(done));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn rows_are_retried_together_while_the_store_cannot_be_written() {
        let (start, mut batch) = (Instant::now(), WriteBatch::of(vec![1, 2]));
        for seconds in 0..3_600 {
            let next = batch.failed(true, start + SECOND * seconds, None, false);
            assert!(
                matches!(next, RetryStep::Retry(wait) if wait <= LONGEST_WAIT),
                "{next:?}"
            );
        }
    }

    #[test]
    fn a_batch_that_fails_while_other_rows_are_written_is_halved() {
        let (start, mut batch) = (Instant::now(), WriteBatch::of(vec![1, 2, 3]));
        assert_eq!(
            batch.failed(true, start, Some(start), true),
            RetryStep::Retry(FIRST_WAIT)
        );
        let others = Some(start + SECOND / 2);
        assert_eq!(
            batch.failed(true, start + SECOND, others, true),
            RetryStep::Halve
        );
        let sizes = batch.halves().map(|half| (half.rows.len(), half.tries));
        assert_eq!(sizes, [(1, 1), (2, 1)]);
    }

    /// The seconds after which a row of subscription 1 is given up, while rows of `others` are written.
    fn dead_lettered_beside(others: SubscriptionId) -> Option<u32> {
        let (start, mut batch) = (Instant::now(), WriteBatch::of(vec![1]));
        let written = LastWrites::default();
        batch.watch = Some(written.watch(SubscriptionId(1)));
        let dead_lettered = (0..600).find(|seconds| {
            let now = start + SECOND * *seconds;
            written.note([others].into_iter(), now);
            batch.failed(true, now, written.any(), true) == RetryStep::GiveUp
        });
        drop(batch);
        let last = written.0.lock();
        assert!(last.watched.values().all(|one| one.strong_count() == 0));
        drop(last);
        dead_lettered
    }

    #[test]
    fn a_row_that_fails_alone_is_dead_lettered_after_a_minute_of_writes_to_its_subscription() {
        assert_eq!(dead_lettered_beside(SubscriptionId(1)), Some(60));
        assert_eq!(dead_lettered_beside(SubscriptionId(2)), None);
    }

    #[test]
    fn a_permanent_error_dead_letters_a_single_row_at_once() {
        let mut batch = WriteBatch::of(vec![1]);
        assert_eq!(
            batch.failed(false, Instant::now(), None, true),
            RetryStep::GiveUp
        );
        let mut batches = WriteBatch::of(vec![1, 2]);
        assert_eq!(
            batches.failed(false, Instant::now(), None, true),
            RetryStep::Halve
        );
    }
}
