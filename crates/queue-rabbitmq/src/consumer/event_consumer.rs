//! [`EventSource`] on `hookline.events`.
//!
//! Subscribes when somebody takes, and again whenever the subscription has ended, for whatever
//! reason: a consumer that died and stays dead looks like a quiet queue to everybody else. The
//! broker does not always say so (3.10 is silent when a quorum queue is deleted), so a quiet
//! subscription is replaced before it is believed.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::codec::{dead_letter, later, republished};
use crate::connection::refusal;
use crate::connection::session::Session;
use crate::connection::supervisor::{Link, backoff};
use crate::consumer::batch_consumer::{Intake, Over};
use crate::consumer::channel::Subscription;
use crate::delay::{Address, Delay};
use crate::outgoing::Post;
use crate::publisher::confirmed::Outbox;
use crate::topology::EVENTS;
use hookline_queue::{Coming, EventSource, PublishedEvents, QueueError, Receipt, Taken};

/// How many messages are put back at once.
const AT_ONCE: usize = 256;

/// How long the broker may take to begin a subscription. A queue that was deleted and declared again at once may never
/// answer, although its connection lives.
const SUBSCRIBE_WITHIN: Duration = Duration::from_secs(10);

pub(crate) struct QueueSource {
    /// Where the messages come from. Nothing is published there.
    link: Link,
    outbox: Outbox,
    prefetch: u16,
    /// Held by whoever takes.
    intake: tokio::sync::Mutex<Option<Intake>>,
    /// What receipts are settled with.
    current: Mutex<Option<Arc<Subscription>>>,
    subscribed: AtomicBool,
    stopped: CancellationToken,
}

impl QueueSource {
    pub(crate) fn new(outbox: Outbox, link: Link, prefetch: u16) -> Self {
        Self {
            link,
            outbox,
            prefetch,
            intake: tokio::sync::Mutex::default(),
            current: Mutex::default(),
            // Nothing is wrong before the first try.
            subscribed: AtomicBool::new(true),
            stopped: CancellationToken::new(),
        }
    }

    async fn subscribe(&self) -> Intake {
        let mut waits = backoff();
        loop {
            let session = self.link.session().await;
            let error = match self.subscribe_once(&session).await {
                Ok(intake) => return intake,
                Err(error) => error,
            };
            tracing::warn!(queue = EVENTS, %error, "cannot subscribe to the queue");
            session.declare_again().await;
            tokio::time::sleep(waits.next().unwrap_or_default()).await;
        }
    }

    async fn subscribe_once(&self, session: &Session) -> Result<Intake, QueueError> {
        let number = self.current().as_ref().map_or(0, |last| last.number + 1);
        let opening = Intake::open(number, session, self.prefetch, self.outbox.clone());
        let error = match timeout(SUBSCRIBE_WITHIN, opening).await {
            Ok(Ok(intake)) => {
                *self.current() = Some(intake.subscription());
                self.subscribed.store(true, Ordering::Relaxed);
                return Ok(intake);
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

    /// The subscription that a receipt belongs to, unless it has ended.
    fn subscription_of(&self, receipt: Receipt) -> Option<Arc<Subscription>> {
        let current = self.current();
        let subscription = current.as_ref()?;
        (subscription.number == receipt.session).then(|| Arc::clone(subscription))
    }

    fn present_tags(
        &self,
        taken: &[Taken<PublishedEvents>],
    ) -> Option<(Arc<Subscription>, Vec<u64>)> {
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
impl EventSource for QueueSource {
    async fn begin(&self) -> Result<(), QueueError> {
        let mut intake = self.intake.lock().await;
        if intake.is_none() {
            let session = self.link.session().await;
            match self.subscribe_once(&session).await {
                Ok(new) => *intake = Some(new),
                Err(refused @ QueueError::Refused(_)) => return Err(refused),
                Err(error @ QueueError::Unavailable(_)) => {
                    tracing::debug!(queue = EVENTS, %error, "the first subscription failed");
                }
            }
        }
        Ok(())
    }

    async fn take(&self, max: usize) -> Vec<Taken<PublishedEvents>> {
        let mut intake = self.intake.lock().await;
        while !self.stopped.is_cancelled() {
            let present = match intake.take() {
                Some(present) => intake.insert(present),
                None => tokio::select! {
                    new = self.subscribe() => intake.insert(new),
                    () = self.stopped.cancelled() => break,
                },
            };
            let gathered = tokio::select! {
                gathered = present.gather(max) => gathered,
                () = self.stopped.cancelled() => break,
            };
            match gathered {
                Ok(batch) => return batch,
                Err(Over::Replaceable) => {}
                Err(Over::Ended(cause)) => {
                    self.subscribed.store(false, Ordering::Relaxed);
                    tracing::warn!(queue = EVENTS, cause, "the subscription has ended");
                }
            }
            *intake = None;
        }
        match intake.take() {
            Some(mut last) => last.stop().await,
            None => Vec::new(),
        }
    }

    async fn ack(&self, taken: Vec<Taken<PublishedEvents>>) {
        if let Some((subscription, tags)) = self.present_tags(&taken) {
            subscription.ack(tags);
        }
    }

    async fn release(&self, taken: Vec<Taken<PublishedEvents>>) {
        if let Some((subscription, tags)) = self.present_tags(&taken) {
            subscription.give_back(tags);
        }
    }

    /// What was nacked, or fell back with its channel, counts as returned, and is taken for poison
    /// sooner or later. So a new message takes the place of the old one, behind all others.
    async fn put_back(&self, taken: Vec<Taken<PublishedEvents>>) {
        let Some(subscription) = self.current().clone() else {
            return;
        };
        let taken: Vec<Taken<PublishedEvents>> =
            taken.into_iter().filter(|one| self.holds(one)).collect();
        for some in taken.chunks(AT_ONCE) {
            let tags = some.iter().map(|one| one.receipt.tag);
            match self.outbox.send(some.iter().map(anew).collect()).await {
                Ok(()) => subscription.ack(tags),
                Err(error) => {
                    tracing::warn!(queue = EVENTS, %error, "could not put messages back as new ones");
                    subscription.give_back(tags);
                }
            }
        }
    }

    /// New messages take the place of the old ones, as with [`EventSource::put_back`], after a rest in the delays.
    async fn put_off(
        &self,
        taken: &[Taken<PublishedEvents>],
        coming: &[Coming],
    ) -> Result<(), QueueError> {
        let now = hookline_clock::now();
        let posts = coming.iter().map(|Coming { message, returns }| {
            let turn = message.turn.unwrap_or(now);
            let delay = Delay::towards(turn.remaining(now));
            later(republished(message, *returns), delay, Address::Events)
        });
        self.outbox.send(posts.collect()).await?;
        if let Some((subscription, tags)) = self.present_tags(taken) {
            subscription.ack(tags);
        }
        Ok(())
    }

    fn stop(&self) {
        self.stopped.cancel();
    }

    fn holds(&self, taken: &Taken<PublishedEvents>) -> bool {
        self.subscription_of(taken.receipt)
            .is_some_and(|subscription| subscription.is_open())
    }

    async fn bury(&self, taken: Taken<PublishedEvents>, reason: &str) -> Result<(), QueueError> {
        let buried = self
            .outbox
            .send(vec![dead_letter(&taken.message, reason)])
            .await;
        if let Some(subscription) = self.subscription_of(taken.receipt) {
            match &buried {
                Ok(()) => subscription.ack([taken.receipt.tag]),
                Err(_) => subscription.give_back([taken.receipt.tag]),
            }
        }
        buried
    }

    fn is_ready(&self) -> bool {
        self.subscribed.load(Ordering::Relaxed) && self.link.is_ready()
    }
}

fn anew(taken: &Taken<PublishedEvents>) -> Post {
    republished(&taken.message, taken.held_before())
}
