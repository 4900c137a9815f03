//! Batches of events from one [`ConsumerChannel`].

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::{FutureExt, StreamExt};
use hookline_queue::{PublishedEvents, Receipt, ReceivedMessage};
use lapin::message::Delivery;
use tokio::time::{Instant, timeout, timeout_at};

use crate::codec::{dead_letter, decode};
use crate::connection::session::Session;
use crate::consumer::consumer_channel::ConsumerChannel;
use crate::envelope::Envelope;
use crate::outgoing::Outgoing;
use crate::publisher::confirmed_publisher::ConfirmedPublisher;
use crate::topology::{EVENTS, OWN_DELIVERY_LIMIT};

/// After this time without a message, and with every message settled, the channel is replaced.
const QUIET_FOR: Duration = Duration::from_secs(5);

/// Until a message that could not be dead-lettered is requeued.
const REQUEUE_AFTER: Duration = Duration::from_secs(5);

/// How long the broker may take to cancel the consumer.
const STOP_WITHIN: Duration = Duration::from_secs(2);

pub(crate) struct BatchConsumer {
    publisher: ConfirmedPublisher,
    channel: Arc<ConsumerChannel>,
    deliveries: lapin::Consumer,
    last_tag: u64,
    /// When the last message arrived, or when its absence was last checked.
    last_activity: Instant,
    /// The prefetch is one message until then.
    one_by_one_until: Option<Instant>,
}

/// Why a channel delivers no more messages.
pub(crate) enum ChannelEnd {
    /// The consumer or its channel ended, with the text of the broker or of lapin.
    Lost(Option<String>),
    /// It has read one by one for long enough. Or it is quiet: the queue may be empty, or the broker may not have said
    /// that the consumer ended.
    Replaceable,
}

impl BatchConsumer {
    pub(crate) async fn open(
        number: u64,
        session: &Session,
        prefetch: u16,
        publisher: ConfirmedPublisher,
    ) -> lapin::Result<Self> {
        let one_by_one_until = session.one_by_one_until();
        let prefetch = one_by_one_until.map_or(prefetch, |_| 1);
        let (channel, deliveries) = ConsumerChannel::open(number, session, prefetch).await?;
        Ok(Self {
            publisher,
            channel: Arc::new(channel),
            deliveries,
            last_tag: 0,
            last_activity: Instant::now(),
            one_by_one_until,
        })
    }

    pub(crate) fn channel(&self) -> Arc<ConsumerChannel> {
        Arc::clone(&self.channel)
    }

    /// The next batch. Cancel-safe: nothing is awaited between the first message and the return, so a dropped future
    /// holds no message.
    pub(crate) async fn next_batch(
        &mut self,
        max: usize,
    ) -> Result<Vec<ReceivedMessage<PublishedEvents>>, ChannelEnd> {
        if !self.channel.is_open() {
            return Err(ChannelEnd::Lost(None));
        }
        if self
            .one_by_one_until
            .is_some_and(|until| until < Instant::now())
            && self.channel.has_settled(self.last_tag)
        {
            return Err(ChannelEnd::Replaceable);
        }
        let mut batch = Vec::new();
        while batch.is_empty() {
            let next = timeout_at(self.last_activity + QUIET_FOR, self.deliveries.next()).await;
            let delivery = match next {
                Ok(Some(Ok(delivery))) => delivery,
                Ok(Some(Err(error))) => return Err(ChannelEnd::Lost(Some(error.to_string()))),
                Ok(None) => return Err(ChannelEnd::Lost(None)),
                Err(_) if self.channel.has_settled(self.last_tag) => {
                    return Err(ChannelEnd::Replaceable);
                }
                Err(_) => {
                    self.last_activity = Instant::now();
                    continue;
                }
            };
            batch.extend(self.admit(delivery));
        }
        while batch.len() < max
            && let Some(Some(Ok(delivery))) = self.deliveries.next().now_or_never()
        {
            batch.extend(self.admit(delivery));
        }
        Ok(batch)
    }

    /// Cancels the consumer and returns the messages that had arrived.
    pub(crate) async fn stop(&mut self) -> Vec<ReceivedMessage<PublishedEvents>> {
        let tag = self.deliveries.tag();
        let mut arrived = Vec::new();
        // The broker's answer comes after all messages; without it the connection is as good as dead.
        let ended = timeout(STOP_WITHIN, async {
            self.channel.cancel(tag).await;
            while let Some(Ok(delivery)) = self.deliveries.next().await {
                arrived.extend(self.admit(delivery));
            }
        });
        if ended.await.is_err() {
            tracing::warn!(queue = EVENTS, "the broker did not cancel the consumer");
        }
        arrived
    }

    /// None for a message that came back too often: it goes to the dead letters.
    fn admit(&mut self, mut delivery: Delivery) -> Option<ReceivedMessage<PublishedEvents>> {
        let tag = delivery.delivery_tag;
        self.last_tag = tag;
        self.last_activity = Instant::now();
        let body = Bytes::from(std::mem::take(&mut delivery.data));
        let envelope = Envelope::of(&delivery);
        let delivery_count = envelope.delivery_count();
        let message = decode(body, envelope);
        if delivery_count < OWN_DELIVERY_LIMIT {
            return Some(ReceivedMessage {
                message,
                redelivered: delivery_count > 0,
                delivery_count,
                receipt: Receipt {
                    session: self.channel.number,
                    tag,
                },
            });
        }
        tracing::error!(
            queue = EVENTS,
            delivery_count,
            "dead-lettered a message that came back too often"
        );
        let reason = format!("the message came back {delivery_count} times and was never settled");
        tokio::spawn(move_to_dead_letters(
            self.publisher.clone(),
            dead_letter(&message, &reason),
            Arc::clone(&self.channel),
            tag,
        ));
        None
    }
}

async fn move_to_dead_letters(
    publisher: ConfirmedPublisher,
    message: Outgoing,
    channel: Arc<ConsumerChannel>,
    tag: u64,
) {
    let queue = message.routing_key.clone();
    match publisher.send(vec![message]).await {
        Ok(()) => channel.ack([tag]),
        Err(error) => {
            tracing::warn!(queue, %error, "cannot dead-letter the message yet");
            tokio::time::sleep(REQUEUE_AFTER).await;
            channel.requeue([tag]);
        }
    }
}
