//! One life of the connection and the channels that belong to it.

use std::fmt;
use std::pin::pin;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::StreamExt;
use lapin::options::{BasicPublishOptions, ConfirmSelectOptions};
use lapin::uri::AMQPUri;
use lapin::{BasicProperties, Channel, Connection, ErrorKind, Event};
use tokio::time::Instant;

use crate::connection::alarm::Alarm;
use crate::connection::broker_url::{Address, name_of};
use crate::connection::dial::dial;
use crate::connection::refusal;
use crate::delay::TOP_LEVEL;
use crate::error::HostFault;
use crate::topology;

/// Declaring asks a cold cluster to elect some twenty leaders.
const DECLARE_TIMEOUT: Duration = Duration::from_secs(60);

/// What is missing is declared on a connection that has answered before.
const DECLARE_AGAIN_TIMEOUT: Duration = Duration::from_secs(10);

/// How long the broker may take to say what is there.
const FIND_TIMEOUT: Duration = Duration::from_secs(5);

const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);

/// How long a session is careful: prefetching nothing, only a message that cannot even be read is
/// charged with the next crash, and the broker soon has enough of it.
const CAREFUL_FOR: Duration = Duration::from_secs(10);

/// lapin tells us of errors; what it forgets to tell is seen within this time.
const LOOK_EVERY: Duration = Duration::from_secs(1);

const LAST_WORD: Duration = Duration::from_millis(100);

/// How often a session that publishes asks whether the broker takes messages.
const ASK_EVERY: Duration = Duration::from_secs(5);

/// A routing key that no queue is bound with, and that no queue has as its name.
const TO_NO_QUEUE: &str = "probe";

/// What a connection is for. An alarm of the broker stops connections that publish, whatever else
/// they do; so the others never publish.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    Publish,
    /// As [`Purpose::Publish`], by a user that may write to the exchange for events alone.
    PublishEvents,
    /// Hints that may be lost, so that neither an alarm nor a full socket holds up what must arrive.
    Wake,
    Consume,
}

impl Purpose {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Purpose::Publish | Purpose::PublishEvents => "publishing",
            Purpose::Wake => "waking",
            Purpose::Consume => "consuming",
        }
    }
}

/// What became of the topology.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Declared {
    /// Declared by this user.
    Anew,
    /// Found as another user had declared it.
    Found,
}

/// How a session ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ending {
    /// As connections do.
    Lost,
    /// By bytes that are not what lapin takes for AMQP, such as a content type that is not UTF-8.
    /// The message that they belong to comes again.
    Unreadable,
}

/// A connection whose topology has been declared.
pub(crate) struct Session {
    connection: Connection,
    purpose: Purpose,
    /// The host and port that it leads to.
    host: String,
    declared: Declared,
    careful_until: Option<Instant>,
    /// Channels with confirms on and nothing under way.
    idle: Mutex<Vec<Channel>>,
}

impl Session {
    pub(crate) async fn open(
        address: &Address,
        host: &AMQPUri,
        purpose: Purpose,
        predecessor: Option<Ending>,
    ) -> Result<Self, HostFault> {
        let name = format!("{} ({})", address.name, purpose.as_str());
        let connection = dial(address, host, &name).await?;
        let mut session = Self {
            connection,
            purpose,
            host: name_of(host),
            declared: Declared::Found,
            careful_until: (predecessor == Some(Ending::Unreadable))
                .then(|| Instant::now() + CAREFUL_FOR),
            idle: Mutex::default(),
        };
        // The other connections of the process declare it. After a loss it is there, as a rule.
        let is_known =
            purpose == Purpose::Wake || predecessor.is_some() && session.is_whole().await;
        if !is_known {
            session.declared = tokio::time::timeout(DECLARE_TIMEOUT, session.declare_topology())
                .await
                .map_err(|_| HostFault::NoAnswer(DECLARE_TIMEOUT))??;
        }
        Ok(session)
    }

    /// Declares the topology, or finds all of it where the user may not declare.
    pub(crate) async fn declare_topology(&self) -> Result<Declared, HostFault> {
        let connection = &self.connection;
        if self.purpose == Purpose::PublishEvents {
            let found = topology::find_published(connection).await;
            return found
                .map(|()| Declared::Found)
                .map_err(refusal::of_publisher);
        }
        match topology::declare(connection).await {
            Ok(()) => Ok(Declared::Anew),
            Err(refused) if refusal::is_access_refused(&refused) => {
                let found = topology::find(connection).await;
                found.map_err(|missing| refusal::of_declaration(&refused, missing))?;
                tracing::debug!(%refused, "the topology is there, and the user may not declare it");
                Ok(Declared::Found)
            }
            Err(error) => Err(HostFault::Topology(error)),
        }
    }

    /// Whether the exchanges are there, and the queue for events. To bind what is bound takes a lock of all nodes of a cluster,
    /// so while one of them is frozen a declaration does not end, and this does.
    async fn is_whole(&self) -> bool {
        if self.purpose == Purpose::PublishEvents {
            return false;
        }
        let found = topology::find_main(&self.connection);
        matches!(tokio::time::timeout(FIND_TIMEOUT, found).await, Ok(Ok(())))
    }

    /// Declares what an operator may have deleted. If this fails, the caller's next try fails, too.
    pub(crate) async fn declare_again(&self) {
        if self.is_whole().await {
            return;
        }
        match tokio::time::timeout(DECLARE_AGAIN_TIMEOUT, self.declare_topology()).await {
            Ok(Ok(_)) => {}
            failed => tracing::debug!(?failed, "cannot declare the queues"),
        }
    }

    pub(crate) fn declared(&self) -> Declared {
        self.declared
    }

    pub(crate) fn host(&self) -> &str {
        &self.host
    }

    /// Not while the broker, short of memory or disk, does not read what it is sent.
    pub(crate) fn is_usable(&self) -> bool {
        self.connection.status().connected() && !self.connection.status().blocked()
    }

    pub(crate) fn is_connected(&self) -> bool {
        self.connection.status().connected()
    }

    /// Until when messages are to be taken one by one.
    pub(crate) fn careful_until(&self) -> Option<Instant> {
        self.careful_until.filter(|until| Instant::now() < *until)
    }

    pub(crate) async fn channel(&self) -> lapin::Result<Channel> {
        self.connection.create_channel().await
    }

    /// A channel with confirms on that nobody else uses.
    pub(crate) async fn confirming_channel(&self) -> lapin::Result<Channel> {
        loop {
            let Some(channel) = self.idle().pop() else {
                break;
            };
            if channel.status().connected() {
                return Ok(channel);
            }
        }
        let channel = self.channel().await?;
        channel
            .confirm_select(ConfirmSelectOptions::default())
            .await?;
        Ok(channel)
    }

    /// Only for a channel on which everything has been confirmed.
    pub(crate) fn reuse(&self, channel: Channel) {
        self.idle().push(channel);
    }

    /// Returns when the connection is no more, with what lapin says of it. Notes in `alarm` whether the
    /// broker takes messages meanwhile, where a caller wants to know.
    pub(crate) async fn ended(&self, alarm: &Alarm) -> (Ending, Option<String>) {
        let mut events = pin!(self.connection.events_listener());
        let mut look = tokio::time::interval(LOOK_EVERY);
        let mut asking = pin!(self.keep_asking(alarm));
        while self.is_connected() {
            tokio::select! {
                Some(event) = events.next() => match event {
                    Event::ConnectionBlocked(reason) if self.purpose != Purpose::Wake => {
                        alarm.raise(&reason);
                    }
                    Event::ConnectionUnblocked => alarm.end(),
                    Event::Error(error) if is_unreadable(&error) => {
                        return (Ending::Unreadable, Some(error.to_string()));
                    }
                    Event::Error(error) if !self.is_connected() => {
                        return (Ending::Lost, Some(error.to_string()));
                    }
                    _ => {}
                },
                () = &mut asking => {}
                _ = look.tick() => {
                    if self.is_connected() && !self.is_usable() && self.purpose != Purpose::Wake {
                        alarm.raise("not told");
                    }
                }
            }
        }
        // The state changes a moment before we are told why.
        match tokio::time::timeout(LAST_WORD, events.next()).await {
            Ok(Some(Event::Error(error))) if is_unreadable(&error) => {
                (Ending::Unreadable, Some(error.to_string()))
            }
            Ok(Some(Event::Error(error))) => (Ending::Lost, Some(error.to_string())),
            _ => (Ending::Lost, None),
        }
    }

    /// RabbitMQ tells of an alarm only those that publish, and a service may have nothing to publish for
    /// long. So a message that no queue takes goes out now and then. Never returns.
    async fn keep_asking(&self, alarm: &Alarm) {
        if self.purpose != Purpose::Publish {
            return std::future::pending().await;
        }
        loop {
            match self.ask().await {
                Ok(()) if self.is_usable() => alarm.end(),
                Ok(()) => {}
                Err(error) if refusal::is_access_refused(&error) => {
                    alarm.raise(&error.to_string());
                }
                Err(error) => {
                    tracing::debug!(%error, "cannot ask whether the broker takes messages");
                }
            }
            tokio::time::sleep(ASK_EVERY).await;
        }
    }

    async fn ask(&self) -> lapin::Result<()> {
        let channel = self.confirming_channel().await?;
        publish_to_no_queue(&channel, topology::DELAYS.level(TOP_LEVEL)).await?;
        self.reuse(channel);
        Ok(())
    }

    pub(crate) async fn close(&self) {
        if self.connection.status().blocked() {
            // The broker would not read it.
            return;
        }
        let closing = self.connection.close(200, "closing".into());
        match tokio::time::timeout(CLOSE_TIMEOUT, closing).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::debug!(%error, "the connection was closed already"),
            Err(_) => tracing::warn!("the broker did not confirm that the connection is closed"),
        }
    }

    fn idle(&self) -> MutexGuard<'_, Vec<Channel>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Returns when the broker has confirmed it. The broker checks the right to write first.
pub(crate) async fn publish_to_no_queue(channel: &Channel, exchange: String) -> lapin::Result<()> {
    let (options, properties) = (BasicPublishOptions::default(), BasicProperties::default());
    let key = TO_NO_QUEUE.into();
    let sent = channel.basic_publish(exchange.into(), key, options, &[], properties);
    sent.await?.await?;
    Ok(())
}

fn is_unreadable(error: &lapin::Error) -> bool {
    matches!(error.kind(), ErrorKind::ParsingError(_))
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session").finish_non_exhaustive()
    }
}
