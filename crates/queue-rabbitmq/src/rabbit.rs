//! The connections of a process, and the parts that use them.

use std::sync::Arc;
use std::time::Duration;

use hookline_core::partition::Partitions;
use hookline_queue::{EventConsumer, Publisher, QueueError, WakeUps};
use tokio::sync::watch;

use crate::connection::broker_url::BrokerUrl;
use crate::connection::session::{ConnectionPurpose, Declared};
use crate::connection::supervisor::{SupervisedConnection, open};
use crate::consumer::rabbit_consumer::RabbitConsumer;
use crate::error::RabbitError;
use crate::publisher::confirmed_publisher::ConfirmedPublisher;
use crate::publisher::rabbit_publisher::RabbitPublisher;
use crate::settings::RabbitSettings;
use crate::wake_ups::listener::RabbitWakeUps;
use crate::wake_ups::wake_publisher::WakePublisher;

/// Three connections to RabbitMQ, each of which is replaced when it ends.
#[derive(Debug, Clone)]
pub struct Rabbit {
    pub(crate) consuming: SupervisedConnection,
    publishing: ConfirmedPublisher,
    waking: SupervisedConnection,
}

impl Rabbit {
    /// Connects and declares the topology. From then on a lost connection is replaced, until [`Rabbit::close`] or until this
    /// and all that came from it is dropped.
    ///
    /// # Errors
    /// The first attempt is not repeated.
    pub async fn connect(settings: RabbitSettings) -> Result<Self, RabbitError> {
        let url = BrokerUrl::parse(&settings.url, settings.name)?;
        let publishing =
            SupervisedConnection::establish(url.clone(), ConnectionPurpose::Publish).await?;
        let consuming =
            SupervisedConnection::establish(url.clone(), ConnectionPurpose::Consume).await?;
        let waking = SupervisedConnection::establish(url, ConnectionPurpose::Wake).await?;
        let publishing = ConfirmedPublisher::new(publishing, settings.confirm_timeout);
        Ok(Self {
            consuming,
            publishing,
            waking,
        })
    }

    /// Declares the topology and disconnects, so that services need no right to declare.
    ///
    /// # Errors
    /// As [`Rabbit::connect`].
    pub async fn declare(settings: RabbitSettings) -> Result<Declared, RabbitError> {
        let url = BrokerUrl::parse(&settings.url, settings.name)?;
        let session = open(url, ConnectionPurpose::Consume).await?;
        session.close().await;
        Ok(session.declared())
    }

    /// Checks the right to write to each kind of exchange that [`Rabbit::publisher`] publishes to. No answer counts as
    /// success.
    ///
    /// # Errors
    /// [`QueueError::Refused`] when the user lacks the right.
    pub async fn check_publishing(&self) -> Result<(), QueueError> {
        self.publishing.check_rights().await
    }

    /// Its [`Publisher::wake`] does nothing.
    pub fn publisher(&self) -> Arc<dyn Publisher> {
        self.publisher_with(None)
    }

    /// A publisher that also wakes the owners of partitions. Their number may change at any time.
    pub fn waking_publisher(&self, partitions: watch::Receiver<Partitions>) -> Arc<dyn Publisher> {
        self.publisher_with(Some(WakePublisher::start(self.waking.clone(), partitions)))
    }

    fn publisher_with(&self, wake_ups: Option<WakePublisher>) -> Arc<dyn Publisher> {
        let (publishing, consuming) = (self.publishing.clone(), self.consuming.clone());
        Arc::new(RabbitPublisher::new(publishing, consuming, wake_ups))
    }

    /// Wake-ups for the owner of partitions, through a queue of its own.
    pub fn wake_ups(&self) -> Arc<dyn WakeUps> {
        Arc::new(RabbitWakeUps::start(self.consuming.clone()))
    }

    /// The consumer of `hookline.events`, which holds at most `prefetch` unsettled messages.
    pub fn events(&self, prefetch: u16) -> Arc<dyn EventConsumer> {
        let (publishing, consuming) = (self.publishing.clone(), self.consuming.clone());
        Arc::new(RabbitConsumer::new(publishing, consuming, prefetch))
    }

    /// Whether the two connections for events are open. The one for wake-ups does not count: without it deliveries are late
    /// and not lost. The broker may still block publishing: [`Rabbit::blocked`].
    pub fn is_ready(&self) -> bool {
        self.consuming.is_ready() && self.publishing.connection().is_connected()
    }

    /// Why the broker, short of memory or disk, takes no messages; none while it does.
    pub fn blocked(&self) -> Option<String> {
        self.publishing.connection().blocked()
    }

    /// Closes the connections after all acks were sent. Unsettled messages go back to their queues. Consumers wait without
    /// end from now on.
    pub async fn close(&self) {
        self.publishing.connection().close().await;
        self.waking.close().await;
        self.consuming.close().await;
    }
}

/// How long the broker may take to answer a query.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);

pub(crate) async fn with_timeout<T>(
    work: impl Future<Output = lapin::Result<T>>,
) -> Result<T, QueueError> {
    match tokio::time::timeout(ANSWER_WITHIN, work).await {
        Ok(Ok(done)) => Ok(done),
        Ok(Err(why)) => Err(QueueError::Unavailable(why.to_string())),
        Err(_) => Err(QueueError::Unavailable(format!(
            "no answer within {ANSWER_WITHIN:?}"
        ))),
    }
}
