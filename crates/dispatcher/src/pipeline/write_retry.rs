//! Writes rows to the store until it takes them.
//!
//! A transaction that fails is retried in the background, so that later ones go on. It may keep failing while others of
//! its kind are written, or while the store can be written. Then it is halved until the row at fault stands alone. A
//! row that fails alone is held, and is dead-lettered by the rule of `hookline_core::quarantine`. That rule compares it
//! with other rows of the same subscription: the rows of one organization may be locked. A row that another session has
//! locked is not at fault, however long the lock lasts. While the store cannot be written, every row is held.

use std::collections::{HashMap, VecDeque};
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use hookline_core::delivery::AttemptTask;
use hookline_core::ids::SubscriptionId;
use hookline_core::row_failures::{RowFailures, RowVerdict};
use hookline_runtime::panics;
use hookline_store::{Store, StoreError};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

const FIRST_WAIT: Duration = Duration::from_millis(50);

/// The longest wait of a transaction: the work continues soon after the store is back.
const LONGEST_WAIT: Duration = Duration::from_secs(1);

/// The longest wait of a row that fails alone while others are written.
const LONGEST_LONE_WAIT: Duration = Duration::from_secs(5);

/// A transaction that fails for this long while the store can be written is halved.
const HALVED_AFTER: Duration = Duration::from_secs(2);

/// The result of a write.
pub(crate) enum Outcome<T> {
    /// The rows were written.
    Written(T),
    /// The store does not take this one row.
    AtFault(StoreError),
    /// The process ends; whether the rows were written is not known.
    Stopped,
}

/// A kind of rows, and the functions that write and settle them.
pub(crate) trait Writing: Clone + Send + Sync + 'static {
    type Row: Send + Sync + 'static;
    type Done: Send;
    /// The name of the operation in log lines, such as `record attempts`.
    const WHAT: &'static str;

    fn owed(row: &Self::Row) -> AttemptTask;

    fn write(
        &self,
        rows: &[Self::Row],
    ) -> impl Future<Output = Result<Self::Done, StoreError>> + Send;

    fn settle(&self, rows: Vec<Self::Row>, outcome: Outcome<Self::Done>);
}

/// The time of the last write of one kind of rows: of any row, and of each watched subscription.
#[derive(Debug, Clone, Default)]
pub(crate) struct Written(Arc<Mutex<LastWritten>>);

#[derive(Debug, Default)]
struct LastWritten {
    any: Option<Instant>,
    /// Each watched subscription with its number of watches and its last write.
    watched: HashMap<SubscriptionId, (usize, Option<Instant>)>,
}

impl Written {
    fn lock(&self) -> MutexGuard<'_, LastWritten> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note(&self, subscriptions: impl Iterator<Item = SubscriptionId>, now: Instant) {
        let mut last = self.lock();
        last.any = Some(now);
        if last.watched.is_empty() {
            return;
        }
        for subscription in subscriptions {
            if let Some((_, written)) = last.watched.get_mut(&subscription) {
                *written = Some(now);
            }
        }
    }

    fn any(&self) -> Option<Instant> {
        self.lock().any
    }

    fn watch(&self, subscription: SubscriptionId) -> Watch {
        self.lock().watched.entry(subscription).or_default().0 += 1;
        Watch {
            written: self.clone(),
            subscription,
        }
    }
}

/// Notes when rows of a subscription are written, until it is dropped.
#[derive(Debug)]
struct Watch {
    written: Written,
    subscription: SubscriptionId,
}

impl Watch {
    fn last(&self) -> Option<Instant> {
        let last = self.written.lock();
        last.watched.get(&self.subscription)?.1
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let mut last = self.written.lock();
        if let Some((watches, _)) = last.watched.get_mut(&self.subscription) {
            *watches -= 1;
            if *watches == 0 {
                last.watched.remove(&self.subscription);
            }
        }
    }
}

/// Writes rows of one kind to the store.
#[derive(Clone)]
pub(crate) struct WriteRetry {
    pub(crate) store: Store,
    pub(crate) late: CancellationToken,
    pub(crate) background: TaskTracker,
    pub(crate) written: Written,
}

/// Rows that share a transaction.
struct Piece<R> {
    rows: Vec<R>,
    tries: u32,
    failing_since: Option<Instant>,
    not_before: Option<Instant>,
    alone: RowFailures,
    /// Watches the subscription of a row that has failed alone.
    watch: Option<Watch>,
}

/// The next step for a piece that has failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Next {
    Retry(Duration),
    Halve,
    GiveUp,
}

impl<R> Piece<R> {
    fn of(rows: Vec<R>) -> Self {
        Self {
            rows,
            tries: 0,
            failing_since: None,
            not_before: None,
            alone: RowFailures::default(),
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
    ) -> Next {
        let since = *self.failing_since.get_or_insert(now);
        let others_go_on = others_written.is_some_and(|written| written > since);
        let of_subscription = self.watch.as_ref().and_then(Watch::last);
        let is_alone = self.rows.len() == 1;
        match is_alone {
            true => {
                let verdict = self.alone.failed(now, of_subscription);
                if !is_transient || verdict == RowVerdict::DeadLetter {
                    return Next::GiveUp;
                }
            }
            false => {
                let fails_for_long = can_write && now.duration_since(since) >= HALVED_AFTER;
                if !is_transient || others_go_on || fails_for_long {
                    return Next::Halve;
                }
            }
        }
        let longest = match is_alone && others_go_on {
            true => LONGEST_LONE_WAIT,
            false => LONGEST_WAIT,
        };
        let wait = (FIRST_WAIT * (1 << self.tries.min(10))).min(longest);
        self.retry(wait, now)
    }

    fn retry(&mut self, wait: Duration, now: Instant) -> Next {
        self.tries += 1;
        self.not_before = Some(now + wait);
        Next::Retry(wait)
    }
}

impl WriteRetry {
    /// Writes these rows in one transaction. Returns when that is done, or has failed once. After a failure, the rows
    /// are retried in the background.
    pub(crate) async fn write<W: Writing>(&self, writing: &W, rows: Vec<W::Row>) {
        if rows.is_empty() {
            return;
        }
        let mut pieces = VecDeque::new();
        self.attempt(writing, Piece::of(rows), &mut pieces).await;
        if !pieces.is_empty() {
            let (persist, writing) = (self.clone(), writing.clone());
            self.background
                .spawn(panics::fatal("rows in retry", async move {
                    persist.keep_on(&writing, pieces).await
                }));
        }
    }

    async fn keep_on<W: Writing>(&self, writing: &W, mut pieces: VecDeque<Piece<W::Row>>) {
        loop {
            pieces
                .make_contiguous()
                .sort_by_key(|piece| piece.not_before);
            let Some(piece) = pieces.pop_front() else {
                return;
            };
            if let Some(at) = piece.not_before {
                tokio::select! {
                    () = tokio::time::sleep_until(at.into()) => {}
                    () = self.late.cancelled() => {}
                }
            }
            if self.late.is_cancelled() {
                for piece in std::iter::once(piece).chain(pieces) {
                    writing.settle(piece.rows, Outcome::Stopped);
                }
                return;
            }
            self.attempt(writing, piece, &mut pieces).await;
        }
    }

    async fn attempt<W: Writing>(
        &self,
        writing: &W,
        mut piece: Piece<W::Row>,
        pieces: &mut VecDeque<Piece<W::Row>>,
    ) {
        let why = match writing.write(&piece.rows).await {
            Ok(done) => return self.succeed(writing, piece, done),
            Err(why) => why,
        };
        if let [row] = &piece.rows[..]
            && piece.watch.is_none()
        {
            piece.watch = Some(self.written.watch(W::owed(row).subscription));
        }
        let mut next = piece.failed(
            why.is_transient(),
            Instant::now(),
            self.written.any(),
            self.store.can_be_written(),
        );
        if next == Next::GiveUp
            && why.is_transient()
            && let [row] = &piece.rows[..]
        {
            // The row may have been locked until now.
            let unlocked = self.store.wait_for_lock(W::owed(row).delivery).await;
            if unlocked.is_ok()
                && let Ok(done) = writing.write(&piece.rows).await
            {
                return self.succeed(writing, piece, done);
            }
            if unlocked.is_err() || !self.store.can_be_written() {
                next = piece.retry(LONGEST_LONE_WAIT, Instant::now());
            }
        }
        match next {
            Next::GiveUp => writing.settle(piece.rows, Outcome::AtFault(why)),
            Next::Halve => pieces.extend(piece.halves()),
            Next::Retry(wait) => {
                tracing::warn!(
                    what = W::WHAT,
                    rows = piece.rows.len(),
                    error = %why,
                    wait_ms = wait.as_millis(),
                    "could not go on, trying again"
                );
                pieces.push_back(piece);
            }
        }
    }

    fn succeed<W: Writing>(&self, writing: &W, piece: Piece<W::Row>, done: W::Done) {
        let subscriptions = piece.rows.iter().map(|row| W::owed(row).subscription);
        self.written.note(subscriptions, Instant::now());
        writing.settle(piece.rows, Outcome::Written(done));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn while_the_store_cannot_be_written_rows_stay_together_and_are_held() {
        let (start, mut piece) = (Instant::now(), Piece::of(vec![1, 2]));
        for seconds in 0..3_600 {
            let next = piece.failed(true, start + SECOND * seconds, None, false);
            assert!(
                matches!(next, Next::Retry(wait) if wait <= LONGEST_WAIT),
                "{next:?}"
            );
        }
    }

    #[test]
    fn rows_that_fail_while_others_are_written_are_halved() {
        let (start, mut piece) = (Instant::now(), Piece::of(vec![1, 2, 3]));
        assert_eq!(
            piece.failed(true, start, Some(start), true),
            Next::Retry(FIRST_WAIT)
        );
        let others = Some(start + SECOND / 2);
        assert_eq!(
            piece.failed(true, start + SECOND, others, true),
            Next::Halve
        );
        let sizes = piece.halves().map(|half| (half.rows.len(), half.tries));
        assert_eq!(sizes, [(1, 1), (2, 1)]);
    }

    /// The seconds after which a row of subscription 1 is given up, while rows of `others` are written.
    fn given_up_beside(others: SubscriptionId) -> Option<u32> {
        let (start, mut piece) = (Instant::now(), Piece::of(vec![1]));
        let written = Written::default();
        piece.watch = Some(written.watch(SubscriptionId(1)));
        let given_up = (0..600).find(|seconds| {
            let now = start + SECOND * *seconds;
            written.note([others].into_iter(), now);
            piece.failed(true, now, written.any(), true) == Next::GiveUp
        });
        drop(piece);
        assert!(written.lock().watched.is_empty());
        given_up
    }

    #[test]
    fn a_lone_row_is_put_aside_after_a_minute_of_others_of_its_subscription() {
        assert_eq!(given_up_beside(SubscriptionId(1)), Some(60));
        assert_eq!(given_up_beside(SubscriptionId(2)), None);
    }

    #[test]
    fn a_permanent_error_of_one_row_gives_it_up_at_once() {
        let mut piece = Piece::of(vec![1]);
        assert_eq!(
            piece.failed(false, Instant::now(), None, true),
            Next::GiveUp
        );
        let mut pieces = Piece::of(vec![1, 2]);
        assert_eq!(
            pieces.failed(false, Instant::now(), None, true),
            Next::Halve
        );
    }
}
