//! Hands first attempts on: in chunks, each with a confirmation of its own, and a large fan-out no faster
//! than dispatchers take it.
//!
//! A chunk that is confirmed is not published again. The deliveries queue is FIFO, so a large fan-out that
//! is handed on at once holds up each organization behind it. Its chunks therefore pass one at a time, in
//! turn with those of other large fan-outs, and only while little waits in the queue. What is small passes
//! at once.

use std::sync::Arc;
use std::time::Duration;

use hookline_broker::contract::{Publisher, Scheduled};
use hookline_core::delivery::OwedAttempt;
use hookline_runtime::patience::{Ended, keep_on};
use tokio::sync::{Mutex, MutexGuard};
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use crate::backlog::{DELIVERIES, Size};

/// How many attempts of a large fan-out are published and confirmed at a time. It bounds what an
/// attempt of another organization finds in front of it: at most [`ROOM`] and one chunk.
const CHUNK: usize = 64;

/// A chunk passes while no more attempts than this wait. Dispatchers have their prefetch in hand besides,
/// so they do not run dry.
const ROOM: u64 = 32;

/// How often the queue is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// Where the queue has not become shorter for so long, a chunk passes all the same: dispatchers are hung
/// or away, and there is no pace to keep.
const STALLED: Duration = Duration::from_secs(1);

pub(crate) struct Pace {
    publisher: Arc<dyn Publisher>,
    /// First come, first served.
    turn: Mutex<()>,
}

impl Pace {
    pub(crate) fn new(publisher: Arc<dyn Publisher>) -> Self {
        Self {
            publisher,
            turn: Mutex::default(),
        }
    }

    /// Returns once all are durable, or the process stops.
    pub(crate) async fn hand_on(
        &self,
        owed: Vec<OwedAttempt>,
        size: Size,
        late: &CancellationToken,
    ) -> Handed {
        let attempts: Vec<Scheduled> = owed.into_iter().map(Scheduled::at_once).collect();
        let together = match size {
            Size::Small => DELIVERIES,
            Size::Broad => CHUNK,
        };
        for chunk in attempts.chunks(together) {
            let _turn = match size {
                Size::Small => None,
                Size::Broad => Some(self.turn(late).await),
            };
            let published = keep_on(
                late,
                "hand attempts on",
                |_| true,
                || self.publisher.publish_first(chunk),
            );
            if !matches!(published.await, Ended::Done(())) {
                return Handed::InPart;
            }
        }
        Handed::All
    }

    /// Waits for a chunk's turn, and until there is room for it.
    async fn turn(&self, late: &CancellationToken) -> MutexGuard<'_, ()> {
        let turn = self.turn.lock().await;
        let (mut fewest, mut since) = (u64::MAX, Instant::now());
        while !late.is_cancelled() {
            // Where the queue cannot be seen, publishing waits for it.
            let Ok(ahead) = self.publisher.ahead().await else {
                break;
            };
            if ahead.attempts <= ROOM || !ahead.is_consumed {
                break;
            }
            if ahead.attempts < fewest {
                (fewest, since) = (ahead.attempts, Instant::now());
            } else if since.elapsed() >= STALLED {
                break;
            }
            sleep(LOOK_EVERY).await;
        }
        turn
    }
}

/// How much was handed on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Handed {
    All,
    InPart,
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

    use async_trait::async_trait;
    use hookline_broker::contract::{Ahead, DeadWaiting, PublishedEvents, QueueError};
    use hookline_core::ids::{DeliveryId, SubscriptionId};
    use hookline_core::operations::WebhookDisabled;
    use uuid::Uuid;

    use super::*;

    /// A broker that confirms every other publication.
    #[derive(Default)]
    struct Broker {
        published: std::sync::Mutex<Vec<OwedAttempt>>,
        confirms: AtomicBool,
        waiting: AtomicU64,
        /// How many attempts are taken between two looks.
        taken: u64,
    }

    #[async_trait]
    impl Publisher for Broker {
        async fn publish_events(&self, _: PublishedEvents) -> Result<(), QueueError> {
            Ok(())
        }

        async fn publish_attempts(&self, attempts: &[Scheduled]) -> Result<(), QueueError> {
            if !self.confirms.fetch_xor(true, Ordering::Relaxed) {
                return Err(QueueError::Unavailable("no confirmation".to_owned()));
            }
            let mut published = self.published.lock().unwrap();
            published.extend(attempts.iter().map(|one| one.owed));
            self.waiting
                .fetch_add(attempts.len() as u64, Ordering::Relaxed);
            Ok(())
        }

        async fn announce(&self, _: &[WebhookDisabled]) -> Result<(), QueueError> {
            Ok(())
        }

        async fn attempts_waiting(&self) -> Result<u64, QueueError> {
            let waiting = self.waiting.load(Ordering::Relaxed);
            let left = waiting.saturating_sub(self.taken);
            self.waiting.store(left, Ordering::Relaxed);
            Ok(waiting)
        }

        async fn ahead(&self) -> Result<Ahead, QueueError> {
            let attempts = self.attempts_waiting().await?;
            assert!(attempts <= ROOM + CHUNK as u64 || self.taken == 0);
            Ok(Ahead {
                attempts,
                is_consumed: true,
            })
        }

        async fn dead_waiting(&self) -> Result<DeadWaiting, QueueError> {
            Ok(DeadWaiting::default())
        }

        fn is_ready(&self) -> bool {
            true
        }
    }

    fn owed(count: u128) -> Vec<OwedAttempt> {
        let owed = |number| OwedAttempt {
            delivery: DeliveryId(Uuid::from_u128(number)),
            generation: 0,
            attempt: 1,
            subscription: SubscriptionId(1),
        };
        (0..count).map(owed).collect()
    }

    async fn hand_on(broker: Broker, size: Size) -> Vec<OwedAttempt> {
        let broker = Arc::new(broker);
        let pace = Pace::new(broker.clone());
        let late = CancellationToken::new();
        assert_eq!(pace.hand_on(owed(1_000), size, &late).await, Handed::All);
        broker.published.lock().unwrap().clone()
    }

    #[tokio::test(start_paused = true)]
    async fn a_chunk_that_is_confirmed_is_not_published_again() {
        for size in [Size::Small, Size::Broad] {
            let broker = Broker {
                taken: 7,
                ..Broker::default()
            };
            assert_eq!(hand_on(broker, size).await, owed(1_000));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn where_nothing_is_taken_a_large_fan_out_is_handed_on_all_the_same() {
        assert_eq!(hand_on(Broker::default(), Size::Broad).await, owed(1_000));
    }

    #[tokio::test(start_paused = true)]
    async fn a_process_that_stops_hands_on_no_more() {
        let broker = Arc::new(Broker::default());
        let pace = Pace::new(broker.clone());
        let late = CancellationToken::new();
        late.cancel();
        let handed = pace.hand_on(owed(1_000), Size::Broad, &late).await;
        assert_eq!(handed, Handed::InPart);
        assert!(broker.published.lock().unwrap().len() < 1_000);
    }
}
