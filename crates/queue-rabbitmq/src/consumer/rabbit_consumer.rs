//! [`EventConsumer`] on `hookline.events`.
//!
//! It subscribes on the first [`EventConsumer::receive`], and again whenever its channel has ended. A consumer that ended
//! looks like an empty queue, and the broker does not always say so: 3.10 is silent when a quorum queue is
//! deleted. A quiet channel is therefore replaced.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use hookline_queue::{
    Deferred, EventConsumer, PublishedEvents, QueueError, Receipt, ReceivedMessage,
};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::codec::{dead_letter, later, republished};
use crate::connection::refusal;
use crate::connection::session::Session;
use crate::connection::supervisor::{SupervisedConnection, backoff};
use crate::consumer::batch_consumer::{BatchConsumer, ChannelEnd};
use crate::consumer::consumer_channel::ConsumerChannel;
use crate::delay::{Delay, DelayTarget};
use crate::outgoing::Outgoing;
use crate::publisher::confirmed_publisher::ConfirmedPublisher;
use crate::topology::EVENTS;

/// Messages that are republished in one call.
const MAX_REPUBLISHED: usize = 256;

/// How long the broker may take to begin a consumer. A queue that was deleted and declared again at once may never
/// answer, although its connection lives.
const SUBSCRIBE_WITHIN: Duration = Duration::from_secs(10);

pub(crate) struct RabbitConsumer {
    /// Nothing is published on it, so that an alarm of the broker does not block it.
    connection: SupervisedConnection,
    publisher: ConfirmedPublisher,
    prefetch: u16,
    /// Locked during [`EventConsumer::receive`].
    batches: tokio::sync::Mutex<Option<BatchConsumer>>,
    /// Settles what was received.
    channel: Mutex<Option<Arc<ConsumerChannel>>>,
    subscribed: AtomicBool,
    stopped: CancellationToken,
}

impl RabbitConsumer {
    pub(crate) fn new(
        publisher: ConfirmedPublisher,
        connection: SupervisedConnection,
        prefetch: u16,
    ) -> Self {
        Self {
            connection,
            publisher,
            prefetch,
            batches: tokio::sync::Mutex::default(),
            channel: Mutex::default(),
            // Ready until the first try fails.
            subscribed: AtomicBool::new(true),
            stopped: CancellationToken::new(),
        }
    }

    async fn subscribe(&self) -> BatchConsumer {
        let mut waits = backoff();
        loop {
            let session = self.connection.session().await;
            let error = match self.subscribe_once(&session).await {
                Ok(batches) => return batches,
                Err(error) => error,
            };
            tracing::warn!(queue = EVENTS, %error, "cannot consume the queue");
            session.declare_again().await;
            tokio::time::sleep(waits.next().unwrap_or_default()).await;
        }
    }

    async fn subscribe_once(&self, session: &Session) -> Result<BatchConsumer, QueueError> {
        let number = self.channel().as_ref().map_or(0, |last| last.number + 1);
        let opening = BatchConsumer::open(number, session, self.prefetch, self.publisher.clone());
        let error = match timeout(SUBSCRIBE_WITHIN, opening).await {
            Ok(Ok(batches)) => {
                *self.channel() = Some(batches.channel());
                self.subscribed.store(true, Ordering::Relaxed);
                return Ok(batches);
            }
            Ok(Err(error)) => match refusal::missing_right(&error) {
                Some(why) => QueueError::Refused(why),
                None => QueueError::Unavailable(error.to_string()),
            },
            Err(_) => QueueError::Unavailable(format!("no answer within {SUBSCRIBE_WITHIN:?}")),
        };
        self.subscribed.store(false, Ordering::Relaxed);
        Err(error)
    }

    /// The channel of a receipt, unless it was replaced.
    fn channel_of(&self, receipt: Receipt) -> Option<Arc<ConsumerChannel>> {
        let channel = self.channel();
        let channel = channel.as_ref()?;
        (channel.number == receipt.session).then(|| Arc::clone(channel))
    }

    /// The present channel, and the tags of the messages that came on it.
    fn present_tags(
        &self,
        received: &[ReceivedMessage<PublishedEvents>],
    ) -> Option<(Arc<ConsumerChannel>, Vec<u64>)> {
        let channel = self.channel().clone()?;
        let tags = received
            .iter()
            .filter(|one| one.receipt.session == channel.number)
            .map(|one| one.receipt.tag)
            .collect();
        Some((channel, tags))
    }

    fn channel(&self) -> MutexGuard<'_, Option<Arc<ConsumerChannel>>> {
        self.channel.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl EventConsumer for RabbitConsumer {
    async fn begin(&self) -> Result<(), QueueError> {
        let mut batches = self.batches.lock().await;
        if batches.is_none() {
            let session = self.connection.session().await;
            match self.subscribe_once(&session).await {
                Ok(new) => *batches = Some(new),
                Err(refused @ QueueError::Refused(_)) => return Err(refused),
                Err(error @ QueueError::Unavailable(_)) => {
                    tracing::debug!(queue = EVENTS, %error, "cannot consume the queue yet");
                }
            }
        }
        Ok(())
    }

    async fn receive(&self, max: usize) -> Vec<ReceivedMessage<PublishedEvents>> {
        let mut batches = self.batches.lock().await;
        while !self.stopped.is_cancelled() {
            let present = match batches.take() {
                Some(present) => batches.insert(present),
                None => tokio::select! {
                    new = self.subscribe() => batches.insert(new),
                    () = self.stopped.cancelled() => break,
                },
            };
            let batch = tokio::select! {
                batch = present.next_batch(max) => batch,
                () = self.stopped.cancelled() => break,
            };
            match batch {
                Ok(batch) => return batch,
                Err(ChannelEnd::Replaceable) => {}
                Err(ChannelEnd::Lost(cause)) => {
                    self.subscribed.store(false, Ordering::Relaxed);
                    tracing::warn!(queue = EVENTS, cause, "lost the consumer of the queue");
                }
            }
            *batches = None;
        }
        match batches.take() {
            Some(mut last) => last.stop().await,
            None => Vec::new(),
        }
    }

    async fn ack(&self, received: Vec<ReceivedMessage<PublishedEvents>>) {
        if let Some((channel, tags)) = self.present_tags(&received) {
            channel.ack(tags);
        }
    }

    async fn requeue(&self, received: Vec<ReceivedMessage<PublishedEvents>>) {
        if let Some((channel, tags)) = self.present_tags(&received) {
            channel.requeue(tags);
        }
    }

    /// The broker counts a nack, and also a message that returns with its channel; the count would make it a suspect of
    /// a crash. A new message at the end of the queue replaces the old one instead.
    async fn requeue_uncounted(&self, received: Vec<ReceivedMessage<PublishedEvents>>) {
        let Some(channel) = self.channel().clone() else {
            return;
        };
        let owned: Vec<_> = received
            .into_iter()
            .filter(|one| self.is_owned(one))
            .collect();
        for some in owned.chunks(MAX_REPUBLISHED) {
            let tags = some.iter().map(|one| one.receipt.tag);
            match self
                .publisher
                .send(some.iter().map(copy_of).collect())
                .await
            {
                Ok(()) => channel.ack(tags),
                Err(error) => {
                    tracing::warn!(queue = EVENTS, %error, "cannot republish messages; they are requeued and counted");
                    channel.requeue(tags);
                }
            }
        }
    }

    /// New messages replace the old ones, as in [`EventConsumer::requeue_uncounted`], and pass through the delays.
    async fn defer(
        &self,
        received: &[ReceivedMessage<PublishedEvents>],
        deferred: &[Deferred],
    ) -> Result<(), QueueError> {
        let now = hookline_clock::now();
        let outgoing = deferred.iter().map(
            |Deferred {
                 message,
                 delivery_count,
             }| {
                let due = message.due.unwrap_or(now);
                let delay = Delay::towards(due.remaining(now));
                later(
                    republished(message, *delivery_count),
                    delay,
                    DelayTarget::Events,
                )
            },
        );
        self.publisher.send(outgoing.collect()).await?;
        if let Some((channel, tags)) = self.present_tags(received) {
            channel.ack(tags);
        }
        Ok(())
    }

    fn stop(&self) {
        self.stopped.cancel();
    }

    fn is_owned(&self, received: &ReceivedMessage<PublishedEvents>) -> bool {
        self.channel_of(received.receipt)
            .is_some_and(|channel| channel.is_open())
    }

    async fn dead_letter(
        &self,
        received: ReceivedMessage<PublishedEvents>,
        reason: &str,
    ) -> Result<(), QueueError> {
        let outgoing = dead_letter(&received.message, reason);
        let sent = self.publisher.send(vec![outgoing]).await;
        if let Some(channel) = self.channel_of(received.receipt) {
            match &sent {
                Ok(()) => channel.ack([received.receipt.tag]),
                Err(_) => channel.requeue([received.receipt.tag]),
            }
        }
        sent
    }

    fn is_ready(&self) -> bool {
        self.subscribed.load(Ordering::Relaxed) && self.connection.is_ready()
    }
}

fn copy_of(received: &ReceivedMessage<PublishedEvents>) -> Outgoing {
    republished(&received.message, received.count_to_carry())
}
