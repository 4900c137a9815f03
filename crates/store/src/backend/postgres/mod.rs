//! PostgreSQL through an r2d2 pool. Blocking calls run on tokio's blocking threads, at most as many as connections, so a
//! database that hangs blocks a bounded number of threads.

use std::fmt;
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use diesel::prelude::*;
use diesel::r2d2::{NopErrorHandler, Pool};
use diesel_migrations::{EmbeddedMigrations, embed_migrations};

use self::connections::{Generation, Manager};
use crate::error::StoreError;
use crate::fair_connections::{FairConnections, KeyShare};
use crate::health::{ObservedCall, StoreHealth};

mod connections;
#[cfg(test)]
pub(crate) mod constraints;
mod migrations;
mod suitability;
mod tls;
pub(crate) mod unnest;

pub use tls::InvalidDatabaseUrl;

pub(crate) type Conn = diesel::PgConnection;

pub(crate) type Db = diesel::pg::Pg;

const MIGRATIONS: EmbeddedMigrations = embed_migrations!("migrations/postgres");

#[derive(Clone)]
pub struct PostgresSettings {
    /// `postgres://…`. TLS needs `sslmode=verify-full` and `sslrootcert=FILE`, or `sslrootcert=system` for the certificates of
    /// this machine.
    pub url: String,
    pub connections: u32,
    /// The longest wait of a caller for a connection.
    pub wait: Duration,
    pub statement_timeout: Duration,
    pub plans: PlanCacheMode,
    /// The name of our sessions in `pg_stat_activity`, unless the URL has an `application_name`.
    pub application_name: String,
}

/// PostgreSQL's `plan_cache_mode` of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PlanCacheMode {
    /// Custom plans while they seem cheaper: queries of the API differ, and so do the indexes that serve them.
    Auto,
    /// One generic plan: services send the same few statements all the time, and planning took half the time of a
    /// small batch.
    ForceGeneric,
}

impl fmt::Debug for PostgresSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PostgresSettings")
            .field("connections", &self.connections)
            .finish_non_exhaustive()
    }
}

/// The deadline of the write probe.
const PROMPT: Duration = Duration::from_secs(3);

#[derive(Clone)]
pub(crate) struct Postgres {
    pool: Pool<Manager>,
    /// The pool's manager, for connections outside of the pool.
    manager: Manager,
    generation: Generation,
    connections: FairConnections,
    wait: Duration,
    health: Arc<StoreHealth>,
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
            // The caller that waits for a connection gets the error.
            .error_handler(Box::new(NopErrorHandler))
            .build_unchecked(manager.clone());
        Ok(Self {
            pool,
            manager,
            generation,
            connections: FairConnections::new(settings.connections as usize),
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
        // A key that waits for its own requests says nothing about the store.
        let share = self.share().await?;
        let _running = self.health.begin::<F>();
        let (generation, result) = self.on_a_connection(work, share).await;
        let observed = self.health.observe::<F, T>(&result, Instant::now());
        if observed == ObservedCall::FailedAgain
            && let Some(generation) = generation
        {
            // It failed on two connections, so all others may be broken, too. A call without a connection says nothing about
            // those that are being opened: on a slow machine these would never become usable.
            self.generation.end(generation);
        }
        result
    }

    /// The same without effect on readiness, for a call that can fail while the store works.
    pub(crate) async fn run_unobserved<T, F>(&self, work: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnOnce(&mut Conn) -> Result<T, StoreError> + Send + 'static,
    {
        let share = self.share().await?;
        self.on_a_connection(work, share).await.1
    }

    async fn share(&self) -> Result<Option<KeyShare>, StoreError> {
        let share = tokio::time::timeout(self.wait, self.connections.share()).await;
        share.map_err(|_| StoreError::unavailable("the API key's share of connections is busy"))
    }

    /// Also returns the generation of the connection, if there was one.
    async fn on_a_connection<T, F>(
        &self,
        work: F,
        share: Option<KeyShare>,
    ) -> (Option<u64>, Result<T, StoreError>)
    where
        T: Send + 'static,
        F: FnOnce(&mut Conn) -> Result<T, StoreError> + Send + 'static,
    {
        let turn = tokio::time::timeout(self.wait, self.connections.take(share));
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

    /// Writes a row and returns the database's clock in microseconds since 1970, or None on an error. While the database
    /// hangs, the call waits for as long as the connection seems alive, and the store is not ready.
    pub(crate) async fn probe(&self) -> Option<i64> {
        let mut asked = pin!(self.run(write_probe));
        let answer = match tokio::time::timeout(PROMPT, &mut asked).await {
            Ok(answer) => answer.ok(),
            Err(_) => {
                self.health.probed(false);
                // A late answer shows that the database works again, but its time is outdated.
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

    pub(crate) async fn migrate(&self) -> Result<(), StoreError> {
        self.check_pooling().await?;
        self.run(migrations::run).await
    }

    /// Uses two connections outside of the pool, because the pool may have only one.
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

#[derive(QueryableByName)]
struct ClockRow {
    #[diesel(sql_type = diesel::sql_types::BigInt)]
    micros: i64,
}

/// One statement with one commit, which is as durable as those of deliveries.
fn write_probe(conn: &mut Conn) -> Result<i64, StoreError> {
    let clock: ClockRow = diesel::sql_query(
        "INSERT INTO write_probe (id, at) VALUES (1, (extract(epoch FROM clock_timestamp()) * 1000000)::bigint)
         ON CONFLICT (id) DO UPDATE SET at = excluded.at
         RETURNING at AS micros",
    )
    .get_result(conn)?;
    Ok(clock.micros)
}
