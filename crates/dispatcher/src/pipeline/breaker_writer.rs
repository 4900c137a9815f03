//! Writes the waits of circuit breakers to the store. The next owner of a subscription continues them.

use std::collections::HashMap;
use std::time::Duration;

use hookline_runtime::panics;
use hookline_runtime::retry::retry_until;
use hookline_store::{BreakerChange, Store};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// The most changes in one statement.
const BATCH: usize = 1_024;

/// The time between two statements, for which changes are gathered.
const GATHERING: Duration = Duration::from_millis(100);

/// Starts the task. It ends when the sender is dropped and the rest is written, and at `late` at the latest.
pub(crate) fn start(
    store: Store,
    late: CancellationToken,
) -> (mpsc::UnboundedSender<BreakerChange>, JoinHandle<()>) {
    let (changes, mut waiting) = mpsc::unbounded_channel();
    let writing = async move {
        let mut batch: Vec<BreakerChange> = Vec::new();
        while waiting.recv_many(&mut batch, BATCH).await > 0 {
            // The last change of a subscription counts.
            let last: HashMap<_, _> = batch.drain(..).map(|one| (one.subscription, one)).collect();
            let last: Vec<BreakerChange> = last.into_values().collect();
            let write = || store.write_breakers(last.clone(), hookline_clock::now());
            retry_until(&late, "write circuit breakers", |_| true, write).await;
            tokio::time::sleep(GATHERING).await;
        }
    };
    let task = tokio::spawn(panics::fatal("circuit breakers", writing));
    (changes, task)
}
