//! Publishing with confirms, for messages that must not be lost.
//!
//! Each call has a channel to itself, and can send all messages before it waits for the confirms. A message that the
//! broker returns as unroutable is then one of the call: lapin attaches a return to the confirm that completes next, which
//! on a shared channel may belong to another call.
//!
//! The work runs in a task, which goes on when the caller is dropped: closing a channel that still has queued frames would
//! end the whole connection.

use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use futures::future::try_join_all;
use hookline_queue::QueueError;
use lapin::options::BasicPublishOptions;
use lapin::{Channel, Confirmation};
use tokio::sync::Semaphore;

use crate::connection::refusal;
use crate::connection::session::{Session, publish_probe};
use crate::connection::supervisor::SupervisedConnection;
use crate::delay::TOP_LEVEL;
use crate::outgoing::{Mandatory, Outgoing};
use crate::topology::{DELAYS, WAKE, WAKES, passive};

/// Calls that publish at the same time; further calls wait.
const MAX_CONCURRENT: usize = 8;

/// Messages that are given to lapin at once. Each takes a kilobyte until it is sent.
const MAX_BATCH: usize = 256;

/// How long the broker may take to refuse a right.
const CHECK_WITHIN: Duration = Duration::from_secs(3);

/// Why the broker does not have a message.
#[derive(Debug, thiserror::Error)]
enum PublishError {
    #[error("{0}")]
    Broken(#[from] lapin::Error),
    #[error("the broker refused a message")]
    Refused,
    #[error("no queue takes what is published to {0}")]
    Unroutable(String),
}

impl From<PublishError> for QueueError {
    fn from(error: PublishError) -> Self {
        let missing_right = match &error {
            PublishError::Broken(broken) => refusal::missing_right(broken),
            PublishError::Refused | PublishError::Unroutable(_) => None,
        };
        missing_right.map_or_else(|| unavailable(error), QueueError::Refused)
    }
}

/// Clones share the connection and the limit of concurrent calls.
#[derive(Clone)]
pub(crate) struct ConfirmedPublisher {
    connection: SupervisedConnection,
    permits: Arc<Semaphore>,
    timeout: Duration,
}

impl ConfirmedPublisher {
    pub(crate) fn new(connection: SupervisedConnection, timeout: Duration) -> Self {
        let permits = Arc::new(Semaphore::new(MAX_CONCURRENT));
        Self {
            connection,
            permits,
            timeout,
        }
    }

    pub(crate) fn connection(&self) -> &SupervisedConnection {
        &self.connection
    }

    /// Returns once all messages are durable.
    pub(crate) async fn send(&self, messages: Vec<Outgoing>) -> Result<(), QueueError> {
        if messages.is_empty() {
            return Ok(());
        }
        let work = async move |channel: Channel| publish(&channel, messages).await;
        self.with_channel(&self.connection, work).await
    }

    /// Checks the right to write to each kind of exchange, by probes that no queue takes.
    pub(crate) async fn check_rights(&self) -> Result<(), QueueError> {
        let work = async move |channel: Channel| {
            let cascades = [DELAYS, WAKES].map(|cascade| cascade.level(TOP_LEVEL));
            for exchange in cascades.into_iter().chain([WAKE.to_owned(), String::new()]) {
                publish_probe(&channel, exchange).await?;
            }
            Ok::<(), PublishError>(())
        };
        // Blocked by an alarm, the broker confirms nothing. That is transient, and readiness shows it.
        let checking = self.with_channel(&self.connection, work);
        match tokio::time::timeout(CHECK_WITHIN, checking).await {
            Ok(Err(refused @ QueueError::Refused(_))) => Err(refused),
            Ok(Ok(()) | Err(QueueError::Unavailable(_))) | Err(_) => Ok(()),
        }
    }

    /// How many messages wait in a queue. `connection` should be one that never publishes, because the broker may block
    /// this one.
    pub(crate) async fn waiting(
        &self,
        connection: &SupervisedConnection,
        queue: &'static str,
    ) -> Result<u64, QueueError> {
        self.with_channel(connection, async move |channel: Channel| {
            let queue = channel
                .queue_declare(queue.into(), passive(), Default::default())
                .await?;
            Ok(u64::from(queue.message_count()))
        })
        .await
    }

    async fn with_channel<T, F>(
        &self,
        connection: &SupervisedConnection,
        work: impl FnOnce(Channel) -> F + Send + 'static,
    ) -> Result<T, QueueError>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, PublishError>> + Send,
    {
        let permits = Arc::clone(&self.permits);
        let done = async move {
            // Before waiting for a permit: while the broker blocks, calls that it did not read keep theirs.
            usable(connection)?;
            let permit = permits.acquire_owned().await;
            let session = usable(connection)?;
            let working = tokio::spawn(async move {
                let _permit = permit;
                let channel = session.confirming_channel().await?;
                let result = work(channel.clone()).await;
                match &result {
                    Ok(_) => session.reuse(channel),
                    Err(PublishError::Unroutable(_)) => {
                        // A queue was deleted. If this fails, too, the next call finds it missing again.
                        if let Err(error) = session.declare_topology().await {
                            tracing::debug!(%error, "cannot declare the queues");
                        }
                    }
                    Err(_) => {}
                }
                result
            });
            working
                .await
                .map_err(unavailable)?
                .map_err(QueueError::from)
        };
        tokio::time::timeout(self.timeout, done)
            .await
            .unwrap_or_else(|_| {
                let waited = self.timeout;
                Err(unavailable(format_args!(
                    "no confirmation within {waited:?}"
                )))
            })
    }
}

fn usable(connection: &SupervisedConnection) -> Result<Arc<Session>, QueueError> {
    connection
        .usable()
        .ok_or_else(|| match connection.blocked() {
            Some(reason) => unavailable(format_args!("the broker blocks publishing: {reason}")),
            None => unavailable("there is no connection to the broker"),
        })
}

async fn publish(channel: &Channel, messages: Vec<Outgoing>) -> Result<(), PublishError> {
    let mut confirms = Vec::with_capacity(messages.len());
    for some in messages.chunks(MAX_BATCH) {
        let sending = some.iter().map(|message| {
            channel.basic_publish(
                message.exchange.as_str().into(),
                message.routing_key.as_str().into(),
                BasicPublishOptions {
                    mandatory: message.mandatory == Mandatory::Yes,
                    immediate: false,
                },
                &message.body,
                message.properties.clone(),
            )
        });
        confirms.extend(try_join_all(sending).await?);
    }
    for confirmation in try_join_all(confirms).await? {
        match confirmation {
            Confirmation::Ack(None) => {}
            Confirmation::Ack(Some(returned)) | Confirmation::Nack(Some(returned)) => {
                let exchange = &returned.delivery.exchange;
                let key = &returned.delivery.routing_key;
                return Err(PublishError::Unroutable(format!(
                    "{exchange:?} with {key:?}"
                )));
            }
            Confirmation::Nack(None) | Confirmation::NotRequested => {
                return Err(PublishError::Refused);
            }
        }
    }
    Ok(())
}

fn unavailable(why: impl fmt::Display) -> QueueError {
    QueueError::Unavailable(why.to_string())
}

impl fmt::Debug for ConfirmedPublisher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConfirmedPublisher")
            .field("timeout", &self.timeout)
            .finish_non_exhaustive()
    }
}
