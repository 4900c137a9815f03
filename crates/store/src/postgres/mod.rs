//! PostgreSQL through an r2d2 pool. Blocking calls run on tokio's blocking threads, as many at
//! once as there are connections, so a database that hangs holds up a bounded number of them.

use std::fmt;
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use diesel::connection::SimpleConnection as _;
use diesel::prelude::*;
use diesel::r2d2::{NopErrorHandler, Pool};
use diesel_migrations::{EmbeddedMigrations, MigrationHarness as _, embed_migrations};

use self::connections::{Generation, Manager};
use crate::error::StoreError;
use crate::health::{Health, Observed};
use crate::turns::{Share, Turns};

pub(crate) mod backlog;
pub(crate) mod bulk;
mod connections;
#[cfg(test)]
mod constraints;
pub(crate) mod days;
mod given;
pub(crate) mod intake;
pub(crate) mod locks;
pub(crate) mod partitions;
#[path = "../queries/mod.rs"]
pub(crate) mod queries;
mod recording;
mod suitability;
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
    /// What `pg_stat_activity` shows of our sessions, unless the URL has an `application_name`.
    pub application_name: String,
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

/// How long a database that is there may take for the write probe.
const PROMPT: Duration = Duration::from_secs(3);

#[derive(Clone)]
pub(crate) struct Postgres {
    pool: Pool<Manager>,
    /// The pool's own, for connections beside it.
    manager: Manager,
    generation: Generation,
    turns: Turns,
    wait: Duration,
    health: Arc<Health>,
    _tunnel: Option<Arc<tls::Tunnel>>,
}

impl Postgres {
    pub(crate) fn new(settings: &PostgresSettings) -> Result<Self, InvalidDatabaseUrl> {
        let way = tls::open(&settings.url)?;
        let generation = Generation::default();
        let manager = Manager::new(&way.url, settings, generation.clone());
        let pool = Pool::builder()
            .max_size(settings.connections)
            .min_idle(Some(1))
            .connection_timeout(settings.wait)
            // The caller that waits for a connection is told why there is none.
            .error_handler(Box::new(NopErrorHandler))
            .build_unchecked(manager.clone());
        Ok(Self {
            pool,
            manager,
            generation,
            turns: Turns::new(settings.connections as usize),
            wait: settings.wait,
            health: Arc::default(),
            _tunnel: way.tunnel.map(Arc::new),
        })
    }

    pub(crate) async fn run<T, F>(&self, work: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnOnce(&mut Conn) -> Result<T, StoreError> + Send + 'static,
    {
        // That a key waits for its own requests says nothing of the store.
        let share = self.share().await?;
        let _running = self.health.begin::<F>();
        let (generation, result) = self.on_a_connection(work, share).await;
        let observed = self.health.observe::<F, T>(&result, Instant::now());
        if observed == Observed::FailedAgain
            && let Some(generation) = generation
        {
            // It failed on two connections, so every other one may be as bad. Where there was none to be had,
            // that says nothing of those that are being made: on a slow machine they never became old enough.
            self.generation.end(generation);
        }
        result
    }

    /// The same for a call whose failure says nothing of the store.
    pub(crate) async fn run_unobserved<T, F>(&self, work: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnOnce(&mut Conn) -> Result<T, StoreError> + Send + 'static,
    {
        let share = self.share().await?;
        self.on_a_connection(work, share).await.1
    }

    async fn share(&self) -> Result<Option<Share>, StoreError> {
        let share = tokio::time::timeout(self.wait, self.turns.share()).await;
        share.map_err(|_| StoreError::unavailable("the API key's share of connections is busy"))
    }

    /// Also the generation of the connection, if there was one.
    async fn on_a_connection<T, F>(
        &self,
        work: F,
        share: Option<Share>,
    ) -> (Option<u64>, Result<T, StoreError>)
    where
        T: Send + 'static,
        F: FnOnce(&mut Conn) -> Result<T, StoreError> + Send + 'static,
    {
        let turn = tokio::time::timeout(self.wait, self.turns.take(share));
        let Ok(turn) = turn.await else {
            let busy = StoreError::unavailable("every connection is busy");
            return (None, Err(busy));
        };
        let pool = self.pool.clone();
        let worked = tokio::task::spawn_blocking(move || {
            let _turn = turn;
            let mut connection = match pool.get() {
                Ok(connection) => connection,
                Err(why) => return (None, Err(StoreError::unavailable(why))),
            };
            let result = work(&mut connection.conn);
            if matches!(&result, Err(why) if why.is_transient()) {
                connection.spoil();
            }
            (Some(connection.generation()), result)
        });
        worked
            .await
            .unwrap_or_else(|died| (None, Err(StoreError::unavailable(died))))
    }

    /// Writes a row and returns the database's clock, in microseconds since 1970, or None where
    /// that fails. A database that hangs holds the call up for as long as its connection seems to
    /// live, so the store is not ready meanwhile.
    pub(crate) async fn probe(&self) -> Option<i64> {
        let mut asked = pin!(self.run(write_probe));
        let answer = match tokio::time::timeout(PROMPT, &mut asked).await {
            Ok(answer) => answer.ok(),
            Err(_) => {
                self.health.probed(false);
                // A late answer says that the database is there again, but not what time it is.
                let is_late = asked.await.is_ok();
                self.health.probed(is_late);
                return None;
            }
        };
        self.health.probed(answer.is_some());
        answer
    }

    /// Whether this version can work with the database as it is.
    ///
    /// # Errors
    /// [`StoreError::NotMigrated`] and [`StoreError::Unsuitable`] where an operator has to act.
    pub(crate) async fn check(&self) -> Result<(), StoreError> {
        self.check_pooling().await?;
        self.run(suitability::check).await
    }

    /// Brings the schema up to date.
    pub(crate) async fn migrate(&self) -> Result<(), StoreError> {
        self.check_pooling().await?;
        self.run(migrate).await
    }

    /// Two connections beside the pool, which may have no more than one.
    async fn check_pooling(&self) -> Result<(), StoreError> {
        let manager = self.manager.clone();
        let checked = tokio::task::spawn_blocking(move || suitability::check_pooling(&manager));
        checked
            .await
            .unwrap_or_else(|died| Err(StoreError::unavailable(died)))
    }

    pub(crate) fn can_be_written(&self) -> bool {
        self.health.can_write()
    }

    pub(crate) fn is_ready(&self) -> bool {
        self.health.is_ready(Instant::now())
    }
}

fn migrate(conn: &mut Conn) -> Result<(), StoreError> {
    suitability::check_encoding(conn)?;
    suitability::check_not_newer(conn)?;
    // A migration may take longer than a statement of every day, and so may the wait for the lock.
    conn.batch_execute(&format!(
        "SET statement_timeout = 0; SET lock_timeout = 0; SELECT pg_advisory_lock({MIGRATION_LOCK})"
    ))?;
    let migrated = conn.run_pending_migrations(MIGRATIONS).map(drop);
    conn.batch_execute(&format!(
        "SELECT pg_advisory_unlock({MIGRATION_LOCK}); RESET statement_timeout; RESET lock_timeout"
    ))?;
    migrated.map_err(|why| StoreError::Refused(why.to_string()))
}

#[derive(QueryableByName)]
struct Clock {
    #[diesel(sql_type = diesel::sql_types::BigInt)]
    micros: i64,
}

/// One statement and one commit, which the database acknowledges as it does those of deliveries.
fn write_probe(conn: &mut Conn) -> Result<i64, StoreError> {
    let clock: Clock = diesel::sql_query(
        "INSERT INTO write_probe (id, at) VALUES (1, (extract(epoch FROM clock_timestamp()) * 1000000)::bigint)
         ON CONFLICT (id) DO UPDATE SET at = excluded.at
         RETURNING at AS micros",
    )
    .get_result(conn)?;
    Ok(clock.micros)
}
