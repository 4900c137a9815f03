//! The queue contract that both homes serve: durable messages of events, and wake-ups.
//!
//! A message of events is owed until it is acked. A message that was given back comes again with
//! [`Taken::redelivered`] set, and so does one of a process that died, because only then may the step after it be missing. A delivery is owed by its row
//! in the store, and has no message here but wake-ups, which may be lost.

use std::collections::BTreeSet;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use hookline_core::delivery::OwedAttempt;
use hookline_core::operations::WebhookDisabled;
use hookline_core::partition::Partition;
use hookline_core::timestamp::Timestamp;
use hookline_core::trace::TraceParent;

/// Which side wrote a message. Formats and headers of our own are read from our own messages alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Writer {
    /// A workflow service: one event in a format of the contract.
    Publisher,
    /// A process of Hookline.
    Hookline,
}

/// A message on `hookline.events`: one event, or several that are durable together or not at all.
#[derive(Debug, Clone)]
pub struct PublishedEvents {
    /// The bytes as they were published.
    pub body: Bytes,
    /// Their format; none where the publisher named none.
    pub content_type: Option<String>,
    /// The side that chose the bytes and the format. It stays the same however often the message is
    /// put back, put off or buried.
    pub writer: Writer,
    /// The publisher's trace.
    pub trace: Option<TraceParent>,
    /// When its turn is among its organization's events, where that was decided: nobody counts it
    /// again then.
    pub turn: Option<Timestamp>,
}

/// Events that come when it is their turn.
#[derive(Debug, Clone)]
pub struct Coming {
    /// The message.
    pub message: PublishedEvents,
    /// How often it came back before, or what it stands for did.
    pub returns: u32,
}

/// An attempt that a wake-up names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Scheduled {
    /// Which attempt.
    pub owed: OwedAttempt,
    /// From now, rounded up to whole seconds. A delay above a minute may end early by an eighth: the row in the store
    /// says when the attempt is due.
    pub delay: Duration,
}

impl Scheduled {
    /// An attempt without a delay.
    pub fn at_once(owed: OwedAttempt) -> Self {
        Self {
            owed,
            delay: Duration::ZERO,
        }
    }
}

/// A message in somebody's hands. It is given up by value, so it is acked or returned once.
#[derive(Debug)]
pub struct Taken<M> {
    /// What it says.
    pub message: M,
    /// Somebody had it before, and may have died between two steps.
    pub redelivered: bool,
    /// How often it came back before: its taker died, or gave it back.
    pub returns: u32,
    /// Where it came from; only its source can read this.
    pub receipt: Receipt,
}

impl<M> Taken<M> {
    /// How often somebody had it before: what is counted where a new message takes its place.
    pub fn held_before(&self) -> u32 {
        self.returns.max(u32::from(self.redelivered))
    }
}

/// How a source finds a taken message again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Receipt {
    /// The channel or process life that it was taken in. What was taken in an earlier one comes
    /// again by itself, so its receipts mean nothing any more.
    pub session: u64,
    /// The message in that session.
    pub tag: u64,
}

/// Why something could not be handed on. It was not: whoever tried still has it.
#[derive(Debug, thiserror::Error)]
pub enum QueueError {
    /// The queue cannot be reached, is full or did not confirm in time.
    #[error("the queue is not available: {0}")]
    Unavailable(String),
    /// A right is missing, which an operator grants. The text says so.
    #[error("{0}")]
    Refused(String),
}

/// Publishes events and announcements durably, and wake-ups as hints.
#[async_trait]
pub trait Publisher: Send + Sync {
    /// Returns once the events are durable, all of them.
    async fn publish_events(&self, events: PublishedEvents) -> Result<(), QueueError>;

    /// Tells the owners of these deliveries' partitions that they are due, each after its delay. It returns at
    /// once and promises nothing: what finds no room is dropped and counted, and its owner finds the row of the
    /// delivery within a second after it was due.
    fn wake(&self, due: &[Scheduled]);

    /// Tells operators what the system has done. Returns once whoever listens at this moment has
    /// it durably; that nobody does is no error.
    async fn announce(&self, events: &[WebhookDisabled]) -> Result<(), QueueError>;

    /// How many rejected events wait for an operator.
    async fn rejected_waiting(&self) -> Result<u64, QueueError>;

    /// Whether work can be handed on at this moment.
    fn is_ready(&self) -> bool;
}

/// Wake-ups for the owner of partitions: hints that deliveries are due. A hint may be lost, come twice, come
/// early or be out of date, for a row says what is owed.
#[async_trait]
pub trait WakeUps: Send + Sync {
    /// Checks that wake-ups can be listened for, so that a missing right is known at the start. Any other failure
    /// passes, and is tried again.
    ///
    /// # Errors
    /// [`QueueError::Refused`].
    async fn begin(&self) -> Result<(), QueueError> {
        Ok(())
    }

    /// From now on the wake-ups of these partitions come here, and no others. It takes effect as soon as the
    /// broker answers.
    fn listen(&self, partitions: BTreeSet<Partition>);

    /// Waits for wake-ups and returns what is there, in the order of arrival. Dropping the future loses none.
    async fn next(&self) -> Vec<OwedAttempt>;

    /// Whether wake-ups arrive at this moment. Without them deliveries start up to a second late.
    fn is_ready(&self) -> bool;
}

/// Gives out published events until they are acked, and takes them back until their turn.
///
/// A source reconnects by itself: while its queue cannot be reached, [`EventSource::take`] waits.
#[async_trait]
pub trait EventSource: Send + Sync {
    /// Subscribes ahead of the first [`EventSource::take`], so that a missing right is known at the start. Any other
    /// failure is tried again there.
    ///
    /// # Errors
    /// [`QueueError::Refused`].
    async fn begin(&self) -> Result<(), QueueError> {
        Ok(())
    }

    /// Waits for a message and returns it with what else is there, at most `max`: batches form
    /// under load and cost no wait without it. Dropping the future loses no message. After
    /// [`EventSource::stop`] it returns what had come by then, which may be more than `max`, and from
    /// then on nothing, at once.
    async fn take(&self, max: usize) -> Vec<Taken<PublishedEvents>>;

    /// The messages are dealt with.
    async fn ack(&self, taken: Vec<Taken<PublishedEvents>>);

    /// The messages go back and come again, soon and marked as redelivered.
    async fn release(&self, taken: Vec<Taken<PublishedEvents>>);

    /// The messages go back untouched. It does not count as a return, however often it happens.
    async fn put_back(&self, taken: Vec<Taken<PublishedEvents>>);

    /// In place of messages that are in hand, others come, each when it is its
    /// [`PublishedEvents::turn`], behind others that wait then. Above a minute they may come early
    /// by an eighth.
    ///
    /// # Errors
    /// When they could not be put off; all of `taken` are still in hand then, though some of
    /// `coming` may come all the same.
    async fn put_off(
        &self,
        taken: &[Taken<PublishedEvents>],
        coming: &[Coming],
    ) -> Result<(), QueueError>;

    /// No more messages are wanted. What was taken can still be settled.
    fn stop(&self);

    /// Whether the message is still ours. After the connection that it came on died, another
    /// process may have it.
    fn holds(&self, taken: &Taken<PublishedEvents>) -> bool;

    /// The message can never be dealt with: it goes to the dead letters, with the reason.
    ///
    /// # Errors
    /// When it could not be put there; it is still owed then and comes again.
    async fn bury(&self, taken: Taken<PublishedEvents>, reason: &str) -> Result<(), QueueError>;

    /// Whether messages can be taken at this moment.
    fn is_ready(&self) -> bool;
}
