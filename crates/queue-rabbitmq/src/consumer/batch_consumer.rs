//! Batches from one subscription.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::{FutureExt, StreamExt};
use lapin::message::Delivery;
use tokio::time::{Instant, timeout, timeout_at};

use crate::codec::{dead_letter, decode};
use crate::connection::session::Session;
use crate::consumer::channel::Subscription;
use crate::envelope::Envelope;
use crate::outgoing::Post;
use crate::publisher::confirmed::Outbox;
use crate::topology::{EVENTS, RETURN_LIMIT};
use hookline_queue::{PublishedEvents, Receipt, Taken};

/// After this time without a message and with nothing in anybody's hands, a new subscription.
const QUIET_FOR: Duration = Duration::from_secs(5);

/// Until what could be neither read nor buried is tried again.
const BURY_AGAIN_AFTER: Duration = Duration::from_secs(5);

/// How long the broker may take to end a subscription.
const STOP_WITHIN: Duration = Duration::from_secs(2);

/// A subscription and what has come of it.
pub(crate) struct Intake {
    outbox: Outbox,
    subscription: Arc<Subscription>,
    consumer: lapin::Consumer,
    /// The last message that came, and when; or when somebody last doubted that any would.
    last_tag: u64,
    heard: Instant,
    /// Takes messages one by one until then.
    careful_until: Option<Instant>,
}

/// Why a subscription gives no more.
pub(crate) enum Over {
    /// With what the broker or lapin says of it.
    Ended(Option<String>),
    /// It has been careful for long enough; or it is quiet, and perhaps there is nothing, perhaps
    /// nobody told us that it has ended.
    Replaceable,
}

impl Intake {
    pub(crate) async fn open(
        number: u64,
        session: &Session,
        prefetch: u16,
        outbox: Outbox,
    ) -> lapin::Result<Self> {
        let careful_until = session.careful_until();
        let prefetch = careful_until.map_or(prefetch, |_| 1);
        let (subscription, consumer) = Subscription::open(number, session, prefetch).await?;
        Ok(Self {
            outbox,
            subscription: Arc::new(subscription),
            consumer,
            last_tag: 0,
            heard: Instant::now(),
            careful_until,
        })
    }

    pub(crate) fn subscription(&self) -> Arc<Subscription> {
        Arc::clone(&self.subscription)
    }

    /// A batch, or why there will be none. Between the first message and the return nothing waits,
    /// so a dropped future has no message in its hands.
    pub(crate) async fn gather(&mut self, max: usize) -> Result<Vec<Taken<PublishedEvents>>, Over> {
        if !self.subscription.is_open() {
            return Err(Over::Ended(None));
        }
        if self
            .careful_until
            .is_some_and(|until| until < Instant::now())
            && self.subscription.has_settled(self.last_tag)
        {
            return Err(Over::Replaceable);
        }
        let mut batch = Vec::new();
        while batch.is_empty() {
            let next = timeout_at(self.heard + QUIET_FOR, self.consumer.next()).await;
            let delivery = match next {
                Ok(Some(Ok(delivery))) => delivery,
                Ok(Some(Err(error))) => return Err(Over::Ended(Some(error.to_string()))),
                Ok(None) => return Err(Over::Ended(None)),
                Err(_) if self.subscription.has_settled(self.last_tag) => {
                    return Err(Over::Replaceable);
                }
                Err(_) => {
                    self.heard = Instant::now();
                    continue;
                }
            };
            batch.extend(self.admit(delivery));
        }
        while batch.len() < max
            && let Some(Some(Ok(delivery))) = self.consumer.next().now_or_never()
        {
            batch.extend(self.admit(delivery));
        }
        Ok(batch)
    }

    /// Ends the consumer, and returns what had come and nobody has taken.
    pub(crate) async fn stop(&mut self) -> Vec<Taken<PublishedEvents>> {
        let tag = self.consumer.tag();
        let mut ahead = Vec::new();
        // Its end is behind all that came; without an answer the connection is as good as dead.
        let ended = timeout(STOP_WITHIN, async {
            self.subscription.cancel(tag).await;
            while let Some(Ok(delivery)) = self.consumer.next().await {
                ahead.extend(self.admit(delivery));
            }
        });
        if ended.await.is_err() {
            tracing::warn!(queue = EVENTS, "the broker does not end the subscription");
        }
        ahead
    }

    /// A message that came back too often is none, and on its way to the dead letters.
    fn admit(&mut self, mut delivery: Delivery) -> Option<Taken<PublishedEvents>> {
        self.last_tag = delivery.delivery_tag;
        self.heard = Instant::now();
        let tag = delivery.delivery_tag;
        let body = Bytes::from(std::mem::take(&mut delivery.data));
        let envelope = Envelope::of(&delivery);
        let returns = envelope.returns();
        let message = decode(body, envelope);
        if returns < RETURN_LIMIT {
            return Some(Taken {
                message,
                redelivered: returns > 0,
                returns,
                receipt: Receipt {
                    session: self.subscription.number,
                    tag,
                },
            });
        }
        tracing::error!(
            queue = EVENTS,
            returns,
            "gave up a message that came back too often"
        );
        let reason = format!("it came back {returns} times and nobody could settle it");
        tokio::spawn(bury(
            self.outbox.clone(),
            dead_letter(&message, &reason),
            Arc::clone(&self.subscription),
            tag,
        ));
        None
    }
}

async fn bury(outbox: Outbox, post: Post, subscription: Arc<Subscription>, tag: u64) {
    let queue = post.routing_key.clone();
    match outbox.send(vec![post]).await {
        Ok(()) => subscription.ack([tag]),
        Err(error) => {
            tracing::warn!(queue, %error, "cannot bury the message yet");
            tokio::time::sleep(BURY_AGAIN_AFTER).await;
            subscription.give_back([tag]);
        }
    }
}
