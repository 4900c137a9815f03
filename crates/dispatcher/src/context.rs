//! The parts and the rules that a dispatcher works with.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use hookline_core::rate_limit::Rate;
use hookline_core::retry::RetrySchedule;
use hookline_core::target::TargetRules;
use hookline_queue::{Publisher, WakeUps};
use hookline_runtime::settings::Settings;
use hookline_store::Store;

use crate::scheduler::Limits;

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
