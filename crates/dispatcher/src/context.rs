//! The components and the rules of a dispatcher.

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
use tokio::time::{Interval, MissedTickBehavior};

use crate::scheduler::Limits;

/// The time until a periodic task calls a failed peer again. Readiness forgets a failure that is not repeated
/// (`hookline_store`). A periodic task may be all that an idle process does.
pub(crate) const TRY_AGAIN_AFTER: Duration = Duration::from_secs(1);

/// Ticks at once, and then each period. A late tick moves the next ones.
pub(crate) fn ticks_every(period: Duration) -> Interval {
    let mut ticks = tokio::time::interval(period);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks
}

/// The components of a dispatcher.
#[derive(Clone)]
pub struct Dispatcher {
    pub store: Store,
    pub ownership: Ownership,
    /// Wake-ups for the partitions that this dispatcher owns.
    pub wake_ups: Arc<dyn WakeUps>,
    /// Wakes the owners of the next attempts, and publishes operational events.
    pub publisher: Arc<dyn Publisher>,
    pub policy: Arc<Policy>,
    /// Held while a quarantine group is open. In one process, ingest and dispatcher share it. A message is charged when
    /// the process ends while its group is open. This includes a crash by a message of another group.
    pub quarantine: Arc<tokio::sync::Mutex<()>>,
}

/// How the partitions of a store are owned.
#[derive(Clone)]
pub enum Ownership {
    /// Dispatchers share them. This store has a connection of its own, so that no slow query delays the beats.
    Shared(Store),
    /// This process is the only dispatcher.
    Sole,
}

/// The rules and limits of a dispatcher.
#[derive(Debug, Clone)]
pub struct Policy {
    /// The waits after failed attempts.
    pub schedule: RetrySchedule,
    /// The allowed targets of requests.
    pub rules: TargetRules,
    /// The name servers to query; empty: those of the system.
    pub name_servers: Vec<SocketAddr>,
    /// A file of certificates that are trusted besides the system's.
    pub extra_ca_file: Option<PathBuf>,
    /// The rate limit per origin.
    pub origin_rate: Option<Rate>,
    /// The longest time of a request, from the connection to the last byte that counts.
    pub deadline: Duration,
    /// The most requests in flight.
    pub slots: usize,
    /// The most due deliveries that wait for a slot in memory, in subscription queues.
    pub may_wait: usize,
    /// The crash count at which a message is dead-lettered.
    pub give_up_after: u32,
    /// The consecutive failed attempts that open a circuit breaker.
    pub breaker_failures: u32,
    /// The bytes of bodies that are cached for the next subscription of the same event.
    pub body_cache_bytes: u64,
    /// The time without a successful attempt after which a subscription is switched off; none: never.
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
