//! Reads delivery rows from the store, until it answers.
//!
//! A read of several deliveries may keep failing although the store can be written. It is then taken apart: each
//! delivery is read alone in the background. A delivery that can be read comes again to the worker. A delivery that
//! cannot be read is held, and ends by the rule of `hookline_core::quarantine`.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use hookline_core::row_failures::{RowFailures, RowVerdict};
use hookline_runtime::panics;
use hookline_runtime::retry::{RetryOutcome, retry_until};
use hookline_store::StoreError;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::context::Dispatcher;
use crate::due::InHand;
use crate::pipeline::dead_letter::DeadLettering;

/// A read that fails for this long while the store can be written is taken apart.
const APART_AFTER: Duration = Duration::from_secs(2);

/// The wait between two reads of a delivery that cannot be read, while others can be read.
const LONE_WAIT: Duration = Duration::from_secs(5);

/// The wait between two reads of a delivery, while no delivery can be read.
const COMMON_WAIT: Duration = Duration::from_secs(1);

/// When a read last succeeded.
#[derive(Debug, Clone, Default)]
struct LastSuccess(Arc<Mutex<Option<Instant>>>);

impl LastSuccess {
    fn note(&self, now: Instant) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(now);
    }

    fn get(&self) -> Option<Instant> {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The reads of one dispatcher.
#[derive(Clone)]
pub(crate) struct LoadRetry {
    dispatcher: Dispatcher,
    aside: DeadLettering,
    shutdown: CancellationToken,
    background: TaskTracker,
    succeeded: LastSuccess,
}

impl LoadRetry {
    pub(crate) fn new(
        dispatcher: Dispatcher,
        aside: DeadLettering,
        shutdown: CancellationToken,
        background: TaskTracker,
    ) -> Self {
        Self {
            dispatcher,
            aside,
            shutdown,
            background,
            succeeded: LastSuccess::default(),
        }
    }

    /// Reads until the store answers. Fails on a permanent answer, and after [`APART_AFTER`] of failures while the
    /// store can be written.
    pub(crate) async fn keep_on<T, F>(
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
            let is_of_the_rows = store.can_be_written() && began.elapsed() >= APART_AFTER;
            why.is_transient() && !is_of_the_rows
        };
        let ended = retry_until(&self.shutdown, what, passes, read).await;
        if matches!(ended, RetryOutcome::Done(_)) {
            self.succeeded.note(Instant::now());
        }
        ended
    }

    /// Reads each delivery alone. Where the process stops, it lets them go, and they stay due.
    pub(crate) fn apart<T>(&self, deliveries: Vec<InHand>, ended: &RetryOutcome<T, StoreError>) {
        if !matches!(ended, RetryOutcome::Failed(_)) {
            return;
        }
        for in_hand in deliveries {
            let loads = self.clone();
            self.background.spawn(panics::fatal("reading", async move {
                loads.read_alone(in_hand).await
            }));
        }
    }

    async fn read_alone(&self, in_hand: InHand) {
        let delivery = in_hand.owed.delivery;
        let mut failures = RowFailures::default();
        let mut failed_before = Instant::now();
        while !self.shutdown.is_cancelled() && in_hand.is_owned() {
            let store = &self.dispatcher.store;
            let why = match store
                .due_deliveries_with_bodies(vec![delivery], |_| true)
                .await
            {
                Ok(_) => {
                    self.succeeded.note(Instant::now());
                    return in_hand.come_again();
                }
                Err(why) => why,
            };
            let (now, others) = (Instant::now(), self.succeeded.get());
            let verdict = failures.failed(now, others);
            let wait = match others > Some(failed_before) {
                true => LONE_WAIT,
                false => COMMON_WAIT,
            };
            failed_before = now;
            if !why.is_transient() || verdict == RowVerdict::DeadLetter {
                return self.aside.begin(in_hand, why.to_string());
            }
            tracing::debug!(delivery.id = %delivery, error = %why, "held a delivery that cannot be read");
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                () = self.shutdown.cancelled() => {}
            }
        }
    }
}
