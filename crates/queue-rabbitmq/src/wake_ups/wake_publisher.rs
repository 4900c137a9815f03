//! Publishing wake-ups: hints that are sent once and may be lost.
//!
//! A caller never waits. Its wake-ups go into a bounded queue, and a task publishes them on a connection of their own:
//! transient and without confirms. A wake-up is dropped and counted when the queue is full, or when the connection is lost
//! or blocked by an alarm. Without a listening dispatcher it reaches no queue.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures::future::try_join_all;
use hookline_core::delivery::AttemptTask;
use hookline_core::partition::Partitions;
use hookline_core::wire::{PROTOBUF, WakeUp};
use hookline_queue::Scheduled;
use hookline_queue::failpoint;
use lapin::options::BasicPublishOptions;
use lapin::{BasicProperties, Channel};
use tokio::sync::{mpsc, watch};

use crate::connection::session::Session;
use crate::connection::supervisor::{SupervisedConnection, backoff};
use crate::delay::{Delay, DelayTarget};
use crate::topology::{WAKE, WAKES};
use crate::wake_ups::dropped::{DropReason, DroppedWakeUps};

/// Messages that wait to be published.
const QUEUE_CAPACITY: usize = 1_024;

/// Messages that are given to lapin at once.
const MAX_BATCH: usize = 64;

const TRANSIENT: u8 = 1;

#[derive(Debug, PartialEq, Eq)]
struct OutgoingWakeUp {
    exchange: String,
    routing_key: String,
    wake_up: WakeUp,
}

/// Groups deliveries by partition and delay.
fn messages(due: &[Scheduled], partitions: Partitions) -> Vec<OutgoingWakeUp> {
    let mut groups: BTreeMap<_, Vec<AttemptTask>> = BTreeMap::new();
    for Scheduled { task, delay } in due {
        let group = (Delay::towards(*delay), partitions.of(task.subscription));
        groups.entry(group).or_default().push(*task);
    }
    let mut messages = Vec::with_capacity(groups.len());
    for ((delay, partition), tasks) in groups {
        let owner = DelayTarget::Owner(partition);
        let (exchange, routing_key) = match delay.entry_level() {
            None => (WAKE.to_owned(), owner.at_once()),
            Some(level) => (WAKES.level(level), delay.routing_key(owner)),
        };
        messages.extend(
            tasks
                .chunks(WakeUp::MOST_WRITTEN)
                .map(|some| OutgoingWakeUp {
                    exchange: exchange.clone(),
                    routing_key: routing_key.clone(),
                    wake_up: WakeUp(some.to_vec()),
                }),
        );
    }
    messages
}

/// Clones share the queue. The task ends with the last of them.
#[derive(Debug, Clone)]
pub(crate) struct WakePublisher {
    connection: SupervisedConnection,
    partitions: watch::Receiver<Partitions>,
    queue: mpsc::Sender<OutgoingWakeUp>,
    dropped: DroppedWakeUps,
}

impl WakePublisher {
    pub(crate) fn start(
        connection: SupervisedConnection,
        partitions: watch::Receiver<Partitions>,
    ) -> Self {
        let (queue, waiting) = mpsc::channel(QUEUE_CAPACITY);
        let dropped = DroppedWakeUps::new();
        let task = PublishTask {
            connection: connection.clone(),
            waiting,
            channel: None,
            dropped: dropped.clone(),
        };
        tokio::spawn(task.run());
        Self {
            connection,
            partitions,
            queue,
            dropped,
        }
    }

    pub(crate) fn publish(&self, due: &[Scheduled]) {
        if due.is_empty() {
            return;
        }
        if let Err(reason) = usable(&self.connection) {
            return self.dropped.count(due.len(), reason);
        }
        let partitions = *self.partitions.borrow();
        for message in messages(due, partitions) {
            let deliveries = message.wake_up.0.len();
            if failpoint::drops_a_wake_up() {
                continue;
            }
            if self.queue.try_send(message).is_err() {
                self.dropped.count(deliveries, DropReason::QueueFull);
            }
        }
    }
}

fn usable(connection: &SupervisedConnection) -> Result<Arc<Session>, DropReason> {
    connection
        .usable()
        .ok_or_else(|| match connection.is_connected() {
            true => DropReason::Blocked,
            false => DropReason::Disconnected,
        })
}

struct PublishTask {
    connection: SupervisedConnection,
    waiting: mpsc::Receiver<OutgoingWakeUp>,
    channel: Option<(Arc<Session>, Channel)>,
    dropped: DroppedWakeUps,
}

impl PublishTask {
    async fn run(mut self) {
        let mut waits = backoff();
        let mut messages = Vec::with_capacity(MAX_BATCH);
        while self.waiting.recv_many(&mut messages, MAX_BATCH).await > 0 {
            let deliveries = messages.iter().map(|message| message.wake_up.0.len()).sum();
            let session = match usable(&self.connection) {
                Ok(session) => session,
                Err(reason) => {
                    self.dropped.count(deliveries, reason);
                    messages.clear();
                    continue;
                }
            };
            match self.publish(&session, &messages).await {
                Ok(()) => waits = backoff(),
                Err(error) => {
                    self.dropped.count(deliveries, DropReason::Disconnected);
                    self.channel = None;
                    tracing::warn!(%error, "cannot publish wake-ups");
                    // The broker closes the channel when the exchange is missing.
                    session.declare_again().await;
                    tokio::time::sleep(waits.next().unwrap_or_default()).await;
                }
            }
            messages.clear();
        }
    }

    async fn publish(
        &mut self,
        session: &Arc<Session>,
        messages: &[OutgoingWakeUp],
    ) -> lapin::Result<()> {
        let channel = match &self.channel {
            Some((of, channel)) if Arc::ptr_eq(of, session) => channel.clone(),
            _ => {
                let channel = session.channel().await?;
                self.channel = Some((Arc::clone(session), channel.clone()));
                channel
            }
        };
        let sending = messages.iter().map(|message| {
            let body = message.wake_up.to_wire();
            let channel = channel.clone();
            async move {
                let properties = BasicProperties::default()
                    .with_delivery_mode(TRANSIENT)
                    .with_content_type(PROTOBUF.into());
                let (exchange, key) = (&*message.exchange, &*message.routing_key);
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
            task: AttemptTask {
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
        let messages = messages(&due, Partitions::new(2).unwrap());
        let routes: Vec<_> = messages
            .iter()
            .map(|message| {
                (
                    &*message.exchange,
                    message.wake_up.0.len(),
                    &*message.routing_key,
                )
            })
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
        let lengths = messages(&due, Partitions::ONE);
        let lengths: Vec<_> = lengths
            .iter()
            .map(|message| message.wake_up.0.len())
            .collect();
        assert_eq!(lengths, [256, 256, 88]);
    }
}
