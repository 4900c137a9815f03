//! A channel that messages arrive on, until it ends.

use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};

use futures::FutureExt;
use lapin::options::{
    BasicAckOptions, BasicCancelOptions, BasicConsumeOptions, BasicNackOptions, BasicQosOptions,
};
use lapin::types::{FieldTable, ShortString};
use lapin::{Channel, Consumer};

use crate::connection::opening::Opening;
use crate::connection::session::Session;
use crate::consumer::ack_tracker::{Ack, Ledger};
use crate::topology::EVENTS;

/// What settles the messages of one channel.
pub(crate) struct Subscription {
    /// Tells the tags of this channel from those of another.
    pub(crate) number: u64,
    channel: Channel,
    ledger: Mutex<Ledger>,
}

impl Subscription {
    pub(crate) async fn open(
        number: u64,
        session: &Session,
        prefetch: u16,
    ) -> lapin::Result<(Self, Consumer)> {
        let channel = session.channel().await?;
        let opening = Opening::of(&channel);
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
        opening.ended_well();
        let subscription = Self {
            number,
            channel,
            ledger: Mutex::default(),
        };
        Ok((subscription, consumer))
    }

    pub(crate) fn is_open(&self) -> bool {
        self.channel.status().connected()
    }

    /// No more messages come; those that came can still be settled.
    pub(crate) async fn cancel(&self, consumer: ShortString) {
        let cancelling = self
            .channel
            .basic_cancel(consumer, BasicCancelOptions::default());
        if let Err(error) = cancelling.await {
            tracing::debug!(%error, "the subscription has ended already");
        }
    }

    /// Whether everything up to this tag is dealt with.
    pub(crate) fn has_settled(&self, tag: u64) -> bool {
        self.ledger().has_settled_through(tag)
    }

    // lapin queues a frame when its future is first polled, so acks need no waiting, keep their
    // order under the lock, and are not lost with a dropped caller. If the channel is gone, there
    // is nothing to settle: the messages come again.

    pub(crate) fn ack(&self, tags: impl IntoIterator<Item = u64>) {
        let mut ledger = self.ledger();
        for Ack { tag, multiple } in ledger.ack(tags) {
            self.channel
                .basic_ack(tag, BasicAckOptions { multiple })
                .now_or_never();
        }
    }

    pub(crate) fn give_back(&self, tags: impl IntoIterator<Item = u64>) {
        let options = BasicNackOptions {
            multiple: false,
            requeue: true,
        };
        let mut ledger = self.ledger();
        for tag in ledger.settle(tags) {
            self.channel.basic_nack(tag, options).now_or_never();
        }
    }

    fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Subscription {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Subscription")
            .field("number", &self.number)
            .finish_non_exhaustive()
    }
}
