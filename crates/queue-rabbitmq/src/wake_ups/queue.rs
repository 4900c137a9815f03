//! The queue that wake-ups of a dispatcher arrive in.
//!
//! It is bound with the patterns of the partitions that the dispatcher owns, and exists as long as its channel. It is
//! classic, exclusive and bounded in length and time: a dispatcher that stalls costs the broker little, and finds
//! rows instead. Each has a new name, because the broker may still hold that of a lost connection.

use std::collections::BTreeSet;
use std::time::Duration;

use futures::StreamExt;
use futures::future::try_join_all;
use hookline_core::partition::Partition;
use lapin::message::Delivery;
use lapin::options::{BasicConsumeOptions, QueueBindOptions, QueueDeclareOptions};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{Channel, Consumer};
use tokio::time::timeout;
use uuid::Uuid;

use crate::arguments::{arguments, text};
use crate::connection::opening::Opening;
use crate::connection::session::Session;
use crate::delay::Address;
use crate::topology::WAKE;

/// Messages; the oldest leave first.
const MAX_LENGTH: i32 = 2_000;

/// Milliseconds. The dispatcher finds the row of a delivery by then.
const MAX_AGE: i32 = 2_000;

/// How long the broker may take to declare or to bind.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);

/// Why no wake-ups arrive any more.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Lost {
    #[error("{0}")]
    Broken(#[from] lapin::Error),
    #[error("the broker ended the consumer")]
    Ended,
    #[error("no answer within {ANSWER_WITHIN:?}")]
    Silent,
}

pub(crate) struct WakeQueue {
    channel: Channel,
    name: String,
    consumer: Consumer,
    bound: BTreeSet<Partition>,
}

impl WakeQueue {
    pub(crate) async fn open(session: &Session) -> Result<Self, Lost> {
        within(async {
            let channel = session.channel().await?;
            let opening = Opening::of(&channel);
            let name = format!("hookline.wake.dispatcher.{}", Uuid::new_v4());
            let declaring = QueueDeclareOptions {
                exclusive: true,
                auto_delete: true,
                ..QueueDeclareOptions::default()
            };
            let bounds = arguments([
                ("x-queue-type", text("classic")),
                ("x-max-length", AMQPValue::LongInt(MAX_LENGTH)),
                ("x-overflow", text("drop-head")),
                ("x-message-ttl", AMQPValue::LongInt(MAX_AGE)),
            ]);
            channel
                .queue_declare(name.as_str().into(), declaring, bounds)
                .await?;
            let consuming = BasicConsumeOptions {
                no_ack: true,
                ..BasicConsumeOptions::default()
            };
            let (queue, tag) = (name.as_str().into(), "".into());
            let consumer = channel
                .basic_consume(queue, tag, consuming, FieldTable::default())
                .await?;
            opening.ended_well();
            Ok(Self {
                channel,
                name,
                consumer,
                bound: BTreeSet::new(),
            })
        })
        .await
    }

    /// Waits for a message. Dropping the future loses none.
    pub(crate) async fn next(&mut self) -> Result<Delivery, Lost> {
        self.consumer
            .next()
            .await
            .ok_or(Lost::Ended)?
            .map_err(Lost::Broken)
    }

    /// Binds what is wanted and not bound, and unbinds the rest.
    pub(crate) async fn follow(&mut self, wanted: &BTreeSet<Partition>) -> Result<(), Lost> {
        self.bind(wanted.difference(&self.bound)).await?;
        let ended = self.bound.difference(wanted).map(|partition| {
            let (queue, key) = (self.name.as_str().into(), pattern(*partition).into());
            self.channel
                .queue_unbind(queue, WAKE.into(), key, FieldTable::default())
        });
        within(async { Ok(try_join_all(ended).await?) }).await?;
        self.bound.clone_from(wanted);
        Ok(())
    }

    /// Binds everything once more, in case that an exchange was deleted with its bindings.
    pub(crate) async fn bind_again(&self) -> Result<(), Lost> {
        self.bind(self.bound.iter()).await
    }

    async fn bind(&self, partitions: impl Iterator<Item = &Partition>) -> Result<(), Lost> {
        let bindings = partitions.map(|partition| {
            let (queue, key) = (self.name.as_str().into(), pattern(*partition).into());
            let options = QueueBindOptions::default();
            self.channel
                .queue_bind(queue, WAKE.into(), key, options, FieldTable::default())
        });
        within(async { Ok(try_join_all(bindings).await.map(drop)?) }).await
    }

    /// Ends the queue.
    pub(crate) async fn close(self) -> Result<(), Lost> {
        within(async { Ok(self.channel.close(200, "closing".into()).await?) }).await
    }
}

fn pattern(partition: Partition) -> String {
    Address::Owner(partition).pattern()
}

async fn within<T>(work: impl Future<Output = Result<T, Lost>>) -> Result<T, Lost> {
    timeout(ANSWER_WITHIN, work)
        .await
        .unwrap_or(Err(Lost::Silent))
}
