//! Publishing wake-ups: hints that are sent once and may be lost.
//!
//! A caller never waits. Its hints go into a bounded queue, and a task publishes them on a connection of their own:
//! transient, without confirms, to no queue where no dispatcher listens. What finds the queue full, or the
//! connection lost or blocked by an alarm, is dropped and counted.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures::future::try_join_all;
use hookline_core::delivery::OwedAttempt;
use hookline_core::partition::Partitions;
use hookline_core::wire::{PROTOBUF, WakeUp};
use lapin::options::BasicPublishOptions;
use lapin::{BasicProperties, Channel};
use tokio::sync::{mpsc, watch};

use crate::connection::session::Session;
use crate::connection::supervisor::{Link, backoff};
use crate::delay::{Address, Delay};
use crate::topology::{WAKE, WAKES};
use crate::wake_ups::dropped::{Dropped, Reason};
use hookline_queue::Scheduled;
use hookline_queue::failpoint;

/// Messages that wait to be published.
const QUEUE: usize = 1_024;

/// Messages that are handed to lapin at once.
const TOGETHER: usize = 64;

const TRANSIENT: u8 = 1;

/// A message and where it goes.
#[derive(Debug, PartialEq, Eq)]
struct Hint {
    exchange: String,
    routing_key: String,
    wake_up: WakeUp,
}

/// Groups deliveries by partition and delay.
fn hints(due: &[Scheduled], partitions: Partitions) -> Vec<Hint> {
    let mut groups: BTreeMap<_, Vec<OwedAttempt>> = BTreeMap::new();
    for Scheduled { owed, delay } in due {
        let group = (Delay::towards(*delay), partitions.of(owed.subscription));
        groups.entry(group).or_default().push(*owed);
    }
    let mut hints = Vec::with_capacity(groups.len());
    for ((delay, partition), owed) in groups {
        let owner = Address::Owner(partition);
        let (exchange, routing_key) = match delay.entry_level() {
            None => (WAKE.to_owned(), owner.at_once()),
            Some(level) => (WAKES.level(level), delay.routing_key(owner)),
        };
        hints.extend(owed.chunks(WakeUp::MOST_WRITTEN).map(|some| Hint {
            exchange: exchange.clone(),
            routing_key: routing_key.clone(),
            wake_up: WakeUp(some.to_vec()),
        }));
    }
    hints
}

/// Clones share the queue; the task ends with the last of them.
#[derive(Debug, Clone)]
pub(crate) struct Waker {
    link: Link,
    partitions: watch::Receiver<Partitions>,
    queue: mpsc::Sender<Hint>,
    dropped: Dropped,
}

impl Waker {
    pub(crate) fn start(link: Link, partitions: watch::Receiver<Partitions>) -> Self {
        let (queue, waiting) = mpsc::channel(QUEUE);
        let dropped = Dropped::new();
        let task = Task {
            link: link.clone(),
            waiting,
            channel: None,
            dropped: dropped.clone(),
        };
        tokio::spawn(task.run());
        Self {
            link,
            partitions,
            queue,
            dropped,
        }
    }

    pub(crate) fn wake(&self, due: &[Scheduled]) {
        if due.is_empty() {
            return;
        }
        if let Err(reason) = usable(&self.link) {
            return self.dropped.count(due.len(), reason);
        }
        let partitions = *self.partitions.borrow();
        for hint in hints(due, partitions) {
            let deliveries = hint.wake_up.0.len();
            if failpoint::drops_a_wake_up() {
                continue;
            }
            if self.queue.try_send(hint).is_err() {
                self.dropped.count(deliveries, Reason::QueueFull);
            }
        }
    }
}

fn usable(link: &Link) -> Result<Arc<Session>, Reason> {
    link.usable().ok_or_else(|| match link.is_connected() {
        true => Reason::Blocked,
        false => Reason::Disconnected,
    })
}

struct Task {
    link: Link,
    waiting: mpsc::Receiver<Hint>,
    channel: Option<(Arc<Session>, Channel)>,
    dropped: Dropped,
}

impl Task {
    async fn run(mut self) {
        let mut waits = backoff();
        let mut hints = Vec::with_capacity(TOGETHER);
        while self.waiting.recv_many(&mut hints, TOGETHER).await > 0 {
            let deliveries = hints.iter().map(|hint| hint.wake_up.0.len()).sum();
            let session = match usable(&self.link) {
                Ok(session) => session,
                Err(reason) => {
                    self.dropped.count(deliveries, reason);
                    hints.clear();
                    continue;
                }
            };
            match self.publish(&session, &hints).await {
                Ok(()) => waits = backoff(),
                Err(error) => {
                    self.dropped.count(deliveries, Reason::Disconnected);
                    self.channel = None;
                    tracing::warn!(%error, "cannot publish wake-ups");
                    // The broker closes a channel when its exchange is missing.
                    session.declare_again().await;
                    tokio::time::sleep(waits.next().unwrap_or_default()).await;
                }
            }
            hints.clear();
        }
    }

    async fn publish(&mut self, session: &Arc<Session>, hints: &[Hint]) -> lapin::Result<()> {
        let channel = match &self.channel {
            Some((of, channel)) if Arc::ptr_eq(of, session) => channel.clone(),
            _ => {
                let channel = session.channel().await?;
                self.channel = Some((Arc::clone(session), channel.clone()));
                channel
            }
        };
        let sending = hints.iter().map(|hint| {
            let body = hint.wake_up.to_wire();
            let channel = channel.clone();
            async move {
                let properties = BasicProperties::default()
                    .with_delivery_mode(TRANSIENT)
                    .with_content_type(PROTOBUF.into());
                let (exchange, key) = (&*hint.exchange, &*hint.routing_key);
                let options = BasicPublishOptions::default();
                let sent =
                    channel.basic_publish(exchange.into(), key.into(), options, &body, properties);
                sent.await
            }
        });
        try_join_all(sending).await.map(drop)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use hookline_core::ids::{DeliveryId, SubscriptionId};
    use uuid::Uuid;

    use super::*;

    fn due(subscription: i64, delay: u64) -> Scheduled {
        Scheduled {
            owed: OwedAttempt {
                delivery: DeliveryId(Uuid::nil()),
                generation: 0,
                attempt: 1,
                subscription: SubscriptionId(subscription),
            },
            delay: Duration::from_millis(delay),
        }
    }

    #[test]
    fn deliveries_of_one_partition_and_second_share_a_message() {
        let due = [due(3, 0), due(5, 0), due(4, 0), due(6, 900), due(8, 1000)];
        let hints = hints(&due, Partitions::new(2).unwrap());
        let routes: Vec<_> = hints
            .iter()
            .map(|hint| (&*hint.exchange, hint.wake_up.0.len(), &*hint.routing_key))
            .collect();
        let bits = "0.".repeat(16);
        assert_eq!(
            routes,
            [
                ("hookline.wake", 1, "0"),
                ("hookline.wake", 2, "1"),
                ("hookline.wake.0", 2, &*format!("{bits}1.0")),
            ]
        );
    }

    #[test]
    fn a_message_has_at_most_256_deliveries() {
        let due = vec![due(1, 0); 600];
        let lengths = hints(&due, Partitions::ONE);
        let lengths: Vec<_> = lengths.iter().map(|hint| hint.wake_up.0.len()).collect();
        assert_eq!(lengths, [256, 256, 88]);
    }
}
