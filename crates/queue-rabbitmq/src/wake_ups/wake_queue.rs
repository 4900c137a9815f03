//! The queue in which a dispatcher receives wake-ups.
//!
//! It is bound with the patterns of the partitions that the dispatcher owns, and exists as long as its channel. It is
//! classic, exclusive and bounded in length and time: a dispatcher that stalls costs the broker little, and finds the rows
//! by looks. Each queue has a new name, because the broker may still keep the queue of a lost connection.

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
use crate::connection::opening_guard::OpeningGuard;
use crate::connection::session::Session;
use crate::delay::DelayTarget;
use crate::topology::WAKE;

/// Messages; above it the oldest are dropped.
const MAX_LENGTH: i32 = 2_000;

/// Milliseconds. By then a look finds the row of the delivery.
const MESSAGE_TTL: i32 = 2_000;

/// How long the broker may take to declare or to bind.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);

/// Why wake-ups no longer arrive.
#[derive(Debug, thiserror::Error)]
pub(crate) enum WakeQueueError {
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
    pub(crate) async fn open(session: &Session) -> Result<Self, WakeQueueError> {
        within(async {
            let channel = session.channel().await?;
            let guard = OpeningGuard::of(&channel);
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
                ("x-message-ttl", AMQPValue::LongInt(MESSAGE_TTL)),
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
            guard.keep();
            Ok(Self {
                channel,
                name,
                consumer,
                bound: BTreeSet::new(),
            })
        })
        .await
    }

    /// Waits for a message. Cancel-safe: dropping the future loses none.
    pub(crate) async fn next(&mut self) -> Result<Delivery, WakeQueueError> {
        self.consumer
            .next()
            .await
            .ok_or(WakeQueueError::Ended)?
            .map_err(WakeQueueError::Broken)
    }

    /// Binds exactly these partitions.
    pub(crate) async fn follow(
        &mut self,
        wanted: &BTreeSet<Partition>,
    ) -> Result<(), WakeQueueError> {
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

    /// Repeats all bindings, in case the exchange was deleted and declared again.
    pub(crate) async fn bind_again(&self) -> Result<(), WakeQueueError> {
        self.bind(self.bound.iter()).await
    }

    async fn bind(
        &self,
        partitions: impl Iterator<Item = &Partition>,
    ) -> Result<(), WakeQueueError> {
        let bindings = partitions.map(|partition| {
            let (queue, key) = (self.name.as_str().into(), pattern(*partition).into());
            let options = QueueBindOptions::default();
            self.channel
                .queue_bind(queue, WAKE.into(), key, options, FieldTable::default())
        });
        within(async { Ok(try_join_all(bindings).await.map(drop)?) }).await
    }

    pub(crate) async fn close(self) -> Result<(), WakeQueueError> {
        within(async { Ok(self.channel.close(200, "closing".into()).await?) }).await
    }
}

fn pattern(partition: Partition) -> String {
    DelayTarget::Owner(partition).pattern()
}

async fn within<T>(
    work: impl Future<Output = Result<T, WakeQueueError>>,
) -> Result<T, WakeQueueError> {
    timeout(ANSWER_WITHIN, work)
        .await
        .unwrap_or(Err(WakeQueueError::Silent))
}
