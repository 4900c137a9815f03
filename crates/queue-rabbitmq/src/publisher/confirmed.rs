//! Publishing what must not be lost.
//!
//! A call has a channel to itself while it lasts. So it can send everything and only then wait for
//! the confirms, and a message that the broker returns as unroutable is one of its own: lapin
//! attaches a return to whichever confirm completes next, which on a shared channel may be
//! somebody else's.
//!
//! The work runs in a task: a caller who gives up leaves it to end by itself, because frames that
//! are still queued on a channel that is being closed would take the whole connection with them.

use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use futures::future::try_join_all;
use lapin::options::BasicPublishOptions;
use lapin::{Channel, Confirmation};
use tokio::sync::Semaphore;

use crate::connection::refusal;
use crate::connection::session::{Session, publish_to_no_queue};
use crate::connection::supervisor::Link;
use crate::delay::TOP_LEVEL;
use crate::outgoing::{Audience, Post};
use crate::topology::{DELAYS, WAKE, WAKES, passive};
use hookline_queue::QueueError;

/// Calls that publish at the same time; the others wait for their turn.
const LANES: usize = 8;

/// Messages that are handed to lapin at once. Each takes a kilobyte until it is on its way.
const TOGETHER: usize = 256;

/// How long the broker may take to say that a right is missing.
const CHECK_WITHIN: Duration = Duration::from_secs(3);

/// Why the broker does not have a message.
#[derive(Debug, thiserror::Error)]
enum Unsent {
    #[error("{0}")]
    Broken(#[from] lapin::Error),
    #[error("the broker refused a message")]
    Refused,
    #[error("no queue takes what is published to {0}")]
    Unroutable(String),
}

impl From<Unsent> for QueueError {
    fn from(unsent: Unsent) -> Self {
        let missing_right = match &unsent {
            Unsent::Broken(error) => refusal::missing_right(error),
            Unsent::Refused | Unsent::Unroutable(_) => None,
        };
        missing_right.map_or_else(|| unavailable(unsent), QueueError::Refused)
    }
}

/// Sends posts and returns once the broker has them safely.
#[derive(Clone)]
pub(crate) struct Outbox {
    publishing: Link,
    lanes: Arc<Semaphore>,
    timeout: Duration,
}

impl Outbox {
    pub(crate) fn new(publishing: Link, timeout: Duration) -> Self {
        let lanes = Arc::new(Semaphore::new(LANES));
        Self {
            publishing,
            lanes,
            timeout,
        }
    }

    pub(crate) fn publishing(&self) -> &Link {
        &self.publishing
    }

    /// Returns once all of them are durable.
    pub(crate) async fn send(&self, posts: Vec<Post>) -> Result<(), QueueError> {
        if posts.is_empty() {
            return Ok(());
        }
        let work = async move |channel: Channel| publish(&channel, posts).await;
        self.with_channel(&self.publishing, work).await
    }

    /// Writes to each kind of exchange that is published through, without a queue that takes it.
    pub(crate) async fn check_rights(&self) -> Result<(), QueueError> {
        let work = async move |channel: Channel| {
            let cascades = [DELAYS, WAKES].map(|cascade| cascade.level(TOP_LEVEL));
            for exchange in cascades.into_iter().chain([WAKE.to_owned(), String::new()]) {
                publish_to_no_queue(&channel, exchange).await?;
            }
            Ok::<(), Unsent>(())
        };
        // Blocked by an alarm, the broker confirms nothing: that passes, and readiness shows it.
        let checking = self.with_channel(&self.publishing, work);
        match tokio::time::timeout(CHECK_WITHIN, checking).await {
            Ok(Err(refused @ QueueError::Refused(_))) => Err(refused),
            Ok(Ok(()) | Err(QueueError::Unavailable(_))) | Err(_) => Ok(()),
        }
    }

    /// How many messages wait in a queue. That is no publishing, so another link answers while the
    /// broker blocks ours.
    pub(crate) async fn waiting(
        &self,
        link: &Link,
        queue: &'static str,
    ) -> Result<u64, QueueError> {
        self.with_channel(link, async move |channel: Channel| {
            let queue = channel
                .queue_declare(queue.into(), passive(), Default::default())
                .await?;
            Ok(u64::from(queue.message_count()))
        })
        .await
    }

    async fn with_channel<T, F>(
        &self,
        link: &Link,
        work: impl FnOnce(Channel) -> F + Send + 'static,
    ) -> Result<T, QueueError>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, Unsent>> + Send,
    {
        let lanes = Arc::clone(&self.lanes);
        let done = async move {
            // While the broker blocks, calls that it did not read keep their lanes.
            usable(link)?;
            let lane = lanes.acquire_owned().await;
            let session = usable(link)?;
            let working = tokio::spawn(async move {
                let _lane = lane;
                let channel = session.confirming_channel().await?;
                let result = work(channel.clone()).await;
                match &result {
                    Ok(_) => session.reuse(channel),
                    Err(Unsent::Unroutable(_)) => {
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

fn usable(link: &Link) -> Result<Arc<Session>, QueueError> {
    link.usable().ok_or_else(|| match link.blocked() {
        Some(reason) => unavailable(format_args!("the broker blocks publishing: {reason}")),
        None => unavailable("there is no connection to the broker"),
    })
}

async fn publish(channel: &Channel, posts: Vec<Post>) -> Result<(), Unsent> {
    let mut confirms = Vec::with_capacity(posts.len());
    for posts in posts.chunks(TOGETHER) {
        let sending = posts.iter().map(|post| {
            channel.basic_publish(
                post.exchange.as_str().into(),
                post.routing_key.as_str().into(),
                BasicPublishOptions {
                    mandatory: post.audience == Audience::Ours,
                    immediate: false,
                },
                &post.body,
                post.properties.clone(),
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
                return Err(Unsent::Unroutable(format!("{exchange:?} with {key:?}")));
            }
            Confirmation::Nack(None) | Confirmation::NotRequested => return Err(Unsent::Refused),
        }
    }
    Ok(())
}

fn unavailable(why: impl fmt::Display) -> QueueError {
    QueueError::Unavailable(why.to_string())
}

impl fmt::Debug for Outbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Outbox")
            .field("timeout", &self.timeout)
            .finish_non_exhaustive()
    }
}
