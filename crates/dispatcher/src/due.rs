//! Deliveries that are due in the partitions of this dispatcher, and those that it has in hand.
//!
//! A pending row with `due` is owed, and nothing else says so. A wake-up names a row as soon as it is due. A look
//! ([`looking`]), a query each second, finds the rows that no wake-up has named. Both only fill the waiting list from
//! which the worker takes. A lost hint therefore costs a second. A repeated hint is dropped here: a delivery waits or
//! is in hand once. [`InHand`] is the right to handle one delivery. After its drop a look finds the row again, unless a
//! record has moved the row on. No message is acknowledged, returned or published again.

mod listing;
mod looking;
mod waiting;

use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use hookline_core::delivery::AttemptTask;
use hookline_core::ids::{DeliveryId, SubscriptionId};
use hookline_core::partition::Partition;
use hookline_core::quarantine::SUSPECT_AFTER;
use hookline_core::timestamp::Timestamp;
use hookline_queue::WakeUpTimer;
use hookline_queue::{Scheduled, WakeUps};
use hookline_runtime::panics;
use hookline_store::{BacklogClass, BacklogRow, DueAttempt};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::ownership::{InFlight, Owned, Progress};
use crate::pipeline::quarantine::QuarantineGuard;
use crate::scheduler::Message;

use looking::keep_looking;
use waiting::Waiting;

use crate::context::Dispatcher;

/// The most deliveries that wait, about 5 MiB. A wake-up beyond is dropped: a look finds its row.
const MOST_WAITING: usize = 32_768;

/// A look adds no more rows than fit below this number. The worker then takes them before they are out of date.
const MOST_LOOKED_UP: usize = 2_048;

/// The due rows of one dispatcher. Cheap to clone.
#[derive(Clone)]
pub(crate) struct DueRows {
    shared: Arc<Shared>,
}

struct Shared {
    known: Arc<Known>,
    owned: Owned,
    /// Deliveries of these partitions with a later due time, as this dispatcher itself has decided.
    timer: WakeUpTimer,
    /// Signals that rows wait.
    arrived: Notify,
    /// Signals that fewer rows wait.
    taken: Notify,
    /// Signals news of backlogs.
    listed: Notify,
}

/// The deliveries that wait and those in hand.
#[derive(Default)]
pub(crate) struct Known(Mutex<State>);

#[derive(Default)]
struct State {
    /// The deliveries that wait and those in hand.
    entries: HashMap<DeliveryId, Delivery>,
    waiting: Waiting,
    /// The number of known deliveries of each partition.
    of_partition: HashMap<Partition, usize>,
    /// Partitions that a look has read since they were taken, with the epoch at that time.
    read: HashMap<Partition, i64>,
    /// Deliveries that were let go since the present look was sent; none without a look in flight.
    let_go: Option<HashSet<DeliveryId>>,
    /// News of backlogs for the worker.
    listed: BacklogNews,
}

/// News of backlogs, for subscription queues.
#[derive(Default)]
pub(crate) struct BacklogNews {
    /// Subscriptions of partitions that were just taken, with backlog or with a circuit breaker that is not closed. The
    /// duration is the wait of that circuit breaker.
    pub(crate) taken: Vec<(SubscriptionId, Option<Duration>)>,
    /// Subscriptions with backlog.
    pub(crate) backlog: Vec<(SubscriptionId, BacklogClass)>,
}

#[derive(Debug, Clone, Copy)]
struct Delivery {
    partition: Partition,
    owed: AttemptTask,
    /// A later attempt that a wake-up named while the delivery was in hand. It is the delivery itself where it comes
    /// again.
    next: Option<Found>,
    /// The latest end of its request; none where no request has begun.
    request_until: Option<Timestamp>,
}

/// A due delivery on the waiting list.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Found {
    owed: AttemptTask,
    partition: Partition,
    /// The delivery may have ended the process of an earlier owner.
    is_suspect: bool,
    /// The class of the backlog from which the row was read; none for another row.
    backlog: Option<BacklogClass>,
}

/// A due delivery that this dispatcher handles.
pub(crate) struct InHand {
    pub(crate) owed: AttemptTask,
    pub(crate) is_suspect: bool,
    pub(crate) backlog: Option<BacklogClass>,
    partition: Partition,
    epoch: i64,
    /// Keeps the quarantine of its group open while the delivery is in hand.
    trial: Option<QuarantineGuard>,
    rows: DueRows,
}

/// Starts the looks for due rows and the consumer of wake-ups, until `shutdown`.
pub(crate) fn start(
    due: &DueRows,
    dispatcher: &Dispatcher,
    progress: &Progress,
    shutdown: &CancellationToken,
) {
    let listening = keep_listening(due.clone(), dispatcher.wake_ups.clone(), shutdown.clone());
    tokio::spawn(panics::fatal("wake-ups", listening));
    let store = dispatcher.store.clone();
    let looking = keep_looking(due.clone(), store, progress.clone(), shutdown.clone());
    tokio::spawn(panics::fatal("looking for due deliveries", looking));
}

async fn keep_listening(due: DueRows, wake_ups: Arc<dyn WakeUps>, shutdown: CancellationToken) {
    let mut owned = due.shared.owned.clone();
    loop {
        let woken = tokio::select! {
            () = shutdown.cancelled() => return,
            woken = wake_ups.next() => woken,
            woken = due.shared.timer.next() => woken,
            () = owned.changed() => {
                let partitions = owned.list();
                wake_ups.listen(partitions.iter().map(|held| held.partition).collect());
                continue;
            }
        };
        due.wake(woken);
    }
}

impl DueRows {
    pub(crate) fn new(known: Arc<Known>, owned: Owned) -> Self {
        Self {
            shared: Arc::new(Shared {
                known,
                owned,
                timer: WakeUpTimer::default(),
                arrived: Notify::new(),
                taken: Notify::new(),
                listed: Notify::new(),
            }),
        }
    }

    /// Schedules wake-ups of this dispatcher itself: it owns the partitions of these deliveries.
    pub(crate) fn remind(&self, due: &[Scheduled]) {
        self.shared.timer.add(due);
    }

    /// Adds the deliveries that wake-ups have named, as far as they are in partitions of this dispatcher.
    fn wake(&self, due: Vec<AttemptTask>) {
        let mut state = self.state();
        for owed in due {
            let Some(partition) = self.shared.owned.partition_of(owed.subscription) else {
                continue;
            };
            let epoch = self.shared.owned.epoch_of(partition).map(|held| held.epoch);
            // Until the first look at a partition has ended, that look alone adds its rows.
            if epoch.is_none() || state.read.get(&partition).copied() != epoch {
                continue;
            }
            state.add(Found {
                owed,
                partition,
                is_suspect: false,
                backlog: None,
            });
        }
        drop(state);
        self.shared.arrived.notify_one();
    }

    /// Waits for due rows and takes at most `max`, in round robin over subscriptions. Dropping the future loses none.
    pub(crate) async fn take(&self, max: usize) -> Vec<InHand> {
        loop {
            let taken = self.take_now(max);
            if !taken.is_empty() {
                self.shared.taken.notify_one();
                return taken;
            }
            self.shared.arrived.notified().await;
        }
    }

    fn take_now(&self, max: usize) -> Vec<InHand> {
        let now = hookline_clock::now();
        let mut state = self.state();
        let mut taken = Vec::new();
        while taken.len() < max
            && let Some(found) = state.waiting.pop()
        {
            match self.shared.owned.epoch_of(found.partition) {
                Some(held) if !held.blocks(found.owed.subscription, now) => {
                    taken.push(self.in_hand(found, held.epoch));
                }
                _ => drop(state.forget(found.owed.delivery)),
            }
        }
        taken
    }

    /// The partition of a subscription if its backlog may be read now. This dispatcher must own the partition. No
    /// request of an earlier owner may be in flight to the subscription.
    pub(crate) fn readable(&self, subscription: SubscriptionId) -> Option<Partition> {
        let held = self.shared.owned.held_for(subscription)?;
        (!held.blocks(subscription, hookline_clock::now())).then_some(held.partition)
    }

    /// Whether this dispatcher owns the partition of a subscription.
    pub(crate) fn owns(&self, subscription: SubscriptionId) -> bool {
        self.shared.owned.held_for(subscription).is_some()
    }

    /// Whether this dispatcher owns a partition and has nothing of the subscription in hand.
    fn may_refile(&self, partition: Partition, subscription: SubscriptionId) -> bool {
        let owns = self.shared.owned.epoch_of(partition).is_some();
        let state = self.state();
        let is_of = |known: &Delivery| known.owed.subscription == subscription;
        owns && !state.entries.values().any(is_of)
    }

    /// Takes the rows of a backlog that are not known yet.
    pub(crate) fn take_read(&self, rows: &[BacklogRow]) -> Vec<InHand> {
        let mut state = self.state();
        let mut taken = Vec::new();
        for row in rows {
            let Some(held) = self.shared.owned.held_for(row.owed.subscription) else {
                continue;
            };
            let found = Found {
                owed: row.owed,
                partition: held.partition,
                is_suspect: is_suspicious(held.deaths) && row.due <= held.taken_at,
                backlog: Some(row.class),
            };
            if state.know(found) {
                taken.push(self.in_hand(found, held.epoch));
            }
        }
        taken
    }

    /// Waits for news of backlogs. Cancel safe.
    pub(crate) async fn listed(&self) {
        self.shared.listed.notified().await;
    }

    fn add_listed(&self, listed: BacklogNews) {
        let mut state = self.state();
        state.listed.taken.extend(listed.taken);
        state.listed.backlog.extend(listed.backlog);
        drop(state);
        self.shared.listed.notify_one();
    }

    /// News of backlogs since the last call. The list of a partition comes before the rows of that partition.
    pub(crate) fn take_listed(&self) -> BacklogNews {
        std::mem::take(&mut self.state().listed)
    }

    fn in_hand(&self, found: Found, epoch: i64) -> InHand {
        InHand {
            owed: found.owed,
            is_suspect: found.is_suspect,
            backlog: found.backlog,
            partition: found.partition,
            epoch,
            trial: None,
            rows: self.clone(),
        }
    }

    /// Adds the rows that a look has found, except those that were handled meanwhile.
    fn add_looked_up(&self, rows: &[DueAttempt], suspects: &HashMap<Partition, Timestamp>) {
        let mut state = self.state();
        let let_go = state.let_go.take().unwrap_or_default();
        for row in rows {
            if let_go.contains(&row.owed.delivery) {
                continue;
            }
            let since = suspects.get(&row.partition);
            state.add(Found {
                owed: row.owed,
                partition: row.partition,
                is_suspect: since.is_some_and(|taken_at| row.due <= *taken_at),
                backlog: None,
            });
        }
        drop(state);
        self.shared.arrived.notify_one();
    }

    fn let_go(&self, delivery: DeliveryId) {
        let mut state = self.state();
        if let Some(let_go) = &mut state.let_go {
            let_go.insert(delivery);
        }
        let next = state.forget(delivery);
        if let Some(next) = next {
            state.add(next);
            drop(state);
            self.shared.arrived.notify_one();
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.shared.known.lock()
    }
}

impl State {
    /// Puts a row on the waiting list, unless it is known.
    fn add(&mut self, found: Found) {
        match self.entries.entry(found.owed.delivery) {
            Entry::Occupied(known) => {
                let known = known.into_mut();
                if known.owed != found.owed {
                    known.next = Some(found);
                }
            }
            Entry::Vacant(_) if self.waiting.is_full_for(found.owed.subscription) => {}
            Entry::Vacant(_) => {
                self.know(found);
                self.waiting.push(found);
            }
        }
    }

    /// Notes a delivery. Returns false if it was known.
    fn know(&mut self, found: Found) -> bool {
        let Entry::Vacant(place) = self.entries.entry(found.owed.delivery) else {
            return false;
        };
        place.insert(Delivery {
            partition: found.partition,
            owed: found.owed,
            next: None,
            request_until: None,
        });
        *self.of_partition.entry(found.partition).or_default() += 1;
        true
    }

    /// Removes a delivery. Returns the later attempt that a wake-up has named meanwhile.
    fn forget(&mut self, delivery: DeliveryId) -> Option<Found> {
        let known = self.entries.remove(&delivery)?;
        if let Entry::Occupied(mut count) = self.of_partition.entry(known.partition) {
            *count.get_mut() -= 1;
            if *count.get() == 0 {
                count.remove();
            }
        }
        known.next
    }
}

impl Known {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl InFlight for Known {
    fn of(&self, partition: Partition) -> Vec<(SubscriptionId, Timestamp)> {
        let state = self.lock();
        let known = state.entries.values();
        let in_partition = known.filter(|known| known.partition == partition);
        in_partition
            .filter_map(|known| Some((known.owed.subscription, known.request_until?)))
            .collect()
    }
}

impl InHand {
    /// Whether this dispatcher still owns the partition, so that a request may begin.
    pub(crate) fn may_start(&self, now: Instant) -> bool {
        let owned = &self.rows.shared.owned;
        owned.may_start(self.partition, self.epoch, now)
    }

    /// Whether the partition still has the owner and the epoch from the time of the take.
    pub(crate) fn is_owned(&self) -> bool {
        let held = self.rows.shared.owned.epoch_of(self.partition);
        held.is_some_and(|held| held.epoch == self.epoch)
    }

    /// Notes a request that begins and ends at `until` at the latest.
    pub(crate) fn begin_request(&self, until: Timestamp) {
        if let Some(known) = self.rows.state().entries.get_mut(&self.owed.delivery) {
            known.request_until = Some(until);
        }
    }

    /// Adds the delivery to a quarantine group, until it is let go.
    pub(crate) fn on_trial(mut self, trial: QuarantineGuard) -> Self {
        self.trial = Some(trial);
        self
    }

    /// Removes the delivery from its quarantine group: the process has survived it.
    pub(crate) fn end_trial(&mut self) {
        self.trial = None;
    }

    /// Puts the delivery back on the waiting list, not as a suspect.
    pub(crate) fn come_again(self) {
        if let Some(known) = self.rows.state().entries.get_mut(&self.owed.delivery) {
            known.next = Some(Found {
                owed: self.owed,
                partition: self.partition,
                is_suspect: false,
                backlog: self.backlog,
            });
        }
    }
}

impl Drop for InHand {
    fn drop(&mut self) {
        self.rows.let_go(self.owed.delivery);
    }
}

impl Message for InHand {
    fn attempt(&self) -> u32 {
        self.owed.attempt
    }

    fn backlog(&self) -> Option<BacklogClass> {
        self.backlog
    }
}

/// Whether owners of this partition have died so often that a due row may be the reason.
fn is_suspicious(deaths: u32) -> bool {
    deaths >= SUSPECT_AFTER
}

#[cfg(test)]
mod tests;
