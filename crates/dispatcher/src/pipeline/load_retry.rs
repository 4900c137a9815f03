//! Reads delivery rows from the store, until it answers.
//!
//! A read of several deliveries may keep failing although the store can be written. It is then taken apart: each
//! delivery is read alone in the background. A delivery that can be read comes again to the worker. A delivery that
//! cannot be read is held, and ends by the rule of `hookline_core::quarantine`.

use std::sync::Arc;
use std::time::{Duration, Instant};

use hookline_core::row_failures::{RowFailures, RowVerdict};
use hookline_runtime::panics;
use hookline_runtime::retry::{RetryOutcome, retry_until};
use hookline_store::StoreError;
use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::context::Dispatcher;
use crate::due::InHand;
use crate::pipeline::dead_letter::DeadLettering;

/// A read that fails for this long while the store can be written is taken apart.
const SPLIT_AFTER: Duration = Duration::from_secs(2);

/// The wait between two reads of a delivery that cannot be read, while others can be read.
const LONE_WAIT: Duration = Duration::from_secs(5);

/// The wait between two reads of a delivery, while no delivery can be read.
const COMMON_WAIT: Duration = Duration::from_secs(1);

/// The reads of one dispatcher.
#[derive(Clone)]
pub(crate) struct LoadRetry {
    dispatcher: Dispatcher,
    dead_letters: DeadLettering,
    shutdown: CancellationToken,
    background: TaskTracker,
    /// When a read last succeeded.
    succeeded_at: Arc<Mutex<Option<Instant>>>,
}

impl LoadRetry {
    pub(crate) fn new(
        dispatcher: Dispatcher,
        dead_letters: DeadLettering,
        shutdown: CancellationToken,
        background: TaskTracker,
    ) -> Self {
        Self {
            dispatcher,
            dead_letters,
            shutdown,
            background,
            succeeded_at: Arc::default(),
        }
    }

    /// Reads until the store answers. Fails on a permanent answer, and after [`SPLIT_AFTER`] of failures while the
    /// store can be written.
    pub(crate) async fn retry<T, F>(
        &self,
        what: &str,
        read: impl FnMut() -> F,
    ) -> RetryOutcome<T, StoreError>
    where
        F: Future<Output = Result<T, StoreError>>,
    {
        let began = Instant::now();
        let store = &self.dispatcher.store;
        let passes = |why: &StoreError| {
            let is_of_the_rows = store.can_be_written() && began.elapsed() >= SPLIT_AFTER;
            why.is_transient() && !is_of_the_rows
        };
        let ended = retry_until(&self.shutdown, what, passes, read).await;
        if matches!(ended, RetryOutcome::Done(_)) {
            *self.succeeded_at.lock() = Some(Instant::now());
        }
        ended
    }

    /// Reads each delivery alone. Where the process stops, it lets them go, and they stay due.
    pub(crate) fn read_each_alone<T>(
        &self,
        deliveries: Vec<InHand>,
        ended: &RetryOutcome<T, StoreError>,
    ) {
        if !matches!(ended, RetryOutcome::Failed(_)) {
            return;
        }
        for in_hand in deliveries {
            let load_retry = self.clone();
            self.background
                .spawn(panics::fatal("read delivery", async move {
                    load_retry.read_alone(in_hand).await
                }));
        }
    }

    async fn read_alone(&self, in_hand: InHand) {
        let delivery = in_hand.task.delivery;
        let mut failures = RowFailures::default();
        let mut failed_before = Instant::now();
        while !self.shutdown.is_cancelled() && in_hand.is_owned() {
            let store = &self.dispatcher.store;
            let why = match store
                .due_deliveries_with_bodies(vec![delivery], |_| true)
                .await
            {
                Ok(_) => {
                    *self.succeeded_at.lock() = Some(Instant::now());
                    return in_hand.wait_again();
                }
                Err(why) => why,
            };
            let (now, others) = (Instant::now(), *self.succeeded_at.lock());
            let verdict = failures.failed(now, others);
            let wait = if others > Some(failed_before) {
                LONE_WAIT
            } else {
                COMMON_WAIT
            };
            failed_before = now;
            if !why.is_transient() || verdict == RowVerdict::DeadLetter {
                return self.dead_letters.begin(in_hand, why.to_string());
            }
            tracing::debug!(delivery.id = %delivery, error = %why, "could not read delivery, trying again");
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                () = self.shutdown.cancelled() => {}
            }
        }
    }
}
