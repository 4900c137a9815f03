//! Consuming published events: a message is owed until it is acked.
//!
//! A message leaves a consumer in one of four ways. `ack` ends it. `requeue` hands it out again at once, and counts.
//! `defer` replaces it by messages that are handed out at their time, and does not count. `dead_letter` puts it aside
//! for an operator.

use async_trait::async_trait;

use crate::{PublishedEvents, QueueError};

/// A message that a consumer holds until it is settled. Settling takes it by value, so it is settled once.
#[derive(Debug)]
pub struct ReceivedMessage<M> {
    pub message: M,
    /// A process held it before, and may have died between two steps of its work.
    pub redelivered: bool,
    /// How often it came back before: its process died or requeued it.
    pub delivery_count: u32,
    /// Only the consumer that returned it can read this.
    pub receipt: Receipt,
}

impl<M> ReceivedMessage<M> {
    /// The delivery count of a new message that replaces this one.
    pub fn count_to_carry(&self) -> u32 {
        self.delivery_count.max(u32::from(self.redelivered))
    }
}

/// How a consumer finds a received message again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Receipt {
    /// The channel or the process that the message was received in. Messages of an earlier session come again by
    /// themselves, so their receipts are void.
    pub session: u64,
    /// The message in that session.
    pub tag: u64,
}

/// A message that is handed out when it is due.
#[derive(Debug, Clone)]
pub struct Deferred {
    pub message: PublishedEvents,
    /// How often it, or the message that it replaces, came back before.
    pub delivery_count: u32,
}

/// Hands out published events until they are acked.
///
/// A consumer reconnects by itself: while its queue cannot be reached, [`EventConsumer::receive`] waits.
#[async_trait]
pub trait EventConsumer: Send + Sync {
    /// Subscribes ahead of the first [`EventConsumer::receive`], so that a missing right is known at the start. Any
    /// other failure is tried again there.
    ///
    /// # Errors
    /// [`QueueError::Refused`].
    async fn begin(&self) -> Result<(), QueueError> {
        Ok(())
    }

    /// Waits for a message and returns it with the others that have arrived, at most `max`: batches form under load
    /// and cost no wait without it. Cancel-safe: dropping the future loses no message. After [`EventConsumer::stop`] it
    /// returns the messages that had arrived by then, which may be more than `max`, and after that nothing, at once.
    async fn receive(&self, max: usize) -> Vec<ReceivedMessage<PublishedEvents>>;

    /// The messages are done.
    async fn ack(&self, received: Vec<ReceivedMessage<PublishedEvents>>);

    /// Returns messages on which work may have begun. They are handed out again soon, marked as redelivered, with a
    /// delivery count that is one higher.
    async fn requeue(&self, received: Vec<ReceivedMessage<PublishedEvents>>);

    /// [`EventConsumer::requeue`] for messages on which no work has begun: their delivery counts stay the same.
    async fn requeue_uncounted(&self, received: Vec<ReceivedMessage<PublishedEvents>>);

    /// Replaces messages by others, each of which is handed out when it is [`PublishedEvents::due`], behind others that
    /// wait then. A message that is due in more than a minute may come early by an eighth.
    ///
    /// # Errors
    /// When the new messages are not all durable. All of `received` are still held then, although some of `deferred` may
    /// be handed out all the same.
    async fn defer(
        &self,
        received: &[ReceivedMessage<PublishedEvents>],
        deferred: &[Deferred],
    ) -> Result<(), QueueError>;

    /// No more messages are wanted. Received messages can still be settled.
    fn stop(&self);

    /// Whether this process still holds the message. After the connection that it came on died, another process may
    /// hold it.
    fn is_owned(&self, received: &ReceivedMessage<PublishedEvents>) -> bool;

    /// Moves a message that can never be handled to the dead letters, with the reason.
    ///
    /// # Errors
    /// When it is not durable there; it is still owed then and is handed out again.
    async fn dead_letter(
        &self,
        received: ReceivedMessage<PublishedEvents>,
        reason: &str,
    ) -> Result<(), QueueError>;

    /// Whether messages can be received at this moment.
    fn is_ready(&self) -> bool;
}
