//! One SQLite file in a folder (WAL): one writer with group commit, and a pool of readers.

use std::fs::{File, TryLockError};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use diesel::connection::SimpleConnection as _;
use diesel::migration::MigrationSource;
use diesel::prelude::*;
use diesel::r2d2::{ConnectionManager, CustomizeConnection, Error as R2d2Error, Pool};
use diesel::sql_types::Text;
use diesel_migrations::{EmbeddedMigrations, MigrationHarness as _, embed_migrations};

use crate::error::StoreError;
use crate::fair_connections::FairConnections;
use crate::folder::{self, owner_only, unusable};
use crate::schema_versions::refuse_unknown;

pub(crate) mod prepared;
#[cfg(test)]
mod tests;
mod writer;

use writer::Writer;

pub(crate) type Conn = diesel::SqliteConnection;

pub(crate) type Db = diesel::sqlite::Sqlite;

const MIGRATIONS: EmbeddedMigrations = embed_migrations!("migrations/sqlite");

const READERS: u32 = 4;

/// Access of other processes to the folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sharing {
    /// A process that delivers. Two of them would make deliveries twice.
    Exclusive,
    /// A command such as `hookline org create`, which may also come first.
    Shared,
    /// A command that neither creates nor migrates the folder.
    Existing,
}

#[derive(Clone)]
pub(crate) struct Sqlite {
    writer: Writer,
    readers: Pool<ConnectionManager<Conn>>,
    connections: FairConnections,
    _lock: Option<Arc<File>>,
}

impl Sqlite {
    pub(crate) fn open(folder: &Path, sharing: Sharing) -> Result<Self, StoreError> {
        match sharing {
            Sharing::Exclusive | Sharing::Shared => folder::prepare(folder)?,
            Sharing::Existing if folder::is_there(folder) => {}
            Sharing::Existing => return Err(unusable(folder, "there is no database in it")),
        }
        let lock = match sharing {
            Sharing::Exclusive => Some(Arc::new(lock(folder)?)),
            Sharing::Shared | Sharing::Existing => None,
        };
        let file = folder.join(folder::DATABASE);
        let url = file
            .to_str()
            .ok_or_else(|| unusable(folder, "its name is not UTF-8"))?;
        let writer = Writer::start(url, sharing)?;
        let readers = Pool::builder()
            .max_size(READERS)
            .min_idle(Some(1))
            .test_on_check_out(false)
            .connection_customizer(Box::new(Reader))
            .build_unchecked(ConnectionManager::new(url));
        Ok(Self {
            writer,
            readers,
            connections: FairConnections::new(READERS as usize),
            _lock: lock,
        })
    }

    pub(crate) async fn write<T, F>(&self, work: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnOnce(&mut Conn) -> Result<T, StoreError> + Send + 'static,
    {
        self.writer.run(work).await
    }

    pub(crate) async fn read<T, F>(&self, work: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnOnce(&mut Conn) -> Result<T, StoreError> + Send + 'static,
    {
        let share = self.connections.share().await;
        let turn = self.connections.take(share).await;
        let readers = self.readers.clone();
        tokio::task::spawn_blocking(move || {
            let _turn = turn;
            let mut conn = readers
                .get()
                .map_err(|why| StoreError::Unavailable(why.to_string()))?;
            work(&mut conn)
        })
        .await
        .unwrap_or_else(|died| Err(StoreError::Unavailable(died.to_string())))
    }

    /// Writes if the last transaction failed, so that free disk space is noticed also while no caller writes.
    pub(crate) async fn probe(&self) {
        if !self.is_ready() {
            // The writer logs a failure.
            let _ = self.write(|_| Ok(())).await;
        }
    }

    pub(crate) fn is_ready(&self) -> bool {
        self.writer.is_ready()
    }

    /// The number of transactions that were rolled back as a whole.
    pub(crate) fn failures(&self) -> u64 {
        self.writer.failures()
    }
}

/// Locks the folder for as long as the file is open. The system releases the lock even after SIGKILL.
fn lock(folder: &Path) -> Result<File, StoreError> {
    let path = folder.join("lock");
    let file = owner_only()
        .create(true)
        .truncate(false)
        .open(&path)
        .map_err(|why| unusable(folder, why))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(StoreError::Refused(format!(
            "another process delivers from the folder {}",
            folder.display()
        ))),
        Err(TryLockError::Error(why)) => Err(unusable(folder, why)),
    }
}

pub(crate) fn migrate(conn: &mut Conn) -> Result<(), StoreError> {
    if has_schema(conn)? {
        check_versions(conn)?;
    }
    conn.run_pending_migrations(MIGRATIONS)
        .map(drop)
        .map_err(|why| StoreError::Refused(why.to_string()))
}

/// Checks that the schema is of this version, for a command that does not migrate. It writes nothing: the migration library
/// would create its table.
pub(crate) fn check_schema(conn: &mut Conn) -> Result<(), StoreError> {
    if !has_schema(conn)? {
        return Err(StoreError::Unsuitable(
            "the file hookline.db of the folder is no database of Hookline".to_owned(),
        ));
    }
    check_versions(conn)?;
    match conn.has_pending_migration(MIGRATIONS) {
        Ok(false) => Ok(()),
        Ok(true) => Err(StoreError::Unsuitable(
            "the folder's schema is older than this program: start `hookline serve` or `hookline dev` on \
             it first"
                .to_owned(),
        )),
        Err(why) => Err(StoreError::unavailable(why)),
    }
}

fn has_schema(conn: &mut Conn) -> Result<bool, StoreError> {
    let named =
        "SELECT name AS version FROM sqlite_master WHERE name = '__diesel_schema_migrations'";
    Ok(!diesel::sql_query(named)
        .load::<AppliedMigration>(conn)?
        .is_empty())
}

fn check_versions(conn: &mut Conn) -> Result<(), StoreError> {
    let applied = diesel::sql_query("SELECT version FROM __diesel_schema_migrations");
    let applied = applied.load::<AppliedMigration>(conn)?.into_iter();
    let applied: Vec<String> = applied.map(|one| one.version).collect();
    let known = MigrationSource::<diesel::sqlite::Sqlite>::migrations(&MIGRATIONS);
    let known = known.map_err(|why| StoreError::Refused(why.to_string()))?;
    let known = known.iter().map(|one| one.name().version().to_string());
    refuse_unknown("folder", &applied, &known.collect::<Vec<_>>())
}

#[derive(QueryableByName)]
struct AppliedMigration {
    #[diesel(sql_type = Text)]
    version: String,
}

#[derive(Debug)]
struct Reader;

impl CustomizeConnection<Conn, R2d2Error> for Reader {
    fn on_acquire(&self, conn: &mut Conn) -> Result<(), R2d2Error> {
        conn.batch_execute(
            "PRAGMA busy_timeout = 2000; PRAGMA query_only = ON; PRAGMA cache_size = -8000",
        )
        .map_err(R2d2Error::QueryError)
    }
}

const BUSY: Duration = Duration::from_secs(4);
