//! PostgreSQL through an r2d2 pool. Blocking calls run on tokio's blocking threads, as many at
//! once as there are connections, so a database that hangs holds up a bounded number of them.

use std::fmt;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use diesel::connection::SimpleConnection as _;
use diesel::prelude::*;
use diesel::r2d2::Pool;
use diesel_migrations::{EmbeddedMigrations, MigrationHarness as _, embed_migrations};
use tokio::sync::Semaphore;

use self::connections::Manager;
use crate::error::StoreError;

pub(crate) mod bulk;
mod connections;
pub(crate) mod days;
mod given;
pub(crate) mod intake;
pub(crate) mod overdue;
#[path = "../queries/mod.rs"]
pub(crate) mod queries;
mod recording;
mod tls;

pub use tls::InvalidDatabaseUrl;

pub(crate) type Conn = diesel::PgConnection;

const MIGRATIONS: EmbeddedMigrations = embed_migrations!("migrations/postgres");

/// The advisory lock under which migrations run: two processes that start at once take turns.
const MIGRATION_LOCK: i64 = 0x686f_6f6b_6c69_6e65;

/// How a PostgreSQL home is reached.
#[derive(Clone)]
pub struct PostgresSettings {
    /// `postgres://…`; with TLS where it says `sslmode=verify-full&sslrootcert=FILE`, or `system`
    /// for the certificates of this machine.
    pub url: String,
    /// How many connections at most.
    pub connections: u32,
    /// How long a caller waits for one.
    pub wait: Duration,
    /// How long a statement may take.
    pub statement_timeout: Duration,
    /// For which values statements are planned.
    pub plans: Plans,
}

/// For which values the plan of a statement is made, which its connection keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Plans {
    /// For those of each call, where that seems to be worth it: what is asked differs, and so do
    /// the indexes that serve it.
    OfEach,
    /// Once for all: for who asks the same few things all the time. Planning took half of what a
    /// small batch cost.
    OnceForAll,
}

impl fmt::Debug for PostgresSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PostgresSettings")
            .field("connections", &self.connections)
            .finish_non_exhaustive()
    }
}

/// How long a database that is there may take to say what time it is.
const PROMPT: Duration = Duration::from_secs(3);

#[derive(Clone)]
pub(crate) struct Postgres {
    pool: Pool<Manager>,
    turns: Arc<Semaphore>,
    wait: Duration,
    ready: Arc<AtomicBool>,
    _tunnel: Option<Arc<tls::Tunnel>>,
}

impl Postgres {
    pub(crate) fn new(settings: &PostgresSettings) -> Result<Self, InvalidDatabaseUrl> {
        let way = tls::open(&settings.url)?;
        let pool = Pool::builder()
            .max_size(settings.connections)
            .min_idle(Some(1))
            .connection_timeout(settings.wait)
            .build_unchecked(Manager::new(&way.url, settings));
        Ok(Self {
            pool,
            turns: Arc::new(Semaphore::new(settings.connections as usize)),
            wait: settings.wait,
            ready: Arc::new(AtomicBool::new(false)),
            _tunnel: way.tunnel.map(Arc::new),
        })
    }

    pub(crate) async fn run<T, F>(&self, work: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnOnce(&mut Conn) -> Result<T, StoreError> + Send + 'static,
    {
        let turn = tokio::time::timeout(self.wait, Arc::clone(&self.turns).acquire_owned());
        let turn = match turn.await {
            Ok(Ok(turn)) => turn,
            Ok(Err(_)) | Err(_) => return self.judge(Err(unavailable("every connection is busy"))),
        };
        let pool = self.pool.clone();
        let result = tokio::task::spawn_blocking(move || {
            let _turn = turn;
            let mut connection = pool.get().map_err(unavailable)?;
            work(&mut connection.conn)
        });
        self.judge(
            result
                .await
                .unwrap_or_else(|died| Err(StoreError::Refused(died.to_string()))),
        )
    }

    /// What the last call met says whether the database is there.
    fn judge<T>(&self, result: Result<T, StoreError>) -> Result<T, StoreError> {
        let reached = !matches!(result, Err(StoreError::Unavailable(_)));
        self.ready.store(reached, Ordering::Relaxed);
        result
    }

    /// The database's clock, in microseconds since 1970, unless it is not there. One that says
    /// nothing would hold up the question as long as its connection seems to live, so it counts as
    /// away meanwhile.
    pub(crate) async fn clock(&self) -> Option<i64> {
        let mut asked = pin!(self.run(clock));
        match tokio::time::timeout(PROMPT, &mut asked).await {
            Ok(answer) => answer.ok(),
            Err(_) => {
                self.ready.store(false, Ordering::Relaxed);
                // A late answer says that it is there again, but not what time it is.
                asked.await.ok().and(None)
            }
        }
    }

    pub(crate) fn is_ready(&self) -> bool {
        self.ready.load(Ordering::Relaxed)
    }
}

pub(crate) fn migrate(conn: &mut Conn) -> Result<(), StoreError> {
    // A migration may take longer than a statement of every day, and so may the wait for the lock.
    conn.batch_execute(&format!(
        "SET statement_timeout = 0; SELECT pg_advisory_lock({MIGRATION_LOCK})"
    ))?;
    let migrated = conn.run_pending_migrations(MIGRATIONS).map(drop);
    conn.batch_execute(&format!(
        "SELECT pg_advisory_unlock({MIGRATION_LOCK}); RESET statement_timeout"
    ))?;
    migrated.map_err(|why| StoreError::Refused(why.to_string()))
}

pub(crate) fn check_schema(conn: &mut Conn) -> Result<(), StoreError> {
    match conn.has_pending_migration(MIGRATIONS) {
        Ok(false) => Ok(()),
        Ok(true) => Err(StoreError::NotMigrated),
        Err(why) => Err(unavailable(why)),
    }
}

#[derive(QueryableByName)]
struct Clock {
    #[diesel(sql_type = diesel::sql_types::BigInt)]
    micros: i64,
}

fn clock(conn: &mut Conn) -> Result<i64, StoreError> {
    let clock: Clock = diesel::sql_query(
        "SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint AS micros",
    )
    .get_result(conn)?;
    Ok(clock.micros)
}

fn unavailable(why: impl std::fmt::Display) -> StoreError {
    StoreError::Unavailable(why.to_string().trim_end().to_owned())
}
