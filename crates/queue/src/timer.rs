//! Wake-ups within one process.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use hookline_core::delivery::OwedAttempt;
use hookline_core::partition::Partition;
use tokio::sync::Notify;

use crate::contract::{Scheduled, WakeUps};
use crate::failpoint;

/// How many wake-ups are kept, about 5 MiB. A look finds the rows of the others.
const MOST: usize = 65_536;

/// How many are given out at once.
const AT_ONCE: usize = 1_024;

/// Keeps wake-ups until they are due, and gives them to the same process.
#[derive(Debug, Default)]
pub struct Timer {
    /// In the order of their moments, then of their arrival.
    coming: Mutex<BTreeMap<(Instant, u64), OwedAttempt>>,
    added: AtomicU64,
    changed: Notify,
}

impl Timer {
    /// Keeps wake-ups until their moment; drops those that find no room.
    pub fn add(&self, due: &[Scheduled]) {
        let now = Instant::now();
        let mut coming = self.coming();
        for Scheduled { owed, delay } in due {
            if coming.len() >= MOST {
                break;
            }
            if failpoint::drops_a_wake_up() {
                continue;
            }
            let number = self.added.fetch_add(1, Ordering::Relaxed);
            coming.insert((now + *delay, number), *owed);
        }
        drop(coming);
        self.changed.notify_one();
    }

    fn take(&self, now: Instant) -> Vec<OwedAttempt> {
        let mut coming = self.coming();
        let mut due = Vec::new();
        while due.len() < AT_ONCE
            && let Some(first) = coming.first_entry()
            && first.key().0 <= now
        {
            due.push(first.remove());
        }
        due
    }

    fn next_moment(&self) -> Option<Instant> {
        self.coming().first_key_value().map(|((at, _), _)| *at)
    }

    fn coming(&self) -> MutexGuard<'_, BTreeMap<(Instant, u64), OwedAttempt>> {
        self.coming.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl WakeUps for Timer {
    /// One process owns all partitions.
    fn listen(&self, _: BTreeSet<Partition>) {}

    async fn next(&self) -> Vec<OwedAttempt> {
        loop {
            let due = self.take(Instant::now());
            if !due.is_empty() {
                return due;
            }
            let wait = self.next_moment().map_or(Duration::MAX, |at| {
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
        let owed = OwedAttempt {
            delivery: DeliveryId(Uuid::from_u128(number)),
            generation: 0,
            attempt: 1,
            subscription: SubscriptionId(1),
        };
        Scheduled { owed, delay }
    }

    #[tokio::test]
    async fn wake_ups_come_in_the_order_of_their_moments() {
        let timer = Timer::default();
        let began = Instant::now();
        let soon = Duration::from_millis(50);
        timer.add(&[wake_up(3, soon), wake_up(1, Duration::ZERO)]);
        timer.add(&[wake_up(2, Duration::ZERO)]);
        let mut come = Vec::new();
        while come.len() < 3 {
            come.extend(timer.next().await);
        }
        let order: Vec<u128> = come.iter().map(|one| one.delivery.0.as_u128()).collect();
        assert_eq!(order, [1, 2, 3]);
        assert!(began.elapsed() >= soon);
    }

    #[test]
    fn what_finds_no_room_is_dropped() {
        let timer = Timer::default();
        let all: Vec<Scheduled> = (0..=MOST as u128)
            .map(|number| wake_up(number, Duration::ZERO))
            .collect();
        timer.add(&all);
        timer.add(&all[..1]);
        assert_eq!(timer.coming().len(), MOST);
    }
}
