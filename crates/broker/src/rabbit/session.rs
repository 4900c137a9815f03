//! One life of the connection and the channels that belong to it.

use std::fmt;
use std::pin::pin;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::StreamExt;
use lapin::options::ConfirmSelectOptions;
use lapin::{Channel, Connection, ErrorKind, Event};
use tokio::time::Instant;

use crate::rabbit::RabbitError;
use crate::rabbit::address::Address;
use crate::rabbit::dial::dial;
use crate::rabbit::topology;

/// Declaring asks a cold cluster to elect some twenty leaders.
const DECLARE_TIMEOUT: Duration = Duration::from_secs(60);

const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);

/// How long a session is careful: prefetching nothing, only a message that cannot even be read is
/// charged with the next crash, and the broker soon has enough of it.
const CAREFUL_FOR: Duration = Duration::from_secs(10);

/// lapin tells us of errors; what it forgets to tell is seen within this time.
const LOOK_EVERY: Duration = Duration::from_secs(1);

const LAST_WORD: Duration = Duration::from_millis(100);

/// How a session ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ending {
    /// As connections do.
    Lost,
    /// By bytes that are not what lapin takes for AMQP, such as a content type that is not UTF-8.
    /// The message that they belong to comes again.
    Unreadable,
}

/// A connection whose topology has been declared.
pub(super) struct Session {
    connection: Connection,
    careful_until: Option<Instant>,
    /// Channels with confirms on and nothing under way.
    idle: Mutex<Vec<Channel>>,
}

impl Session {
    pub(super) async fn open(
        address: &Address,
        predecessor: Option<Ending>,
    ) -> Result<Self, RabbitError> {
        let connection = dial(address).await?;
        let session = Self {
            connection,
            careful_until: (predecessor == Some(Ending::Unreadable))
                .then(|| Instant::now() + CAREFUL_FOR),
            idle: Mutex::default(),
        };
        tokio::time::timeout(DECLARE_TIMEOUT, session.declare_topology())
            .await
            .map_err(|_| RabbitError::NoAnswer(DECLARE_TIMEOUT))?
            .map_err(RabbitError::Topology)?;
        Ok(session)
    }

    pub(super) async fn declare_topology(&self) -> lapin::Result<()> {
        topology::declare(&self.connection).await
    }

    /// Not while the broker, short of memory or disk, lets nobody publish.
    pub(super) fn is_usable(&self) -> bool {
        self.connection.status().connected() && !self.connection.status().blocked()
    }

    /// Until when messages are to be taken one by one.
    pub(super) fn careful_until(&self) -> Option<Instant> {
        self.careful_until.filter(|until| Instant::now() < *until)
    }

    pub(super) async fn channel(&self) -> lapin::Result<Channel> {
        self.connection.create_channel().await
    }

    /// A channel with confirms on that nobody else uses.
    pub(super) async fn confirming_channel(&self) -> lapin::Result<Channel> {
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
    pub(super) fn reuse(&self, channel: Channel) {
        self.idle().push(channel);
    }

    /// Returns when the connection is no more.
    pub(super) async fn ended(&self) -> Ending {
        let mut events = pin!(self.connection.events_listener());
        let mut look = tokio::time::interval(LOOK_EVERY);
        while self.connection.status().connected() {
            tokio::select! {
                Some(event) = events.next() => if is_unreadable(&event) {
                    return Ending::Unreadable;
                },
                _ = look.tick() => {}
            }
        }
        // The state changes a moment before we are told why.
        match tokio::time::timeout(LAST_WORD, events.next()).await {
            Ok(Some(event)) if is_unreadable(&event) => Ending::Unreadable,
            _ => Ending::Lost,
        }
    }

    pub(super) async fn close(&self) {
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

fn is_unreadable(event: &Event) -> bool {
    matches!(event, Event::Error(error) if matches!(error.kind(), ErrorKind::ParsingError(_)))
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session").finish_non_exhaustive()
    }
}
