//! One connection to the broker, and its channels.

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
use crate::connection::broker_url::{BrokerUrl, host_and_port};
use crate::connection::dial::dial;
use crate::connection::refusal;
use crate::delay::TOP_LEVEL;
use crate::error::HostFault;
use crate::topology;

/// A declaration makes a cold cluster elect some twenty leaders.
const DECLARE_TIMEOUT: Duration = Duration::from_secs(60);

/// For missing queues, on a connection that has answered before.
const DECLARE_AGAIN_TIMEOUT: Duration = Duration::from_secs(10);

/// For a passive declaration of the exchanges and the main queue.
const FIND_TIMEOUT: Duration = Duration::from_secs(5);

const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);

/// How long a session reads messages one by one. With a prefetch of one, the broker counts the next loss of the connection
/// against the unreadable message only, and soon dead-letters it.
const ONE_BY_ONE_FOR: Duration = Duration::from_secs(10);

/// lapin reports errors as events. A change that it does not report is seen within this time.
const POLL_EVERY: Duration = Duration::from_secs(1);

/// How long lapin may take to report why a connection ended.
const REPORT_WITHIN: Duration = Duration::from_millis(100);

/// How often a publishing session sends a probe.
const PROBE_EVERY: Duration = Duration::from_secs(5);

/// A routing key that no queue is bound with and that no queue has as its name.
const TO_NO_QUEUE: &str = "probe";

/// The use of a connection. An alarm of the broker blocks each connection that publishes, so the others never publish.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ConnectionPurpose {
    Publish,
    /// As [`ConnectionPurpose::Publish`], for a user that may write to the exchange for events only.
    PublishEvents,
    /// Wake-ups, which may be lost. They have a connection of their own, so that a full socket never delays events.
    Wake,
    Consume,
}

impl ConnectionPurpose {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            ConnectionPurpose::Publish | ConnectionPurpose::PublishEvents => "publishing",
            ConnectionPurpose::Wake => "waking",
            ConnectionPurpose::Consume => "consuming",
        }
    }
}

/// How the topology came to be there.
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
    Lost,
    /// By bytes that lapin cannot parse, such as a content type that is not UTF-8. Their message comes again.
    Unreadable,
}

/// A connection with a declared topology.
pub(crate) struct Session {
    connection: Connection,
    purpose: ConnectionPurpose,
    /// Host and port.
    host: String,
    declared: Declared,
    one_by_one_until: Option<Instant>,
    /// Channels in confirm mode without an unconfirmed message.
    idle: Mutex<Vec<Channel>>,
}

impl Session {
    pub(crate) async fn open(
        url: &BrokerUrl,
        host: &AMQPUri,
        purpose: ConnectionPurpose,
        predecessor: Option<Ending>,
    ) -> Result<Self, HostFault> {
        let name = format!("{} ({})", url.name, purpose.as_str());
        let connection = dial(url, host, &name).await?;
        let mut session = Self {
            connection,
            purpose,
            host: host_and_port(host),
            declared: Declared::Found,
            one_by_one_until: (predecessor == Some(Ending::Unreadable))
                .then(|| Instant::now() + ONE_BY_ONE_FOR),
            idle: Mutex::default(),
        };
        // The other connections of the process declare it for wake-ups. After a loss it is usually still there.
        let is_known = purpose == ConnectionPurpose::Wake
            || predecessor.is_some() && session.has_topology().await;
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
        if self.purpose == ConnectionPurpose::PublishEvents {
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

    /// Whether the exchanges and the queue for events exist. Unlike a declaration, this ends while a node of the cluster is
    /// frozen: to repeat a binding takes a lock of all nodes.
    async fn has_topology(&self) -> bool {
        if self.purpose == ConnectionPurpose::PublishEvents {
            return false;
        }
        let found = topology::find_main(&self.connection);
        matches!(tokio::time::timeout(FIND_TIMEOUT, found).await, Ok(Ok(())))
    }

    /// Declares exchanges and queues that were deleted. If this fails, the caller's next try fails, too.
    pub(crate) async fn declare_again(&self) {
        if self.has_topology().await {
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

    /// False while the broker, short of memory or disk, does not read from the connection.
    pub(crate) fn is_usable(&self) -> bool {
        self.connection.status().connected() && !self.connection.status().blocked()
    }

    pub(crate) fn is_connected(&self) -> bool {
        self.connection.status().connected()
    }

    /// Until when messages are read one by one, if that is in the future.
    pub(crate) fn one_by_one_until(&self) -> Option<Instant> {
        self.one_by_one_until
            .filter(|until| Instant::now() < *until)
    }

    pub(crate) async fn channel(&self) -> lapin::Result<Channel> {
        self.connection.create_channel().await
    }

    /// A channel in confirm mode for the caller alone.
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

    /// Every message on the channel must be confirmed.
    pub(crate) fn reuse(&self, channel: Channel) {
        self.idle().push(channel);
    }

    /// Returns when the connection has ended, with lapin's reason. Until then, keeps `alarm` up to date for a connection
    /// that publishes events.
    pub(crate) async fn ended(&self, alarm: &Alarm) -> (Ending, Option<String>) {
        let mut events = pin!(self.connection.events_listener());
        let mut poll = tokio::time::interval(POLL_EVERY);
        let mut probing = pin!(self.keep_probing(alarm));
        while self.is_connected() {
            tokio::select! {
                Some(event) = events.next() => match event {
                    Event::ConnectionBlocked(reason) if self.purpose != ConnectionPurpose::Wake => {
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
                () = &mut probing => {}
                _ = poll.tick() => {
                    if self.is_connected() && !self.is_usable() && self.purpose != ConnectionPurpose::Wake {
                        alarm.raise("unknown");
                    }
                }
            }
        }
        // The state changes a moment before lapin reports why.
        match tokio::time::timeout(REPORT_WITHIN, events.next()).await {
            Ok(Some(Event::Error(error))) if is_unreadable(&error) => {
                (Ending::Unreadable, Some(error.to_string()))
            }
            Ok(Some(Event::Error(error))) => (Ending::Lost, Some(error.to_string())),
            _ => (Ending::Lost, None),
        }
    }

    /// RabbitMQ reports an alarm only to connections that publish, and a service may publish nothing for long. This
    /// publishes a probe now and then, which no queue takes. Never returns.
    async fn keep_probing(&self, alarm: &Alarm) {
        if self.purpose != ConnectionPurpose::Publish {
            return std::future::pending().await;
        }
        loop {
            match self.probe().await {
                Ok(()) if self.is_usable() => alarm.end(),
                Ok(()) => {}
                Err(error) if refusal::is_access_refused(&error) => {
                    alarm.raise(&error.to_string());
                }
                Err(error) => {
                    tracing::debug!(%error, "cannot probe whether the broker takes messages");
                }
            }
            tokio::time::sleep(PROBE_EVERY).await;
        }
    }

    async fn probe(&self) -> lapin::Result<()> {
        let channel = self.confirming_channel().await?;
        publish_probe(&channel, topology::DELAYS.level(TOP_LEVEL)).await?;
        self.reuse(channel);
        Ok(())
    }

    pub(crate) async fn close(&self) {
        if self.connection.status().blocked() {
            // The broker would not read the close.
            return;
        }
        let closing = self.connection.close(200, "closing".into());
        match tokio::time::timeout(CLOSE_TIMEOUT, closing).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::debug!(%error, "the connection was closed already"),
            Err(_) => tracing::warn!("the broker did not confirm the end of the connection"),
        }
    }

    fn idle(&self) -> MutexGuard<'_, Vec<Channel>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Publishes a probe and waits for its confirm. The broker checks the right to write first.
pub(crate) async fn publish_probe(channel: &Channel, exchange: String) -> lapin::Result<()> {
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
