//! The store as services see it: async, one method for each thing that is asked of it, whichever
//! home it stands in.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use hookline_core::timestamp::Timestamp;

use crate::error::StoreError;
use crate::folder;
use crate::postgres::{self, InvalidDatabaseUrl, Postgres, PostgresSettings};
use crate::sealed::Keyring;
use crate::sqlite::queue::EmbeddedQueue;
use crate::sqlite::{Sharing, Sqlite};

mod access;
mod backlog;
mod intake;
mod partitions;
mod progress;
mod put_aside;
mod reading;
mod repeats;
mod replays;
mod retention;
mod searching;
mod subscriptions;
mod trials;
mod unlocking;

pub use unlocking::UnlockError;

/// How far two clocks may be apart before the services warn.
pub const CLOCK_TOLERANCE: Duration = Duration::from_secs(5);

/// How many rows of counters a day, subscription, type and status has at most.
const WRITERS: i32 = 8;

/// Everything that Hookline remembers. Cheap to clone.
#[derive(Clone)]
pub struct Store {
    home: Home,
    writer: i32,
    /// None until it is unlocked: who neither signs nor changes a secret needs no key.
    keyring: Option<Arc<Keyring>>,
}

#[derive(Clone)]
enum Home {
    Postgres(Postgres),
    Sqlite(Sqlite),
}

/// Runs a query of `queries/` in whichever home. In a SQLite home, `write` and `read` say on which
/// of its connections.
macro_rules! run {
    ($store:expr, $access:ident, |$conn:ident, $q:ident| $query:expr) => {
        match &$store.home {
            Home::Postgres(home) => {
                home.run(move |$conn| {
                    use postgres::queries as $q;
                    $query
                })
                .await
            }
            Home::Sqlite(home) => {
                home.$access(move |$conn| {
                    use sqlite::queries as $q;
                    $query
                })
                .await
            }
        }
    };
}

use run;

impl Store {
    /// A home in PostgreSQL. Nothing is dialled before the first call, which like this one has to
    /// come from within a tokio runtime.
    ///
    /// # Errors
    /// When the URL asks for something that we cannot do.
    pub fn postgres(settings: &PostgresSettings) -> Result<Self, InvalidDatabaseUrl> {
        Ok(Self::of(Home::Postgres(Postgres::new(settings)?)))
    }

    /// A home in a folder that this process alone delivers from, and its queue.
    ///
    /// # Errors
    /// [`StoreError`] when the folder cannot be used or another process delivers from it.
    pub fn embedded(folder: &Path) -> Result<(Self, EmbeddedQueue), StoreError> {
        let home = Sqlite::open(folder, Sharing::Exclusive)?;
        Ok((
            Self::of(Home::Sqlite(home.clone())),
            EmbeddedQueue::new(home),
        ))
    }

    /// The tables of a folder that another process may be delivering from.
    ///
    /// # Errors
    /// [`StoreError`] when the folder cannot be used.
    pub fn beside_embedded(folder: &Path) -> Result<Self, StoreError> {
        Ok(Self::sqlite(Sqlite::open(folder, Sharing::Shared)?))
    }

    /// The same, where it must be there: nothing is made, and the schema stays as it is.
    ///
    /// # Errors
    /// [`StoreError`] when the folder cannot be used, or its schema is another one.
    pub fn in_existing_folder(folder: &Path) -> Result<Self, StoreError> {
        Ok(Self::sqlite(Sqlite::open(folder, Sharing::Existing)?))
    }

    /// Whether a process has kept its data in this folder.
    pub fn is_in_folder(folder: &Path) -> bool {
        folder::is_there(folder)
    }

    pub(crate) fn sqlite(home: Sqlite) -> Self {
        Self::of(Home::Sqlite(home))
    }

    fn of(home: Home) -> Self {
        let spread = uuid::Uuid::new_v4().as_u128() % u128::from(WRITERS.unsigned_abs());
        Self {
            home,
            writer: i32::try_from(spread).unwrap_or_default(),
            keyring: None,
        }
    }

    /// Brings the schema up to date. A SQLite home does so whenever it is opened.
    ///
    /// # Errors
    /// [`StoreError`] when it cannot.
    pub async fn migrate(&self, now: Timestamp) -> Result<(), StoreError> {
        if let Home::Postgres(home) = &self.home {
            home.migrate().await?;
        }
        self.prepare_days(now).await
    }

    /// Whether this version can work with the store: its schema, its encoding, the rights of the
    /// role, and the way there.
    ///
    /// # Errors
    /// [`StoreError::NotMigrated`] and [`StoreError::Unsuitable`] where an operator has to act.
    pub async fn check(&self) -> Result<(), StoreError> {
        match &self.home {
            Home::Postgres(home) => home.check().await,
            Home::Sqlite(_) => Ok(()),
        }
    }

    /// Makes room for the log of today and the days to come.
    ///
    /// # Errors
    /// [`StoreError`] when the store cannot be written.
    pub async fn prepare_days(&self, now: Timestamp) -> Result<(), StoreError> {
        match &self.home {
            Home::Postgres(home) => {
                home.run(move |conn| postgres::days::prepare_days(conn, now))
                    .await
            }
            Home::Sqlite(_) => Ok(()),
        }
    }

    /// The store's clock: the database's; in a folder, this machine's. A database tells it in answer to
    /// the write probe; None when it cannot be written.
    pub async fn clock(&self) -> Option<Timestamp> {
        match &self.home {
            Home::Postgres(home) => home.probe().await.map(Timestamp::from_unix_micros),
            Home::Sqlite(home) => {
                home.probe().await;
                Some(SystemTime::now().into())
            }
        }
    }

    /// Sets service time by the store's clock, before anything is stored.
    pub async fn set_clock(&self) {
        if let Some(theirs) = self.clock().await {
            hookline_clock::follow(theirs);
        }
    }

    /// Writes to the store and asks for its clock once a second, so that [`Store::is_ready`] speaks of now and service
    /// time follows that clock. Warns when it is [`CLOCK_TOLERANCE`] or more from ours, for receivers
    /// judge `webhook-timestamp` by the true time, and when it was set back. Never ends by itself.
    pub async fn keep_watch(&self) {
        let mut second = tokio::time::interval(Duration::from_secs(1));
        second.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let (mut off, mut back) = (false, false);
        loop {
            second.tick().await;
            let Some(theirs) = self.clock().await else {
                continue;
            };
            tracing::trace!(%theirs, "read the store's clock");
            hookline_clock::follow(theirs);
            let ours = Timestamp::from(SystemTime::now());
            if changed(&mut off, are_apart(ours, theirs)) && off {
                tracing::warn!(%ours, %theirs, "this machine's clock and the database's differ");
            }
            let steady = hookline_clock::now();
            if changed(&mut back, are_apart(steady, theirs)) && back {
                tracing::warn!(
                    %theirs,
                    %steady,
                    "the store's clock was set back: what is due is kept by the time before"
                );
            }
        }
    }

    /// Whether the last write probe succeeded: then a call that fails may fail because of its own rows.
    pub fn can_be_written(&self) -> bool {
        match &self.home {
            Home::Postgres(home) => home.can_be_written(),
            Home::Sqlite(home) => home.is_ready(),
        }
    }

    /// Whether the store can be written, and no kind of call fails.
    pub fn is_ready(&self) -> bool {
        match &self.home {
            Home::Postgres(home) => home.is_ready(),
            Home::Sqlite(home) => home.is_ready(),
        }
    }
}

/// Whether two clocks are [`CLOCK_TOLERANCE`] or more apart.
pub fn are_apart(one: Timestamp, other: Timestamp) -> bool {
    one.remaining(other).max(other.remaining(one)) >= CLOCK_TOLERANCE
}

/// Notes the new value; true when it is another one.
fn changed(value: &mut bool, new: bool) -> bool {
    std::mem::replace(value, new) != new
}
