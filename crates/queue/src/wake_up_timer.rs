//! Wake-ups within one process.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use hookline_core::delivery::AttemptTask;
use hookline_core::partition::Partition;
use tokio::sync::Notify;

use crate::{Scheduled, WakeUps, failpoint};

/// Wake-ups, about 5 MiB. A look finds the rows of the others.
const CAPACITY: usize = 65_536;

/// Wake-ups that one call returns.
const MAX_BATCH: usize = 1_024;

/// Keeps wake-ups until they are due, and returns them to the same process.
#[derive(Debug, Default)]
pub struct WakeUpTimer {
    /// By due time, then by arrival.
    scheduled: Mutex<BTreeMap<(Instant, u64), AttemptTask>>,
    added: AtomicU64,
    changed: Notify,
}

impl WakeUpTimer {
    /// Drops the wake-ups that find no room.
    pub fn add(&self, due: &[Scheduled]) {
        let now = Instant::now();
        let mut scheduled = self.scheduled();
        for Scheduled { task, delay } in due {
            if scheduled.len() >= CAPACITY {
                break;
            }
            if failpoint::drops_a_wake_up() {
                continue;
            }
            let number = self.added.fetch_add(1, Ordering::Relaxed);
            scheduled.insert((now + *delay, number), *task);
        }
        drop(scheduled);
        self.changed.notify_one();
    }

    fn take(&self, now: Instant) -> Vec<AttemptTask> {
        let mut scheduled = self.scheduled();
        let mut due = Vec::new();
        while due.len() < MAX_BATCH
            && let Some(first) = scheduled.first_entry()
            && first.key().0 <= now
        {
            due.push(first.remove());
        }
        due
    }

    fn next_due(&self) -> Option<Instant> {
        self.scheduled().first_key_value().map(|((at, _), _)| *at)
    }

    fn scheduled(&self) -> MutexGuard<'_, BTreeMap<(Instant, u64), AttemptTask>> {
        self.scheduled
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl WakeUps for WakeUpTimer {
    /// One process owns all partitions.
    fn listen(&self, _: BTreeSet<Partition>) {}

    async fn next(&self) -> Vec<AttemptTask> {
        loop {
            let due = self.take(Instant::now());
            if !due.is_empty() {
                return due;
            }
            let wait = self.next_due().map_or(Duration::MAX, |at| {
                at.saturating_duration_since(Instant::now())
            });
            tokio::select! {
                () = self.changed.notified() => {}
                () = tokio::time::sleep(wait) => {}
            }
        }
    }

    fn is_ready(&self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use hookline_core::ids::{DeliveryId, SubscriptionId};
    use uuid::Uuid;

    use super::*;

    fn wake_up(number: u128, delay: Duration) -> Scheduled {
        let task = AttemptTask {
            delivery: DeliveryId(Uuid::from_u128(number)),
            generation: 0,
            attempt: 1,
            subscription: SubscriptionId(1),
        };
        Scheduled { task, delay }
    }

    #[tokio::test]
    async fn wake_ups_are_returned_in_the_order_of_their_due_times() {
        let timer = WakeUpTimer::default();
        let began = Instant::now();
        let short_delay = Duration::from_millis(50);
        timer.add(&[wake_up(3, short_delay), wake_up(1, Duration::ZERO)]);
        timer.add(&[wake_up(2, Duration::ZERO)]);
        let mut received = Vec::new();
        while received.len() < 3 {
            received.extend(timer.next().await);
        }
        let order: Vec<u128> = received
            .iter()
            .map(|one| one.delivery.0.as_u128())
            .collect();
        assert_eq!(order, [1, 2, 3]);
        assert!(began.elapsed() >= short_delay);
    }

    #[test]
    fn wake_ups_above_the_capacity_are_dropped() {
        let timer = WakeUpTimer::default();
        let all: Vec<Scheduled> = (0..=CAPACITY as u128)
            .map(|number| wake_up(number, Duration::ZERO))
            .collect();
        timer.add(&all);
        timer.add(&all[..1]);
        assert_eq!(timer.scheduled().len(), CAPACITY);
    }
}
