//! A connection that is replaced when it ends: a task, the supervisor, owns its present session.

use std::sync::Arc;
use std::time::{Duration, Instant};

use backon::{BackoffBuilder, ExponentialBackoff, ExponentialBuilder};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::connection::alarm::Alarm;
use crate::connection::broker_url::{BrokerUrl, host_and_port};
use crate::connection::session::{ConnectionPurpose, Ending, Session};
use crate::error::{HostFailure, HostFailures, RabbitError};

/// After a session that was shorter than this, the backoff goes on.
const HEALTHY_AFTER: Duration = Duration::from_secs(30);

/// Waits between attempts. Jitter spreads the replicas and at most doubles a wait, so no wait is longer than 2 s: work goes
/// on soon after the broker is back.
pub(crate) fn backoff() -> ExponentialBackoff {
    ExponentialBuilder::default()
        .with_min_delay(Duration::from_millis(100))
        .with_max_delay(Duration::from_secs(1))
        .with_jitter()
        .without_max_times()
        .build()
}

/// A session without a supervisor.
pub(crate) async fn open(
    url: BrokerUrl,
    purpose: ConnectionPurpose,
) -> Result<Session, RabbitError> {
    Dialler::new(url, purpose).open(None).await
}

/// Gives access to the present session. Clones share the supervisor, which ends with the last of them.
#[derive(Debug, Clone)]
pub(crate) struct SupervisedConnection {
    sessions: watch::Receiver<Option<Arc<Session>>>,
    alarm: Alarm,
    closing: CancellationToken,
}

impl SupervisedConnection {
    pub(crate) async fn establish(
        url: BrokerUrl,
        purpose: ConnectionPurpose,
    ) -> Result<Self, RabbitError> {
        let mut dialler = Dialler::new(url, purpose);
        let session = Arc::new(dialler.open(None).await?);
        tracing::info!(
            broker.host = session.host(),
            connection = purpose.as_str(),
            "connected to the broker"
        );
        let (sender, sessions) = watch::channel(Some(Arc::clone(&session)));
        let (alarm, closing) = (Alarm::default(), CancellationToken::new());
        let supervisor = Supervisor {
            dialler,
            sessions: sender,
            alarm: alarm.clone(),
            closing: closing.clone(),
        };
        tokio::spawn(supervisor.run(session));
        Ok(Self {
            sessions,
            alarm,
            closing,
        })
    }

    /// The session, if there is one and the broker does not block it.
    pub(crate) fn usable(&self) -> Option<Arc<Session>> {
        // Without a supervisor the session has no successor: the connection must not look ready.
        self.sessions.has_changed().ok()?;
        self.sessions
            .borrow()
            .clone()
            .filter(|session| session.is_usable())
    }

    pub(crate) fn is_ready(&self) -> bool {
        self.usable().is_some()
    }

    /// True also while the broker blocks the connection.
    pub(crate) fn is_connected(&self) -> bool {
        let session = self.sessions.borrow();
        session.as_ref().is_some_and(|one| one.is_connected())
    }

    /// Why the broker takes no messages; none while it does.
    pub(crate) fn blocked(&self) -> Option<String> {
        self.alarm.reason()
    }

    /// Waits for a session; without end once the connection is closed.
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

/// Tries the hosts in turn. It begins with a random one, so that the processes of a fleet spread over the nodes; after a
/// loss it goes on with the next one.
struct Dialler {
    url: BrokerUrl,
    purpose: ConnectionPurpose,
    next: usize,
}

impl Dialler {
    fn new(url: BrokerUrl, purpose: ConnectionPurpose) -> Self {
        let random = Uuid::new_v4().as_u128() % (url.hosts.len() as u128).max(1);
        Self {
            url,
            purpose,
            next: usize::try_from(random).unwrap_or_default(),
        }
    }

    /// A session with the first host that accepts the connection.
    async fn open(&mut self, predecessor: Option<Ending>) -> Result<Session, RabbitError> {
        let Self { url, purpose, .. } = self;
        let count = url.hosts.len();
        let mut failures = Vec::new();
        for _ in 0..count {
            let host = &url.hosts[self.next % count];
            self.next = (self.next + 1) % count;
            match Session::open(url, host, *purpose, predecessor).await {
                Ok(session) => return Ok(session),
                Err(why) => failures.push(HostFailure {
                    host: host_and_port(host),
                    why,
                }),
            }
        }
        Err(RabbitError::Unreachable(HostFailures(failures)))
    }
}

/// Owns the sender: while it lives, there may be another session.
struct Supervisor {
    dialler: Dialler,
    sessions: watch::Sender<Option<Arc<Session>>>,
    alarm: Alarm,
    closing: CancellationToken,
}

impl Supervisor {
    async fn run(mut self, mut session: Arc<Session>) {
        let connection = self.dialler.purpose.as_str();
        let (sessions, closing) = (self.sessions.clone(), self.closing.clone());
        let mut waits = backoff();
        loop {
            let since = Instant::now();
            let (ending, cause) = tokio::select! {
                ended = session.ended(&self.alarm) => ended,
                () = cancelled(&closing, &sessions) => break,
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
                    "lost the connection to the broker over a message that cannot be parsed; \
                     messages are read one by one for 10 s"
                ),
            }
            if ending == Ending::Unreadable || since.elapsed() >= HEALTHY_AFTER {
                waits = backoff();
            }
            tokio::select! {
                next = self.next_session(ending, &mut waits) => session = next,
                () = cancelled(&closing, &sessions) => break,
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

async fn cancelled(closing: &CancellationToken, sessions: &watch::Sender<Option<Arc<Session>>>) {
    tokio::select! {
        () = closing.cancelled() => {}
        () = sessions.closed() => {}
    }
}
