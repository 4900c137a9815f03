//! RabbitMQ.
//!
//! One connection carries everything. It dies now and then; what then counts is that nobody holds
//! on to the dead one. So a connection with what belongs to it is a `session`, everybody asks
//! the `link` for the present one, and a task of ours replaces it. A publisher without a session
//! says so at once, a source waits for the next.
//!
//! Only `topology` knows which queues there are and how they hang together, only `delay` how a
//! delay becomes a route through them.

mod address;
mod dead;
mod delay;
mod dial;
mod intake;
mod ledger;
mod letter;
mod link;
mod outbox;
mod publisher;
mod session;
mod source;
mod subscription;
mod topology;
mod workflow;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use hookline_core::delivery::OwedAttempt;

use crate::contract::{EventSource, Publisher, Source};
use crate::rabbit::address::Address;
use crate::rabbit::link::Link;
use crate::rabbit::outbox::Outbox;
use crate::rabbit::publisher::RabbitPublisher;
use crate::rabbit::source::QueueSource;

pub use dead::{DeadLetter, DeadQueue, Inspection};

/// Which broker, and how patient we are with it.
#[derive(Clone)]
pub struct RabbitSettings {
    /// `amqp://` or `amqps://`, with user, password and vhost. Its only parameters are `heartbeat`
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
    /// Nobody answered as a broker does.
    #[error("the broker did not answer within {0:?}")]
    NoAnswer(Duration),
    /// The broker could not be reached, or did not let us in.
    #[error("cannot connect to the broker")]
    Connect(#[source] lapin::Error),
    /// The broker has exchanges or queues of our names that differ from ours.
    #[error("cannot declare the exchanges and queues")]
    Topology(#[source] lapin::Error),
}

/// A connection to RabbitMQ that mends itself.
#[derive(Debug, Clone)]
pub struct Rabbit {
    link: Link,
    outbox: Outbox,
}

impl Rabbit {
    /// Connects once and declares the topology; from then on a lost connection is replaced until
    /// [`Rabbit::close`], or until this and all that came from it is dropped.
    ///
    /// # Errors
    /// [`RabbitError`]; whether and when to try again is the caller's decision.
    pub async fn connect(settings: RabbitSettings) -> Result<Self, RabbitError> {
        let address = Address::parse(&settings.url, settings.name)?;
        let link = Link::establish(address).await?;
        let outbox = Outbox::new(link.clone(), settings.confirm_timeout);
        Ok(Self { link, outbox })
    }

    /// Hands work on.
    pub fn publisher(&self) -> Arc<dyn Publisher> {
        Arc::new(RabbitPublisher::new(self.outbox.clone()))
    }

    /// What workflow services publish, at most `prefetch` messages at a time in our hands.
    pub fn events(&self, prefetch: u16) -> Arc<dyn EventSource> {
        Arc::new(QueueSource::new(self.outbox.clone(), prefetch))
    }

    /// The attempts that are owed now, at most `prefetch` at a time in our hands.
    pub fn deliveries(&self, prefetch: u16) -> Arc<dyn Source<OwedAttempt>> {
        Arc::new(QueueSource::new(self.outbox.clone(), prefetch))
    }

    /// Whether the broker takes and gives messages at this moment.
    pub fn is_ready(&self) -> bool {
        self.link.is_ready()
    }

    /// Closes the connection after what was acked has been said. Messages in anybody's hands go
    /// back to their queues; sources wait for ever from now on.
    pub async fn close(&self) {
        self.link.close().await;
    }
}
