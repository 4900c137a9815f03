//! A channel that consumes `hookline.events`, until it ends.

use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};

use futures::FutureExt;
use lapin::options::{
    BasicAckOptions, BasicCancelOptions, BasicConsumeOptions, BasicNackOptions, BasicQosOptions,
};
use lapin::types::{FieldTable, ShortString};
use lapin::{Channel, Consumer};

use crate::connection::opening_guard::OpeningGuard;
use crate::connection::session::Session;
use crate::consumer::ack_tracker::{Ack, AckTracker};
use crate::topology::EVENTS;

/// Settles the messages that came on it.
pub(crate) struct ConsumerChannel {
    /// Distinguishes the tags of this channel from those of another.
    pub(crate) number: u64,
    channel: Channel,
    tracker: Mutex<AckTracker>,
}

impl ConsumerChannel {
    pub(crate) async fn open(
        number: u64,
        session: &Session,
        prefetch: u16,
    ) -> lapin::Result<(Self, Consumer)> {
        let channel = session.channel().await?;
        let guard = OpeningGuard::of(&channel);
        channel
            .basic_qos(prefetch, BasicQosOptions::default())
            .await?;
        let consumer = channel
            .basic_consume(
                EVENTS.into(),
                "".into(),
                BasicConsumeOptions::default(),
                FieldTable::default(),
            )
            .await?;
        guard.keep();
        let this = Self {
            number,
            channel,
            tracker: Mutex::default(),
        };
        Ok((this, consumer))
    }

    pub(crate) fn is_open(&self) -> bool {
        self.channel.status().connected()
    }

    /// No more messages come; those that arrived can still be settled.
    pub(crate) async fn cancel(&self, consumer: ShortString) {
        let cancelling = self
            .channel
            .basic_cancel(consumer, BasicCancelOptions::default());
        if let Err(error) = cancelling.await {
            tracing::debug!(%error, "the consumer had ended already");
        }
    }

    /// Whether every message up to this tag is settled.
    pub(crate) fn has_settled(&self, tag: u64) -> bool {
        self.tracker().has_settled_through(tag)
    }

    // lapin queues a frame when its future is first polled. Acks therefore need no await, keep their order under the lock,
    // and are not lost when the caller is dropped. On a channel that is gone there is nothing to settle: the messages
    // come again.

    pub(crate) fn ack(&self, tags: impl IntoIterator<Item = u64>) {
        let mut tracker = self.tracker();
        for Ack { tag, multiple } in tracker.ack(tags) {
            self.channel
                .basic_ack(tag, BasicAckOptions { multiple })
                .now_or_never();
        }
    }

    pub(crate) fn requeue(&self, tags: impl IntoIterator<Item = u64>) {
        let options = BasicNackOptions {
            multiple: false,
            requeue: true,
        };
        let mut tracker = self.tracker();
        for tag in tracker.settle(tags) {
            self.channel.basic_nack(tag, options).now_or_never();
        }
    }

    fn tracker(&self) -> MutexGuard<'_, AckTracker> {
        self.tracker.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for ConsumerChannel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConsumerChannel")
            .field("number", &self.number)
            .finish_non_exhaustive()
    }
}
