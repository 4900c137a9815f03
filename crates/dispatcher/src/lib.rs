//! Makes signed requests from due deliveries.
//!
//! A dispatcher owns some partitions of the subscriptions (`ownership`) and finds the deliveries that are due in them
//! (`due`). Each delivery waits in the queue of its subscription (`scheduler`). A receiver that hangs thus delays its
//! own deliveries only. At the delivery's turn, the `pipeline` reads the row again and decides. It sends one request
//! (`http`) and records the outcome in a batch. The record moves the row on: a crash repeats an attempt and never loses
//! one. `jobs` run beside it: retention, replays, automatic disabling.

mod context;
mod due;
mod http;
pub mod jobs;
mod ownership;
mod pipeline;
pub mod scheduler;

use std::sync::Arc;
use std::time::Instant;

use futures::FutureExt as _;
use futures::future::BoxFuture;
use hookline_runtime::panics;
use hookline_runtime::shutdown::Shutdown;

use crate::due::DueRows;
use crate::http::attempt::Requester;
use crate::jobs::{auto_disable, refile};
use crate::ownership::{KeeperParts, OwnedPartitions, Watchdog, keep, take_all};
use crate::pipeline::dead_letter::DeadLettering;
use crate::pipeline::worker::Worker;
use crate::pipeline::{quarantine, record};

pub use context::{Dispatcher, Ownership, Policy};

/// Dispatches until a request to stop. Then it begins nothing more and gives its partitions up at once. Requests in
/// flight are finished and recorded, or abandoned when it is late.
///
/// # Errors
/// When no HTTP client can be made, for example because a file of certificates cannot be read. When the only dispatcher
/// of a store cannot take its partitions.
pub async fn run(dispatcher: Dispatcher, shutdown: Shutdown) -> anyhow::Result<()> {
    let requester = Requester::new(&dispatcher.policy)?;
    let auto_disable = auto_disable::start(dispatcher.clone(), shutdown.deadline.clone());
    let dead_letters = DeadLettering::new(dispatcher.clone(), shutdown.draining.clone());
    let watchdog = Watchdog::new(Instant::now());
    let known = Arc::default();
    let (owned, owning) = own(&dispatcher, Arc::clone(&known), &watchdog, &shutdown).await?;
    let refiling = refile::keep_refiling(
        owned.clone(),
        dispatcher.store.clone(),
        shutdown.draining.clone(),
    );
    tokio::spawn(panics::fatal("refiling", refiling));
    let due = DueRows::new(known, owned);
    due::start(&due, &dispatcher, &watchdog, &shutdown.draining);
    let (recorder, recording) = record::start(
        dispatcher.clone(),
        due.clone(),
        dead_letters.clone(),
        auto_disable,
        watchdog.clone(),
        shutdown.deadline.clone(),
    );
    let (quarantine, quarantine_task) = quarantine::start(
        dispatcher.clone(),
        dead_letters.clone(),
        shutdown.draining.clone(),
    );
    let worker = Worker::new(
        &dispatcher,
        due,
        dead_letters.clone(),
        requester,
        recorder,
        quarantine,
        shutdown.clone(),
    );
    // The worker has a task of its own. Otherwise every delivery would wake the thread that waits for the whole
    // service.
    tokio::spawn(worker.run(watchdog, shutdown.draining)).await?;
    // The end of the worker has closed the recorder's channel. The recorder ends when it has recorded the rest.
    recording.await?;
    quarantine_task.await?;
    dead_letters.end().await;
    owning.await;
    Ok(())
}

/// Begins to own partitions. The future gives them up and ends when no request is in flight any more. For the only
/// dispatcher of a store, the caller must await it only then.
async fn own(
    dispatcher: &Dispatcher,
    known: Arc<due::KnownDeliveries>,
    watchdog: &Watchdog,
    shutdown: &Shutdown,
) -> anyhow::Result<(OwnedPartitions, BoxFuture<'static, ()>)> {
    let store = dispatcher.store.clone();
    match &dispatcher.ownership {
        Ownership::Sole => {
            let (owned, sole) = take_all(Arc::new(store)).await?;
            let releasing = async move {
                if let Err(why) = sole.release_all().await {
                    tracing::warn!(error = %why, "could not release partitions: the next start counts a death");
                }
            };
            Ok((owned, releasing.boxed()))
        }
        Ownership::Shared(beats) => {
            let (owned, keeper) = keep(KeeperParts {
                registry: Arc::new(beats.clone()),
                in_flight: known,
                able: Box::new(move || store.can_be_written()),
                watchdog: watchdog.clone(),
                shutdown: shutdown.clone(),
            });
            let keeper = tokio::spawn(panics::fatal("ownership", keeper));
            // A panic in the task is logged where it happens.
            Ok((owned, keeper.map(drop).boxed()))
        }
    }
}
