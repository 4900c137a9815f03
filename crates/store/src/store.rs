//! The store of a service: async methods over PostgreSQL or SQLite.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use hookline_core::timestamp::Timestamp;

use crate::backend::postgres::{InvalidDatabaseUrl, Postgres, PostgresSettings};
use crate::backend::sqlite::{Sharing, Sqlite};
use crate::crypto::encryption::Keyring;
use crate::error::StoreError;
use crate::folder;

/// The difference of two clocks from which services warn.
pub const CLOCK_TOLERANCE: Duration = Duration::from_secs(5);

/// The shards of a counter of a day, subscription, type and status: processes write to different rows.
const SHARDS: i32 = 8;

/// The shards of the roll-up. Every attempt of an organization counts in one row of a shard, so two processes seldom share
/// one. Folding brings the rows of all shards together.
const ROLLUP_SHARDS: i32 = 1_024;

/// Cheap to clone.
#[derive(Clone)]
pub struct Store {
    pub(crate) backend: Backend,
    pub(crate) shard: i32,
    pub(crate) rollup_shard: i32,
    /// None until it is unlocked: a caller that neither signs nor changes a secret needs no key.
    pub(crate) keyring: Option<Arc<Keyring>>,
}

#[derive(Clone)]
pub(crate) enum Backend {
    Postgres(Postgres),
    Sqlite(Sqlite),
}

/// Runs a query on the backend of the store. `write` and `read` choose the connection of SQLite. `|conn, name: path|` names
/// modules of queries, which the macro `backends!` compiles twice: `name` is their part for this backend.
macro_rules! run {
    ($store:expr, $access:ident, |$conn:ident, $($name:ident: $($path:ident)::+),+| $query:expr) => {
        match &$store.backend {
            $crate::store::Backend::Postgres(backend) => {
                backend
                    .run(move |$conn| {
                        $(use $($path)::+::postgres as $name;)+
                        $query
                    })
                    .await
            }
            $crate::store::Backend::Sqlite(backend) => {
                backend
                    .$access(move |$conn| {
                        $(use $($path)::+::sqlite as $name;)+
                        $query
                    })
                    .await
            }
        }
    };
}

pub(crate) use run;

impl Store {
    /// Connects with the first call, not here. Both need a tokio runtime.
    ///
    /// # Errors
    /// When the URL has an unsupported parameter.
    pub fn postgres(settings: &PostgresSettings) -> Result<Self, InvalidDatabaseUrl> {
        Ok(Self::of(Backend::Postgres(Postgres::new(settings)?)))
    }

    /// The tables of a folder that another process may be delivering from.
    pub fn beside_embedded(folder: &Path) -> Result<Self, StoreError> {
        Ok(Self::sqlite(Sqlite::open(folder, Sharing::Shared)?))
    }

    /// The same for an existing folder: it neither creates nor migrates anything.
    pub fn in_existing_folder(folder: &Path) -> Result<Self, StoreError> {
        Ok(Self::sqlite(Sqlite::open(folder, Sharing::Existing)?))
    }

    pub fn is_in_folder(folder: &Path) -> bool {
        folder::is_there(folder)
    }

    pub(crate) fn sqlite(sqlite: Sqlite) -> Self {
        Self::of(Backend::Sqlite(sqlite))
    }

    fn of(backend: Backend) -> Self {
        let chance = uuid::Uuid::new_v4().as_u128();
        let shard = |of: i32| i32::try_from(chance % u128::from(of.unsigned_abs()));
        Self {
            backend,
            shard: shard(SHARDS).unwrap_or_default(),
            rollup_shard: shard(ROLLUP_SHARDS).unwrap_or_default(),
            keyring: None,
        }
    }

    /// Whether this version can work with the store: its schema, its encoding, the rights of the
    /// role, and the way there.
    ///
    /// # Errors
    /// [`StoreError::NotMigrated`] and [`StoreError::Unsuitable`] where an operator has to act.
    pub async fn check(&self) -> Result<(), StoreError> {
        match &self.backend {
            Backend::Postgres(backend) => backend.check().await,
            Backend::Sqlite(_) => Ok(()),
        }
    }

    /// The clock of the database, which answers the write probe with it; in a folder, of this machine. None when the database
    /// cannot be written.
    pub async fn clock(&self) -> Option<Timestamp> {
        match &self.backend {
            Backend::Postgres(backend) => backend.probe().await.map(Timestamp::from_unix_micros),
            Backend::Sqlite(backend) => {
                backend.probe().await;
                Some(SystemTime::now().into())
            }
        }
    }

    /// Sets service time by the store's clock. Call it before the first write.
    pub async fn set_clock(&self) {
        if let Some(theirs) = self.clock().await {
            hookline_clock::follow(theirs);
        }
    }

    /// Sends the write probe once a second, so that [`Store::is_ready`] is up to date and service time follows the store's
    /// clock. Warns when that clock differs from ours by [`CLOCK_TOLERANCE`], because receivers check `webhook-timestamp`,
    /// and when it was set back. Never returns.
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
            if changed(&mut off, clocks_differ(ours, theirs)) && off {
                tracing::warn!(%ours, %theirs, "this machine's clock and the database's differ");
            }
            let steady = hookline_clock::now();
            if changed(&mut back, clocks_differ(steady, theirs)) && back {
                tracing::warn!(
                    %theirs,
                    %steady,
                    "the store's clock was set back: what is due is kept by the time before"
                );
            }
        }
    }

    /// Whether the last write probe succeeded. If so, a failing call may fail because of its own rows.
    pub fn can_be_written(&self) -> bool {
        match &self.backend {
            Backend::Postgres(backend) => backend.can_be_written(),
            Backend::Sqlite(backend) => backend.is_ready(),
        }
    }

    /// The most rows that callers should write with one call. SQLite has one writer: all other callers wait for it.
    pub fn rows_per_write(&self) -> usize {
        match &self.backend {
            Backend::Postgres(_) => 1_024,
            Backend::Sqlite(_) => 256,
        }
    }

    /// Whether the store can be written, and no kind of call fails.
    pub fn is_ready(&self) -> bool {
        match &self.backend {
            Backend::Postgres(backend) => backend.is_ready(),
            Backend::Sqlite(backend) => backend.is_ready(),
        }
    }
}

/// Whether two clocks are [`CLOCK_TOLERANCE`] or more apart.
pub fn clocks_differ(one: Timestamp, other: Timestamp) -> bool {
    one.remaining(other).max(other.remaining(one)) >= CLOCK_TOLERANCE
}

/// Stores the new value; true when it differs.
fn changed(value: &mut bool, new: bool) -> bool {
    std::mem::replace(value, new) != new
}
