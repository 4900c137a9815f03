//! The present session, and the task that replaces it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use backon::{BackoffBuilder, ExponentialBackoff, ExponentialBuilder};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::rabbit::RabbitError;
use crate::rabbit::address::Address;
use crate::rabbit::session::{Ending, Session};

/// A session that lived for less did not prove that all is well again, so the backoff goes on.
const PROVEN_AFTER: Duration = Duration::from_secs(30);

/// Waits between attempts: jittered, so that all replicas do not come back in one moment, and at
/// most twice the longest, so that work goes on soon after the broker is back.
pub(super) fn backoff() -> ExponentialBackoff {
    ExponentialBuilder::default()
        .with_min_delay(Duration::from_millis(100))
        .with_max_delay(Duration::from_secs(1))
        .with_jitter()
        .without_max_times()
        .build()
}

/// What everybody asks for the present session.
#[derive(Debug, Clone)]
pub(super) struct Link {
    sessions: watch::Receiver<Option<Arc<Session>>>,
    closing: CancellationToken,
}

impl Link {
    pub(super) async fn establish(address: Address) -> Result<Self, RabbitError> {
        let session = Arc::new(Session::open(&address, None).await?);
        tracing::info!(
            broker.host = address.uri.authority.host,
            broker.vhost = address.uri.vhost,
            encrypted = address.is_encrypted(),
            "connected to the broker"
        );
        let (sender, sessions) = watch::channel(Some(Arc::clone(&session)));
        let closing = CancellationToken::new();
        let keeper = Keeper {
            address,
            sessions: sender,
            closing: closing.clone(),
        };
        tokio::spawn(keeper.keep(session));
        Ok(Self { sessions, closing })
    }

    /// The session, if there is one that can publish.
    pub(super) fn usable(&self) -> Option<Arc<Session>> {
        self.sessions
            .borrow()
            .clone()
            .filter(|session| session.is_usable())
    }

    pub(super) fn is_ready(&self) -> bool {
        self.usable().is_some()
    }

    /// Waits for a session; for ever once the link is closed.
    pub(super) async fn session(&self) -> Arc<Session> {
        let mut sessions = self.sessions.clone();
        let waited = sessions.wait_for(Option::is_some).await;
        if let Some(session) = waited.ok().and_then(|session| session.clone()) {
            return session;
        }
        std::future::pending().await
    }

    pub(super) async fn close(&self) {
        self.closing.cancel();
        let mut sessions = self.sessions.clone();
        while sessions.changed().await.is_ok() {}
    }
}

/// Owns the sender: as long as it lives, there may be another session.
struct Keeper {
    address: Address,
    sessions: watch::Sender<Option<Arc<Session>>>,
    closing: CancellationToken,
}

impl Keeper {
    async fn keep(self, mut session: Arc<Session>) {
        let mut waits = backoff();
        loop {
            let since = Instant::now();
            let ending = tokio::select! {
                ending = session.ended() => ending,
                () = self.no_longer_wanted() => break,
            };
            self.sessions.send_replace(None);
            match ending {
                Ending::Lost => tracing::warn!("lost the connection to the broker"),
                Ending::Unreadable => tracing::error!(
                    "lost the connection to the broker over a message that cannot be read; \
                     messages are taken one by one for a while"
                ),
            }
            if ending == Ending::Unreadable || since.elapsed() >= PROVEN_AFTER {
                waits = backoff();
            }
            tokio::select! {
                next = self.next_session(ending, &mut waits) => session = next,
                () = self.no_longer_wanted() => break,
            }
            tracing::info!("connected to the broker again");
            self.sessions.send_replace(Some(Arc::clone(&session)));
        }
        self.sessions.send_replace(None);
        session.close().await;
    }

    async fn next_session(&self, last: Ending, waits: &mut ExponentialBackoff) -> Arc<Session> {
        loop {
            tokio::time::sleep(waits.next().unwrap_or_default()).await;
            match Session::open(&self.address, Some(last)).await {
                Ok(session) => return Arc::new(session),
                Err(error) => {
                    let cause = std::error::Error::source(&error).map(ToString::to_string);
                    tracing::warn!(%error, cause, "still no connection to the broker");
                }
            }
        }
    }

    async fn no_longer_wanted(&self) {
        tokio::select! {
            () = self.closing.cancelled() => {}
            () = self.sessions.closed() => {}
        }
    }
}
