//! The present session, and the task that replaces it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use backon::{BackoffBuilder, ExponentialBackoff, ExponentialBuilder};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::connection::alarm::Alarm;
use crate::connection::broker_url::{Address, name_of};
use crate::connection::session::{Ending, Purpose, Session};
use crate::error::{HostFailure, HostFailures, RabbitError};

/// A session that lived for less did not prove that all is well again, so the backoff goes on.
const PROVEN_AFTER: Duration = Duration::from_secs(30);

/// Waits between attempts: jittered, so that all replicas do not come back in one moment, and at
/// most twice the longest, so that work goes on soon after the broker is back.
pub(crate) fn backoff() -> ExponentialBackoff {
    ExponentialBuilder::default()
        .with_min_delay(Duration::from_millis(100))
        .with_max_delay(Duration::from_secs(1))
        .with_jitter()
        .without_max_times()
        .build()
}

/// A session that nothing replaces.
pub(crate) async fn open(address: Address, purpose: Purpose) -> Result<Session, RabbitError> {
    Dialler::new(address, purpose).open(None).await
}

/// What everybody asks for the present session.
#[derive(Debug, Clone)]
pub(crate) struct Link {
    sessions: watch::Receiver<Option<Arc<Session>>>,
    alarm: Alarm,
    closing: CancellationToken,
}

impl Link {
    pub(crate) async fn establish(address: Address, purpose: Purpose) -> Result<Self, RabbitError> {
        let mut dialler = Dialler::new(address, purpose);
        let session = Arc::new(dialler.open(None).await?);
        tracing::info!(
            broker.host = session.host(),
            connection = purpose.as_str(),
            "connected to the broker"
        );
        let (sender, sessions) = watch::channel(Some(Arc::clone(&session)));
        let (alarm, closing) = (Alarm::default(), CancellationToken::new());
        let keeper = Keeper {
            dialler,
            sessions: sender,
            alarm: alarm.clone(),
            closing: closing.clone(),
        };
        tokio::spawn(keeper.keep(session));
        Ok(Self {
            sessions,
            alarm,
            closing,
        })
    }

    /// The session, if there is one that can be used now.
    pub(crate) fn usable(&self) -> Option<Arc<Session>> {
        // Without its keeper the session has no successor: the link must not look ready.
        self.sessions.has_changed().ok()?;
        self.sessions
            .borrow()
            .clone()
            .filter(|session| session.is_usable())
    }

    pub(crate) fn is_ready(&self) -> bool {
        self.usable().is_some()
    }

    /// Whether there is a connection, though the broker may block it.
    pub(crate) fn is_connected(&self) -> bool {
        let session = self.sessions.borrow();
        session.as_ref().is_some_and(|one| one.is_connected())
    }

    /// Why the broker takes no messages; none while it does.
    pub(crate) fn blocked(&self) -> Option<String> {
        self.alarm.reason()
    }

    /// Waits for a session; for ever once the link is closed.
    pub(crate) async fn session(&self) -> Arc<Session> {
        let mut sessions = self.sessions.clone();
        let waited = sessions.wait_for(Option::is_some).await;
        if let Some(session) = waited.ok().and_then(|session| session.clone()) {
            return session;
        }
        std::future::pending().await
    }

    pub(crate) async fn close(&self) {
        self.closing.cancel();
        let mut sessions = self.sessions.clone();
        while sessions.changed().await.is_ok() {}
    }
}

/// Tries the hosts in turn. A process begins with any of them, so that those of a fleet spread over the
/// nodes; after a loss it goes on with the next one.
struct Dialler {
    address: Address,
    purpose: Purpose,
    next: usize,
}

impl Dialler {
    fn new(address: Address, purpose: Purpose) -> Self {
        let any = Uuid::new_v4().as_u128() % (address.hosts.len() as u128).max(1);
        Self {
            address,
            purpose,
            next: usize::try_from(any).unwrap_or_default(),
        }
    }

    /// A session with the first host that lets us in.
    async fn open(&mut self, predecessor: Option<Ending>) -> Result<Session, RabbitError> {
        let Self {
            address, purpose, ..
        } = self;
        let count = address.hosts.len();
        let mut failures = Vec::new();
        for _ in 0..count {
            let host = &address.hosts[self.next % count];
            self.next = (self.next + 1) % count;
            match Session::open(address, host, *purpose, predecessor).await {
                Ok(session) => return Ok(session),
                Err(why) => failures.push(HostFailure {
                    host: name_of(host),
                    why,
                }),
            }
        }
        Err(RabbitError::Unreachable(HostFailures(failures)))
    }
}

/// Owns the sender: as long as it lives, there may be another session.
struct Keeper {
    dialler: Dialler,
    sessions: watch::Sender<Option<Arc<Session>>>,
    alarm: Alarm,
    closing: CancellationToken,
}

impl Keeper {
    async fn keep(mut self, mut session: Arc<Session>) {
        let connection = self.dialler.purpose.as_str();
        let (sessions, closing) = (self.sessions.clone(), self.closing.clone());
        let mut waits = backoff();
        loop {
            let since = Instant::now();
            let (ending, cause) = tokio::select! {
                ended = session.ended(&self.alarm) => ended,
                () = no_longer_wanted(&closing, &sessions) => break,
            };
            self.sessions.send_replace(None);
            let broker = session.host();
            match ending {
                Ending::Lost => {
                    tracing::warn!(
                        broker.host = broker,
                        connection,
                        cause,
                        "lost the connection to the broker"
                    );
                }
                Ending::Unreadable => tracing::error!(
                    broker.host = broker,
                    connection,
                    cause,
                    "lost the connection to the broker over a message that cannot be read; \
                     messages are taken one by one for a while"
                ),
            }
            if ending == Ending::Unreadable || since.elapsed() >= PROVEN_AFTER {
                waits = backoff();
            }
            tokio::select! {
                next = self.next_session(ending, &mut waits) => session = next,
                () = no_longer_wanted(&closing, &sessions) => break,
            }
            tracing::info!(
                broker.host = session.host(),
                connection,
                "connected to the broker again"
            );
            self.sessions.send_replace(Some(Arc::clone(&session)));
        }
        self.sessions.send_replace(None);
        session.close().await;
    }

    async fn next_session(&mut self, last: Ending, waits: &mut ExponentialBackoff) -> Arc<Session> {
        loop {
            tokio::time::sleep(waits.next().unwrap_or_default()).await;
            match self.dialler.open(Some(last)).await {
                Ok(session) => return Arc::new(session),
                Err(error) => {
                    let connection = self.dialler.purpose.as_str();
                    tracing::warn!(%error, connection, "still no connection to the broker");
                }
            }
        }
    }
}

async fn no_longer_wanted(
    closing: &CancellationToken,
    sessions: &watch::Sender<Option<Arc<Session>>>,
) {
    tokio::select! {
        () = closing.cancelled() => {}
        () = sessions.closed() => {}
    }
}
