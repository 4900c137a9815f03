//! The waiting list of due rows, and the right to handle one of them.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Instant;

use hookline_core::delivery::AttemptTask;
use hookline_core::ids::{DeliveryId, SubscriptionId};
use hookline_core::partition::Partition;
use hookline_core::timestamp::Timestamp;
use hookline_queue::{Scheduled, WakeUpTimer, WakeUps as _};
use hookline_store::{BacklogClass, BacklogRow, DueAttempt};
use parking_lot::MutexGuard;
use tokio::sync::{Notify, mpsc};

use super::group_cache::GroupCache;
use super::known::{BacklogNews, KnownDeliveries, KnownDelivery, KnownState};
use super::waiting::WaitingRow;
use crate::ownership::OwnedPartitions;
use crate::scheduler::Message;

/// A part of a quarantine group, which is open until its last part is dropped.
pub(crate) type QuarantineGuard = mpsc::Sender<Infallible>;

/// The due rows of one dispatcher. Cheap to clone.
#[derive(Clone)]
pub(crate) struct DueRows {
    pub(super) shared: Arc<DueRowsInner>,
}

pub(super) struct DueRowsInner {
    pub(super) known: Arc<KnownDeliveries>,
    pub(super) owned: OwnedPartitions,
    /// Deliveries of these partitions with a later due time, as this dispatcher itself has decided.
    timer: WakeUpTimer,
    /// Signals that rows wait.
    arrived: Notify,
    /// Signals that fewer rows wait.
    pub(super) taken: Notify,
    /// Signals news of backlogs.
    backlog_news: Notify,
}

/// A due delivery that this dispatcher handles.
pub(crate) struct InHand {
    pub(crate) task: AttemptTask,
    pub(crate) is_suspect: bool,
    pub(crate) backlog: Option<BacklogClass>,
    partition: Partition,
    epoch: i64,
    /// Keeps the quarantine of its group open while the delivery is in hand.
    quarantine: Option<QuarantineGuard>,
    rows: DueRows,
}

impl DueRows {
    pub(crate) fn new(known: Arc<KnownDeliveries>, owned: OwnedPartitions) -> Self {
        Self {
            shared: Arc::new(DueRowsInner {
                known,
                owned,
                timer: WakeUpTimer::default(),
                arrived: Notify::new(),
                taken: Notify::new(),
                backlog_news: Notify::new(),
            }),
        }
    }

    pub(super) fn owned(&self) -> OwnedPartitions {
        self.shared.owned.clone()
    }

    /// The groups of subscriptions, which the worker learns.
    pub(crate) fn group_cache(&self) -> GroupCache {
        self.state().waiting.group_cache.clone()
    }

    /// Waits for the next wake-ups that [`DueRows::schedule`] has scheduled. Cancel safe.
    pub(super) async fn next_reminder(&self) -> Vec<AttemptTask> {
        self.shared.timer.next().await
    }

    /// Schedules wake-ups of this dispatcher itself: it owns the partitions of these deliveries.
    pub(crate) fn schedule(&self, due: &[Scheduled]) {
        self.shared.timer.add(due);
    }

    /// Adds the deliveries that wake-ups have named, as far as they are in partitions of this dispatcher.
    pub(super) fn wake(&self, due: Vec<AttemptTask>) {
        let mut state = self.state();
        for task in due {
            let Some(partition) = self.shared.owned.partition_of(task.subscription) else {
                continue;
            };
            let epoch = self
                .shared
                .owned
                .get_owned(partition)
                .map(|held| held.epoch);
            // Until the first look at a partition has ended, that look alone adds its rows.
            if epoch.is_none() || state.looked_up.get(&partition).copied() != epoch {
                continue;
            }
            state.add(WaitingRow {
                task,
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

    pub(super) fn take_now(&self, max: usize) -> Vec<InHand> {
        let now = hookline_clock::now();
        let mut state = self.state();
        let mut taken = Vec::new();
        while taken.len() < max
            && let Some(found) = state.waiting.pop()
        {
            match self.shared.owned.get_owned(found.partition) {
                Some(held) if !held.blocks(found.task.subscription, now) => {
                    taken.push(self.in_hand(found, held.epoch));
                }
                _ => drop(state.remove(found.task.delivery)),
            }
        }
        taken
    }

    /// The partition of a subscription if its backlog may be read now. This dispatcher must own the partition. No
    /// request of an earlier owner may be in flight to the subscription.
    pub(crate) fn readable_partition(&self, subscription: SubscriptionId) -> Option<Partition> {
        let held = self.shared.owned.held_for(subscription)?;
        (!held.blocks(subscription, hookline_clock::now())).then_some(held.partition)
    }

    /// The number of deliveries that were taken and not released.
    pub(crate) fn count_in_hand(&self) -> usize {
        let state = self.state();
        state.entries.len().saturating_sub(state.waiting.len())
    }

    /// Whether this dispatcher owns the partition of a subscription.
    pub(crate) fn owns(&self, subscription: SubscriptionId) -> bool {
        self.shared.owned.held_for(subscription).is_some()
    }

    /// Whether this dispatcher owns a partition and has nothing of the subscription in hand.
    pub(super) fn may_refile(&self, partition: Partition, subscription: SubscriptionId) -> bool {
        let owns = self.shared.owned.get_owned(partition).is_some();
        let state = self.state();
        let is_of = |known: &KnownDelivery| known.task.subscription == subscription;
        owns && !state.entries.values().any(is_of)
    }

    /// Takes the rows of a backlog that are not known yet.
    pub(crate) fn take_read(&self, rows: &[BacklogRow]) -> Vec<InHand> {
        let mut state = self.state();
        let mut taken = Vec::new();
        for row in rows {
            let Some(held) = self.shared.owned.held_for(row.task.subscription) else {
                continue;
            };
            let found = WaitingRow {
                task: row.task,
                partition: held.partition,
                is_suspect: held.is_suspect(row.due),
                backlog: Some(row.class),
            };
            if state.insert(found) {
                taken.push(self.in_hand(found, held.epoch));
            }
        }
        taken
    }

    /// Waits for news of backlogs. Cancel safe.
    pub(crate) async fn backlog_news_arrived(&self) {
        self.shared.backlog_news.notified().await;
    }

    pub(super) fn add_backlog_news(&self, backlog_news: BacklogNews) {
        let mut state = self.state();
        state.backlog_news.taken.extend(backlog_news.taken);
        state.backlog_news.backlog.extend(backlog_news.backlog);
        drop(state);
        self.shared.backlog_news.notify_one();
    }

    /// News of backlogs since the last call. The list of a partition comes before the rows of that partition.
    pub(crate) fn take_backlog_news(&self) -> BacklogNews {
        std::mem::take(&mut self.state().backlog_news)
    }

    fn in_hand(&self, found: WaitingRow, epoch: i64) -> InHand {
        InHand {
            task: found.task,
            is_suspect: found.is_suspect,
            backlog: found.backlog,
            partition: found.partition,
            epoch,
            quarantine: None,
            rows: self.clone(),
        }
    }

    /// Adds the rows that a look has found, except those that were handled meanwhile.
    pub(super) fn add_looked_up(&self, rows: &[DueAttempt]) {
        let mut state = self.state();
        let released = state.released.take().unwrap_or_default();
        for row in rows {
            if released.contains(&row.task.delivery) {
                continue;
            }
            let owned = self.shared.owned.get_owned(row.partition);
            state.add(WaitingRow {
                task: row.task,
                partition: row.partition,
                is_suspect: owned.is_some_and(|owned| owned.is_suspect(row.due)),
                backlog: None,
            });
        }
        drop(state);
        self.shared.arrived.notify_one();
    }

    fn release(&self, delivery: DeliveryId) {
        let mut state = self.state();
        if let Some(released) = &mut state.released {
            released.insert(delivery);
        }
        let next = state.remove(delivery);
        if let Some(next) = next {
            state.add(next);
            drop(state);
            self.shared.arrived.notify_one();
        }
    }

    pub(super) fn state(&self) -> MutexGuard<'_, KnownState> {
        self.shared.known.lock()
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
        let held = self.rows.shared.owned.get_owned(self.partition);
        held.is_some_and(|held| held.epoch == self.epoch)
    }

    /// Notes a request that begins and ends at `until` at the latest.
    pub(crate) fn begin_request(&self, until: Timestamp) {
        if let Some(known) = self.rows.state().entries.get_mut(&self.task.delivery) {
            known.request_until = Some(until);
        }
    }

    /// Adds the delivery to a quarantine group, until it is let go.
    pub(crate) fn join_quarantine(mut self, guard: QuarantineGuard) -> Self {
        self.quarantine = Some(guard);
        self
    }

    /// Removes the delivery from its quarantine group: the process has survived it.
    pub(crate) fn leave_quarantine(&mut self) {
        self.quarantine = None;
    }

    /// Puts the delivery back on the waiting list, not as a suspect.
    pub(crate) fn wait_again(self) {
        if let Some(known) = self.rows.state().entries.get_mut(&self.task.delivery) {
            known.next = Some(WaitingRow {
                task: self.task,
                partition: self.partition,
                is_suspect: false,
                backlog: self.backlog,
            });
        }
    }
}

impl Drop for InHand {
    fn drop(&mut self) {
        self.rows.release(self.task.delivery);
    }
}

impl Message for InHand {
    fn attempt(&self) -> u32 {
        self.task.attempt
    }

    fn backlog(&self) -> Option<BacklogClass> {
        self.backlog
    }
}

#[cfg(test)]
mod tests;
