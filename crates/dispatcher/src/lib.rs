//! From owed deliveries to signed requests.
//!
//! Messages wait their turn in a lane for each subscription (`lanes`), so that a receiver that
//! hangs holds up its own deliveries only.
//!
//! A message says which attempt is owed; the store says what that means now. Each attempt is one
//! request ([`attempt`]); what came of it is recorded in batches, the next message is handed on
//! and only then is this one acked (`recorder`). We record before we ack, so a crash repeats an
//! attempt and never loses one.
//!
//! A message that comes again may have been recorded before its taker died: then the step after
//! the record may be missing, and what the store says is owed is handed on once more.

pub mod attempt;
mod busy;
mod caller;
mod client;
pub mod dead_letters;
mod decision;
mod gauges;
mod held;
pub mod lanes;
mod loads;
pub mod maintenance;
mod names;
mod operations;
mod origins;
#[cfg_attr(
    not(test),
    expect(
        dead_code,
        unused_imports,
        reason = "the source of due rows comes next"
    )
)]
mod ownership;
mod persist;
mod poison;
pub mod reconciler;
mod recorder;
pub mod replayer;
mod resolver;
mod trials;
mod whereabouts;
mod worker;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use hookline_broker::contract::{Publisher, Source};
use hookline_core::delivery::OwedAttempt;
use hookline_core::rate::Rate;
use hookline_core::retry::RetrySchedule;
use hookline_core::target::TargetRules;
use hookline_runtime::settings::Settings;
use hookline_runtime::shutdown::Shutdown;
use hookline_store::Store;

use crate::busy::Busy;
use crate::lanes::Limits;
use crate::poison::PuttingAside;

/// When a periodic task calls a peer again that failed. Readiness forgets a failure that is not repeated
/// (`hookline_store`), and a periodic task may be all that an idle process does.
pub(crate) const TRY_AGAIN_AFTER: Duration = Duration::from_secs(1);

/// What a dispatcher works with.
#[derive(Clone)]
pub struct Dispatcher {
    /// Where deliveries are kept.
    pub store: Store,
    /// Where owed attempts come from.
    pub attempts: Arc<dyn Source<OwedAttempt>>,
    /// Where the next ones go.
    pub publisher: Arc<dyn Publisher>,
    /// How it goes about it.
    pub policy: Arc<Policy>,
    /// Held during a trial. Ingest and dispatcher share it in one process: a message is charged when the process
    /// ends during its trial, also where the message of the other trial has ended the process.
    pub trial: Arc<tokio::sync::Mutex<()>>,
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
    /// How many messages may wait for a slot here, sorted by receiver.
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
            // Everything in our hands is either waiting or in flight.
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
        }
    }
}

/// Dispatches until it is asked to stop. What has not begun then goes back at once, what is in
/// flight is finished and recorded, or given up and handed back when it is late.
///
/// # Errors
/// When no HTTP client can be made, say because a file of certificates cannot be read.
pub async fn run(dispatcher: Dispatcher, shutdown: Shutdown) -> anyhow::Result<()> {
    let requester = attempt::Requester::new(&dispatcher.policy)?;
    let operations = operations::start(dispatcher.clone(), shutdown.late.clone());
    let aside = PuttingAside::new(dispatcher.clone(), shutdown.asked.clone());
    let (busy, waited) = Busy::new();
    let recorder = recorder::start(
        dispatcher.clone(),
        aside.clone(),
        operations,
        shutdown.late.clone(),
    );
    let (recorder, recording) = recorder;
    let (trials, trying) = trials::start(
        dispatcher.clone(),
        aside.clone(),
        busy.clone(),
        shutdown.asked.clone(),
    );
    let (worker, overs) = worker::Worker::new(
        dispatcher,
        aside.clone(),
        requester,
        recorder,
        shutdown.clone(),
    );
    // A task of its own: whoever waits for the whole service is another thread, which had to be woken
    // for every message.
    tokio::spawn(worker.run(overs, trials, (busy, waited), shutdown.asked)).await?;
    // The worker's end has closed the recorder's entrance: it ends when it has recorded the rest.
    recording.await?;
    trying.await?;
    aside.end().await;
    Ok(())
}
