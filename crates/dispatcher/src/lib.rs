//! From due deliveries to signed requests.
//!
//! A dispatcher owns some partitions of the subscriptions (`ownership`) and finds the deliveries that are due in
//! them (`due`). They wait their turn in a lane for each subscription (`lanes`), so that a receiver that hangs
//! holds up its own deliveries only. When its turn comes, the row is read again and says what is owed; an attempt
//! is one request ([`attempt`]), and its outcome is recorded in batches (`recorder`). The record moves the row on,
//! so a crash repeats an attempt and never loses one.

pub mod attempt;
mod client;
pub mod dead_letters;
mod decision;
mod due;
mod gauges;
pub mod lanes;
mod loads;
pub mod maintenance;
mod names;
mod operations;
mod ownership;
mod persist;
mod poison;
mod recorder;
mod refiling;
pub mod replayer;
mod resolver;
mod trials;
mod whereabouts;
mod worker;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::FutureExt as _;
use futures::future::BoxFuture;
use hookline_core::rate_limit::Rate;
use hookline_core::retry::RetrySchedule;
use hookline_core::target::TargetRules;
use hookline_queue::{Publisher, WakeUps};
use hookline_runtime::panics;
use hookline_runtime::settings::Settings;
use hookline_runtime::shutdown::Shutdown;
use hookline_store::Store;

use crate::due::DueRows;
use crate::lanes::Limits;
use crate::ownership::{Keeping, Owned, Progress, keep, take_all};
use crate::poison::PuttingAside;

/// When a periodic task calls a peer again that failed. Readiness forgets a failure that is not repeated
/// (`hookline_store`), and a periodic task may be all that an idle process does.
pub(crate) const TRY_AGAIN_AFTER: Duration = Duration::from_secs(1);

/// What a dispatcher works with.
#[derive(Clone)]
pub struct Dispatcher {
    /// Where deliveries are kept.
    pub store: Store,
    /// How the partitions of the store are owned.
    pub ownership: Ownership,
    /// Wake-ups for the partitions that this dispatcher owns.
    pub wake_ups: Arc<dyn WakeUps>,
    /// Wakes the owners of the next attempts, and tells operators.
    pub publisher: Arc<dyn Publisher>,
    /// How it goes about it.
    pub policy: Arc<Policy>,
    /// Held during a trial. Ingest and dispatcher share it in one process: a message is charged when the process
    /// ends during its trial, also where the message of the other trial has ended the process.
    pub trial: Arc<tokio::sync::Mutex<()>>,
}

/// How the partitions of a store are owned.
#[derive(Clone)]
pub enum Ownership {
    /// Dispatchers share them. This store has a connection of its own, so that no slow query holds up the signs of
    /// life.
    Shared(Store),
    /// This process is the only dispatcher.
    Sole,
}

/// How a dispatcher goes about it.
#[derive(Debug, Clone)]
pub struct Policy {
    /// When failed deliveries are tried again.
    pub schedule: RetrySchedule,
    /// Where requests may go.
    pub rules: TargetRules,
    /// Who is asked for the addresses of names; nobody stands for the system's name servers.
    pub name_servers: Vec<SocketAddr>,
    /// A file of certificates that are trusted besides the system's.
    pub extra_ca_file: Option<PathBuf>,
    /// How often one origin is called at most.
    pub origin_rate: Option<Rate>,
    /// How long a request may take, from the connection to the last byte that counts.
    pub deadline: Duration,
    /// How many requests are made at once.
    pub slots: usize,
    /// How many due deliveries may wait for a slot here, sorted by receiver.
    pub may_wait: usize,
    /// How often a message may be charged with the end of a process before it is given up.
    pub give_up_after: u32,
    /// How many attempts in a row fail before a receiver is left alone for a while.
    pub breaker_failures: u32,
    /// How many bytes of bodies are kept for the next subscription of the same event.
    pub body_cache_bytes: u64,
    /// How long a receiver may take nothing before its subscription is switched off; none: for
    /// ever.
    pub failing_after: Option<Duration>,
}

impl From<&Settings> for Policy {
    fn from(settings: &Settings) -> Self {
        let dispatcher = &settings.dispatcher;
        Self {
            schedule: settings.retry.schedule.clone(),
            rules: settings.targets.rules(),
            name_servers: settings.targets.name_servers.clone(),
            extra_ca_file: settings.targets.extra_ca_file.clone(),
            origin_rate: settings.targets.origin_rate(),
            deadline: dispatcher.deadline,
            slots: dispatcher.slots,
            may_wait: usize::from(dispatcher.prefetch)
                .saturating_sub(dispatcher.slots)
                .max(1),
            give_up_after: settings.poison.give_up_after,
            breaker_failures: dispatcher.breaker_failures,
            body_cache_bytes: dispatcher.body_cache_mib * 1024 * 1024,
            failing_after: Some(dispatcher.failing_after).filter(|after| !after.is_zero()),
        }
    }
}

impl From<&Policy> for Limits {
    fn from(policy: &Policy) -> Self {
        Self {
            slots: policy.slots,
            room: policy.may_wait,
            breaker_failures: policy.breaker_failures,
            origin_rate: policy.origin_rate,
        }
    }
}

/// Dispatches until it is asked to stop. Then it begins nothing more and gives its partitions up at once; requests in
/// flight are finished and recorded, or given up when it is late.
///
/// # Errors
/// When no HTTP client can be made, say because a file of certificates cannot be read, or when the only dispatcher
/// of a store cannot take its partitions.
pub async fn run(dispatcher: Dispatcher, shutdown: Shutdown) -> anyhow::Result<()> {
    let requester = attempt::Requester::new(&dispatcher.policy)?;
    let operations = operations::start(dispatcher.clone(), shutdown.deadline.clone());
    let aside = PuttingAside::new(dispatcher.clone(), shutdown.draining.clone());
    let progress = Progress::new(Instant::now());
    let in_hand = Arc::default();
    let (owned, owning) = own(&dispatcher, Arc::clone(&in_hand), &progress, &shutdown).await?;
    let refiling = refiling::keep_refiling(
        owned.clone(),
        dispatcher.store.clone(),
        shutdown.draining.clone(),
    );
    tokio::spawn(panics::fatal("deliveries in no partition", refiling));
    let due = DueRows::new(in_hand, owned);
    due::start(&due, &dispatcher, &progress, &shutdown.draining);
    let (recorder, recording) = recorder::start(
        dispatcher.clone(),
        due.clone(),
        aside.clone(),
        operations,
        progress.clone(),
        shutdown.deadline.clone(),
    );
    let (trials, trying) =
        trials::start(dispatcher.clone(), aside.clone(), shutdown.draining.clone());
    let (worker, overs) = worker::Worker::new(
        dispatcher,
        due,
        aside.clone(),
        requester,
        recorder,
        shutdown.clone(),
    );
    // A task of its own: the thread that waits for the whole service would have to be woken for every delivery.
    tokio::spawn(worker.run(overs, trials, progress, shutdown.draining)).await?;
    // The worker's end has closed the recorder's entrance: it ends when it has recorded the rest.
    recording.await?;
    trying.await?;
    aside.end().await;
    owning.await;
    Ok(())
}

/// Begins to own partitions. The future gives them up and ends when nothing is in flight any more; for the only
/// dispatcher it is to be awaited then.
async fn own(
    dispatcher: &Dispatcher,
    in_hand: Arc<due::Known>,
    progress: &Progress,
    shutdown: &Shutdown,
) -> anyhow::Result<(Owned, BoxFuture<'static, ()>)> {
    let store = dispatcher.store.clone();
    match &dispatcher.ownership {
        Ownership::Sole => {
            let (owned, sole) = take_all(Arc::new(store)).await?;
            let releasing = async move {
                if let Err(why) = sole.release_all().await {
                    tracing::warn!(error = %why, "could not give the partitions back: the next start counts a death");
                }
            };
            Ok((owned, releasing.boxed()))
        }
        Ownership::Shared(beats) => {
            let (owned, keeping) = keep(Keeping {
                registry: Arc::new(beats.clone()),
                in_flight: in_hand,
                able: Box::new(move || store.can_be_written()),
                turns: progress.clone(),
                shutdown: shutdown.clone(),
            });
            let keeping = tokio::spawn(panics::fatal("ownership", keeping));
            // A panic in it is logged where it happens.
            Ok((owned, keeping.map(drop).boxed()))
        }
    }
}
