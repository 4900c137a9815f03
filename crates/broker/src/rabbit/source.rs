//! [`Source`] on a queue.
//!
//! Subscribes when somebody takes, and again whenever the subscription has ended, for whatever
//! reason: a consumer that died and stays dead looks like a quiet queue to everybody else. The
//! broker does not always say so (3.10 is silent when a quorum queue is deleted), so a quiet
//! subscription is replaced before it is believed.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::{FutureExt, StreamExt};
use lapin::message::Delivery;
use tokio::time::{Instant, timeout_at};

use crate::contract::{QueueError, Receipt, Source, Taken};
use crate::rabbit::letter::{Letter, delivery_count, unread};
use crate::rabbit::link::backoff;
use crate::rabbit::outbox::Outbox;
use crate::rabbit::subscription::Subscription;

/// From then on a message is handled alone: two who had it may have died of it.
const SUSPECT_AFTER: u64 = 2;

/// After this time without a message and with nothing in anybody's hands, a new subscription.
const QUIET_FOR: Duration = Duration::from_secs(15);

/// Until what could be neither read nor buried is tried again.
const BURY_AGAIN_AFTER: Duration = Duration::from_secs(5);

pub(super) struct QueueSource<L> {
    outbox: Outbox,
    prefetch: u16,
    /// Held by whoever takes.
    intake: tokio::sync::Mutex<Option<Intake<L>>>,
    /// What receipts are settled with.
    current: Mutex<Option<Arc<Subscription>>>,
    subscribed: AtomicBool,
}

struct Intake<L> {
    subscription: Arc<Subscription>,
    consumer: lapin::Consumer,
    /// The last message that came, and when; or when somebody last doubted that any would.
    last_tag: u64,
    heard: Instant,
    /// Takes messages one by one until then.
    careful_until: Option<Instant>,
    /// Came while a batch was gathered and waits for a turn of its own.
    suspect: Option<Taken<L>>,
}

/// What a delivery turned out to be.
enum Admitted<L> {
    Ordinary(Taken<L>),
    Suspect(Taken<L>),
    /// Unreadable, and on its way to the dead letters.
    Buried,
}

/// Why a subscription gives no more.
enum Over {
    Ended,
    /// It has been careful for long enough; or it is quiet, and perhaps there is nothing, perhaps
    /// nobody told us that it has ended.
    Replaceable,
}

impl<L: Letter> QueueSource<L> {
    pub(super) fn new(outbox: Outbox, prefetch: u16) -> Self {
        Self {
            outbox,
            prefetch,
            intake: tokio::sync::Mutex::default(),
            current: Mutex::default(),
            // Nothing is wrong before the first try.
            subscribed: AtomicBool::new(true),
        }
    }

    async fn subscribe(&self) -> Intake<L> {
        let mut waits = backoff();
        loop {
            let session = self.outbox.link().session().await;
            let number = self.current().as_ref().map_or(0, |last| last.number + 1);
            let careful_until = session.careful_until();
            let prefetch = careful_until.map_or(self.prefetch, |_| 1);
            match Subscription::open(number, &session, L::QUEUE, prefetch).await {
                Ok((subscription, consumer)) => {
                    let subscription = Arc::new(subscription);
                    *self.current() = Some(Arc::clone(&subscription));
                    self.subscribed.store(true, Ordering::Relaxed);
                    return Intake {
                        subscription,
                        consumer,
                        last_tag: 0,
                        heard: Instant::now(),
                        careful_until,
                        suspect: None,
                    };
                }
                Err(error) => {
                    self.subscribed.store(false, Ordering::Relaxed);
                    tracing::warn!(queue = L::QUEUE, %error, "cannot subscribe to the queue");
                    // Somebody may have deleted it. If this fails too, so will the next round.
                    if let Err(error) = session.declare_topology().await {
                        tracing::debug!(%error, "cannot declare the queues");
                    }
                    tokio::time::sleep(waits.next().unwrap_or_default()).await;
                }
            }
        }
    }

    fn admit(&self, intake: &mut Intake<L>, delivery: Delivery) -> Admitted<L> {
        let subscription = &intake.subscription;
        intake.last_tag = delivery.delivery_tag;
        intake.heard = Instant::now();
        let Delivery {
            delivery_tag,
            redelivered,
            properties,
            data,
            ..
        } = delivery;
        let body = Bytes::from(data);
        let message = match L::read(body.clone(), &properties) {
            Ok(message) => message,
            Err(reason) => {
                tracing::error!(queue = L::QUEUE, reason, "buried a message of another kind");
                let post = unread::<L>(body, &properties, &reason);
                let (outbox, subscription) = (self.outbox.clone(), Arc::clone(subscription));
                tokio::spawn(async move {
                    match outbox.send(vec![post]).await {
                        Ok(()) => subscription.ack([delivery_tag]),
                        Err(error) => {
                            tracing::warn!(queue = L::QUEUE, %error, "cannot bury the message yet");
                            tokio::time::sleep(BURY_AGAIN_AFTER).await;
                            subscription.give_back([delivery_tag]);
                        }
                    }
                });
                return Admitted::Buried;
            }
        };
        let count = delivery_count(&properties);
        let taken = Taken {
            message,
            redelivered: redelivered || count > 0,
            receipt: Receipt {
                session: subscription.number,
                tag: delivery_tag,
            },
        };
        if count < SUSPECT_AFTER {
            Admitted::Ordinary(taken)
        } else {
            Admitted::Suspect(taken)
        }
    }

    /// A batch, or why there will be none. Between the first message and the return nothing waits,
    /// so a dropped future has no message in its hands.
    async fn gather(&self, intake: &mut Intake<L>, max: usize) -> Result<Vec<Taken<L>>, Over> {
        if !intake.subscription.is_open() {
            return Err(Over::Ended);
        }
        if let Some(suspect) = intake.suspect.take() {
            return Ok(vec![suspect]);
        }
        if intake
            .careful_until
            .is_some_and(|until| until < Instant::now())
            && intake.subscription.has_settled(intake.last_tag)
        {
            return Err(Over::Replaceable);
        }
        let mut batch = Vec::new();
        while batch.is_empty() {
            let next = timeout_at(intake.heard + QUIET_FOR, intake.consumer.next()).await;
            let delivery = match next {
                Ok(Some(Ok(delivery))) => delivery,
                Ok(_) => return Err(Over::Ended),
                Err(_) if intake.subscription.has_settled(intake.last_tag) => {
                    return Err(Over::Replaceable);
                }
                Err(_) => {
                    intake.heard = Instant::now();
                    continue;
                }
            };
            match self.admit(intake, delivery) {
                Admitted::Ordinary(taken) => batch.push(taken),
                Admitted::Suspect(taken) => return Ok(vec![taken]),
                Admitted::Buried => {}
            }
        }
        while batch.len() < max
            && let Some(Some(Ok(delivery))) = intake.consumer.next().now_or_never()
        {
            match self.admit(intake, delivery) {
                Admitted::Ordinary(taken) => batch.push(taken),
                Admitted::Suspect(taken) => {
                    intake.suspect = Some(taken);
                    break;
                }
                Admitted::Buried => {}
            }
        }
        Ok(batch)
    }

    /// The subscription that a receipt belongs to, unless it has ended.
    fn subscription_of(&self, receipt: Receipt) -> Option<Arc<Subscription>> {
        let current = self.current();
        let subscription = current.as_ref()?;
        (subscription.number == receipt.session).then(|| Arc::clone(subscription))
    }

    fn present_tags(&self, taken: &[Taken<L>]) -> Option<(Arc<Subscription>, Vec<u64>)> {
        let subscription = self.current().clone()?;
        let tags = taken
            .iter()
            .filter(|taken| taken.receipt.session == subscription.number)
            .map(|taken| taken.receipt.tag)
            .collect();
        Some((subscription, tags))
    }

    fn current(&self) -> MutexGuard<'_, Option<Arc<Subscription>>> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl<L: Letter> Source<L> for QueueSource<L> {
    async fn take(&self, max: usize) -> Vec<Taken<L>> {
        let mut intake = self.intake.lock().await;
        loop {
            let present = match intake.take() {
                Some(present) => intake.insert(present),
                None => intake.insert(self.subscribe().await),
            };
            match self.gather(present, max).await {
                Ok(batch) => return batch,
                Err(Over::Replaceable) => {}
                Err(Over::Ended) => {
                    self.subscribed.store(false, Ordering::Relaxed);
                    tracing::warn!(queue = L::QUEUE, "the subscription has ended");
                }
            }
            *intake = None;
        }
    }

    async fn ack(&self, taken: Vec<Taken<L>>) {
        if let Some((subscription, tags)) = self.present_tags(&taken) {
            subscription.ack(tags);
        }
    }

    async fn release(&self, taken: Vec<Taken<L>>) {
        if let Some((subscription, tags)) = self.present_tags(&taken) {
            subscription.give_back(tags);
        }
    }

    async fn bury(&self, taken: Taken<L>, reason: &str) -> Result<(), QueueError> {
        let buried = self.outbox.send(vec![taken.message.dead(reason)]).await;
        if let Some(subscription) = self.subscription_of(taken.receipt) {
            match &buried {
                Ok(()) => subscription.ack([taken.receipt.tag]),
                Err(_) => subscription.give_back([taken.receipt.tag]),
            }
        }
        buried
    }

    fn is_ready(&self) -> bool {
        self.subscribed.load(Ordering::Relaxed) && self.outbox.link().is_ready()
    }
}
