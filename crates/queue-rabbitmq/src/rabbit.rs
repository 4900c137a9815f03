//! The connections of a process, and the parts that use them.

use std::sync::Arc;
use std::time::Duration;

use hookline_core::partition::Partitions;
use hookline_queue::{EventSource, Publisher, QueueError, WakeUps};
use tokio::sync::watch;

use crate::connection::broker_url::Address;
use crate::connection::session::{Declared, Purpose};
use crate::connection::supervisor::{Link, open};
use crate::consumer::event_consumer::QueueSource;
use crate::error::RabbitError;
use crate::publisher::confirmed::Outbox;
use crate::publisher::queue_publisher::RabbitPublisher;
use crate::settings::RabbitSettings;
use crate::wake_ups::listener::RabbitWakeUps;
use crate::wake_ups::waker::Waker;

/// Connections to RabbitMQ that mend themselves.
#[derive(Debug, Clone)]
pub struct Rabbit {
    pub(crate) consuming: Link,
    outbox: Outbox,
    waking: Link,
}

impl Rabbit {
    /// Connects and declares the topology; from then on a lost connection is replaced until
    /// [`Rabbit::close`], or until this and all that came from it is dropped.
    ///
    /// # Errors
    /// [`RabbitError`]; whether and when to try again is the caller's decision.
    pub async fn connect(settings: RabbitSettings) -> Result<Self, RabbitError> {
        let address = Address::parse(&settings.url, settings.name)?;
        let publishing = Link::establish(address.clone(), Purpose::Publish).await?;
        let consuming = Link::establish(address.clone(), Purpose::Consume).await?;
        let waking = Link::establish(address, Purpose::Wake).await?;
        let outbox = Outbox::new(publishing, settings.confirm_timeout);
        Ok(Self {
            consuming,
            outbox,
            waking,
        })
    }

    /// Declares the topology and hangs up, so that services need no right to declare.
    ///
    /// # Errors
    /// [`RabbitError`], as [`Rabbit::connect`].
    pub async fn declare(settings: RabbitSettings) -> Result<Declared, RabbitError> {
        let address = Address::parse(&settings.url, settings.name)?;
        let session = open(address, Purpose::Consume).await?;
        session.close().await;
        Ok(session.declared())
    }

    /// Checks the right to write to each kind of exchange that [`Rabbit::publisher`] publishes through. A broker that
    /// does not answer now passes.
    ///
    /// # Errors
    /// [`QueueError::Refused`] when the user lacks the right.
    pub async fn check_publishing(&self) -> Result<(), QueueError> {
        self.outbox.check_rights().await
    }

    /// Hands work on. Its [`Publisher::wake`] does nothing.
    pub fn publisher(&self) -> Arc<dyn Publisher> {
        self.publisher_with(None)
    }

    /// Hands work on, and wakes the owners of partitions. The number of partitions may change at any time.
    pub fn waking_publisher(&self, partitions: watch::Receiver<Partitions>) -> Arc<dyn Publisher> {
        self.publisher_with(Some(Waker::start(self.waking.clone(), partitions)))
    }

    fn publisher_with(&self, waker: Option<Waker>) -> Arc<dyn Publisher> {
        let (outbox, consuming) = (self.outbox.clone(), self.consuming.clone());
        Arc::new(RabbitPublisher::new(outbox, consuming, waker))
    }

    /// Wake-ups for the owner of partitions, through a queue of its own.
    pub fn wake_ups(&self) -> Arc<dyn WakeUps> {
        Arc::new(RabbitWakeUps::start(self.consuming.clone()))
    }

    /// What workflow services publish, at most `prefetch` messages at a time in our hands.
    pub fn events(&self, prefetch: u16) -> Arc<dyn EventSource> {
        let (outbox, consuming) = (self.outbox.clone(), self.consuming.clone());
        Arc::new(QueueSource::new(outbox, consuming, prefetch))
    }

    /// Whether the connections for events are there. Without wake-ups deliveries are late and not lost, so the third one
    /// does not count. The broker may block publishing all the same: [`Rabbit::blocked`].
    pub fn is_ready(&self) -> bool {
        self.consuming.is_ready() && self.outbox.publishing().is_connected()
    }

    /// Why the broker, short of memory or disk, takes no messages; none while it does.
    pub fn blocked(&self) -> Option<String> {
        self.outbox.publishing().blocked()
    }

    /// Closes the connections after what was acked has been said. Messages that are not settled go
    /// back to their queues; sources wait for ever from now on.
    pub async fn close(&self) {
        self.outbox.publishing().close().await;
        self.waking.close().await;
        self.consuming.close().await;
    }
}

/// How long the broker may take to answer an operator's question.
const PROMPT: Duration = Duration::from_secs(10);

pub(crate) async fn prompt<T>(
    work: impl Future<Output = lapin::Result<T>>,
) -> Result<T, QueueError> {
    match tokio::time::timeout(PROMPT, work).await {
        Ok(Ok(done)) => Ok(done),
        Ok(Err(why)) => Err(QueueError::Unavailable(why.to_string())),
        Err(_) => Err(QueueError::Unavailable(format!(
            "no answer within {PROMPT:?}"
        ))),
    }
}
