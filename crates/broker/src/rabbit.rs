//! RabbitMQ.
//!
//! Three connections carry everything: one what is published, one what is consumed, because an alarm of the broker
//! stops connections that publish, and one the wake-ups, which may be lost and hold nothing up. A connection dies now
//! and then; what then counts is that no caller holds on to the dead one. So a connection with what belongs to it is a `session`,
//! each caller asks the `link` for the present one, and a task of ours replaces it. A publisher without a
//! session says so at once, a source waits for the next.
//!
//! Only `topology` knows which queues there are and how they hang together, only `delay` how a
//! delay becomes a route through them.

mod address;
mod alarm;
mod arguments;
mod cascade;
mod dead;
mod delay;
mod dial;
mod dropped;
mod envelope;
mod event_publisher;
mod intake;
mod ledger;
mod letter;
mod link;
mod old_deliveries;
mod opening;
mod outbox;
mod publisher;
mod refusal;
mod session;
mod source;
mod subscription;
mod topology;
mod wake_buffer;
mod wake_queue;
mod wake_ups;
mod waker;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use hookline_core::partition::Partitions;
use tokio::sync::watch;

use crate::contract::{EventSource, Publisher, QueueError, WakeUps};
use crate::rabbit::address::Address;
use crate::rabbit::link::Link;
use crate::rabbit::outbox::Outbox;
use crate::rabbit::publisher::RabbitPublisher;
use crate::rabbit::session::Purpose;
use crate::rabbit::source::QueueSource;
use crate::rabbit::wake_ups::RabbitWakeUps;
use crate::rabbit::waker::Waker;

pub use dead::{DeadLetter, Inspection};
pub use event_publisher::EventPublisher;
pub use session::Declared;

/// Which broker, and how patient we are with it.
#[derive(Clone)]
pub struct RabbitSettings {
    /// `amqp://` or `amqps://`, with user, password and vhost, and the hosts of a cluster with a comma
    /// between, which are tried in turn. Its only parameters are `heartbeat`
    /// (seconds), `connection_timeout` (milliseconds) and, with `amqps`, `cacertfile`: a file of
    /// certificates (PEM) that vouch for the broker (<https://www.rabbitmq.com/docs/uri-query-parameters>).
    pub url: String,
    /// What the broker's operator sees the connection as.
    pub name: String,
    /// How long a message may take to be durable.
    pub confirm_timeout: Duration,
}

impl fmt::Debug for RabbitSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RabbitSettings")
            .field("name", &self.name)
            .field("confirm_timeout", &self.confirm_timeout)
            .finish_non_exhaustive()
    }
}

/// Why there is no connection. No text of it shows the URL, which holds a password.
#[derive(Debug, thiserror::Error)]
pub enum RabbitError {
    /// The URL is wrong, or asks for what this build cannot do.
    #[error("the broker URL {0}")]
    Address(&'static str),
    /// Nobody to vouch for the broker can be read.
    #[error("the broker URL's cacertfile cannot be read")]
    Roots(#[source] std::io::Error),
    /// No host let us in.
    #[error("cannot connect to the broker: {0}")]
    Unreachable(HostFailures),
}

impl RabbitError {
    /// Whether a host refused what only an operator changes. The hosts of a cluster share users and rights, so one of
    /// them speaks for all.
    pub fn is_refusal(&self) -> bool {
        match self {
            Self::Unreachable(HostFailures(failures)) => failures
                .iter()
                .any(|failure| matches!(failure.why, HostFault::Refused(_))),
            Self::Address(_) | Self::Roots(_) => false,
        }
    }
}

/// How each host failed, in the order in which they were tried.
#[derive(Debug)]
pub struct HostFailures(Vec<HostFailure>);

#[derive(Debug)]
struct HostFailure {
    host: String,
    why: HostFault,
}

impl fmt::Display for HostFailures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, HostFailure { host, why }) in self.0.iter().enumerate() {
            let separator = if index == 0 { "" } else { "; " };
            write!(f, "{separator}{host}: {why}")?;
        }
        Ok(())
    }
}

/// What is wrong with one host.
#[derive(Debug, thiserror::Error)]
enum HostFault {
    /// Nothing there answered as a broker does.
    #[error("no answer within {0:?}")]
    NoAnswer(Duration),
    /// It could not be reached, or did not let us in.
    #[error("{0}")]
    Connect(lapin::Error),
    /// It refuses the user, the vhost or a right. The text says what an operator does about it.
    #[error("{0}")]
    Refused(String),
    /// It has exchanges or queues of our names that differ from ours.
    #[error("cannot declare the exchanges and queues: {0}")]
    Topology(lapin::Error),
}

/// Checks a broker URL without dialling.
///
/// # Errors
/// [`RabbitError`] that trying again does not mend.
pub fn check(url: &str) -> Result<(), RabbitError> {
    Address::parse(url, String::new()).map(drop)
}

/// Connections to RabbitMQ that mend themselves.
#[derive(Debug, Clone)]
pub struct Rabbit {
    consuming: Link,
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
        let session = link::open(address, Purpose::Consume).await?;
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

async fn prompt<T>(work: impl Future<Output = lapin::Result<T>>) -> Result<T, QueueError> {
    match tokio::time::timeout(PROMPT, work).await {
        Ok(Ok(done)) => Ok(done),
        Ok(Err(why)) => Err(QueueError::Unavailable(why.to_string())),
        Err(_) => Err(QueueError::Unavailable(format!(
            "no answer within {PROMPT:?}"
        ))),
    }
}
