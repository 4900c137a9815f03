//! Connections of the pool: their session settings, and when one is closed.
//!
//! A session can be broken while its socket works: it is read-only since a failover, its prepared statements are gone, or
//! its plans are stale. Therefore a transient error closes its connection, and an error that repeats closes every older
//! connection.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use diesel::ConnectionError;
use diesel::connection::SimpleConnection as _;
use diesel::r2d2::{ConnectionManager, Error, ManageConnection};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

use super::{Conn, PlanCacheMode, PostgresSettings};

/// A connection that answered within this time is used without a test, which would cost a round trip. The time of its last
/// use does not count: statements fail, too, and their connection returns to the pool.
const FRESH: Duration = Duration::from_secs(1);

/// The current generation of connections. Connections of earlier generations are closed when a caller asks for one.
#[derive(Clone, Default)]
pub(super) struct Generation(Arc<AtomicU64>);

impl Generation {
    /// Closes every connection of this generation and of earlier ones, once: calls that fail at the same time have
    /// connections of one generation, and the new connections must stay.
    pub(super) fn end(&self, generation: u64) {
        let _ = self.0.compare_exchange(
            generation,
            generation.wrapping_add(1),
            Ordering::Relaxed,
            Ordering::Relaxed,
        );
    }

    fn current(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

#[derive(Clone)]
pub(super) struct Manager {
    inner: Arc<ConnectionManager<Conn>>,
    statement_timeout: Duration,
    plans: PlanCacheMode,
    generation: Generation,
}

pub(super) struct PooledConnection {
    pub(super) conn: Conn,
    answered: Instant,
    generation: u64,
    is_spoilt: bool,
}

impl PooledConnection {
    /// Keeps the connection out of the pool.
    pub(super) fn spoil(&mut self) {
        self.is_spoilt = true;
    }

    pub(super) fn generation(&self) -> u64 {
        self.generation
    }
}

impl Manager {
    pub(super) fn new(url: &str, settings: &PostgresSettings, generation: Generation) -> Self {
        Self {
            inner: Arc::new(ConnectionManager::new(with_defaults(
                url,
                &settings.application_name,
            ))),
            statement_timeout: settings.statement_timeout,
            plans: settings.plans,
            generation,
        }
    }
}

impl ManageConnection for Manager {
    type Connection = PooledConnection;
    type Error = Error;

    fn connect(&self) -> Result<PooledConnection, Error> {
        // Read first: a connection that is opened while the generation advances is outdated.
        let generation = self.generation.current();
        let mut conn = self.inner.connect()?;
        let timeout = self.statement_timeout.as_millis();
        // Our own transactions are short. A statement that waits for the lock of a foreign session occupies a connection,
        // so it fails early and is retried.
        let lock_timeout = (timeout / 4).max(1);
        let plans = match self.plans {
            PlanCacheMode::Auto => "auto",
            PlanCacheMode::ForceGeneric => "force_generic_plan",
        };
        // Every query uses an index. A generic plan is kept with its statement, and one from when a table was small would
        // scan the table when it is large. Without seqscan, the scan of a small table has a high estimated cost, for which
        // PostgreSQL would start JIT compilation.
        conn.batch_execute(&format!(
            "SET statement_timeout = {timeout}; SET lock_timeout = {lock_timeout}; SET idle_in_transaction_session_timeout = {timeout}; \
             SET synchronous_commit = on; SET enable_seqscan = off; SET jit = off; \
             SET plan_cache_mode = {plans}"
        ))
        .map_err(Error::QueryError)?;
        Ok(PooledConnection {
            conn,
            answered: Instant::now(),
            generation,
            is_spoilt: false,
        })
    }

    fn is_valid(&self, connection: &mut PooledConnection) -> Result<(), Error> {
        if connection.generation != self.generation.current() {
            let why = "it is older than an error that repeated".to_owned();
            return Err(Error::ConnectionError(ConnectionError::BadConnection(why)));
        }
        if connection.answered.elapsed() < FRESH {
            return Ok(());
        }
        self.inner.is_valid(&mut connection.conn)?;
        connection.answered = Instant::now();
        Ok(())
    }

    fn has_broken(&self, connection: &mut PooledConnection) -> bool {
        connection.is_spoilt || self.inner.has_broken(&mut connection.conn)
    }
}

/// A vanished peer is noticed within a request's deadline, and `pg_stat_activity` shows the service of a session: see
/// libpq's connection parameters. A parameter of the URL comes last and wins.
fn with_defaults(url: &str, application_name: &str) -> String {
    const TIMEOUTS: &str = "connect_timeout=2&tcp_user_timeout=4000&keepalives_idle=5&keepalives_interval=2&keepalives_count=2";
    let name = utf8_percent_encode(application_name, NON_ALPHANUMERIC);
    let parameters = format!("{TIMEOUTS}&fallback_application_name={name}");
    match url.split_once('?') {
        Some((base, given)) => format!("{base}?{parameters}&{given}"),
        None => format!("{url}?{parameters}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_generation_ends_once_however_many_calls_fail_on_it() {
        let generation = Generation::default();
        let first = generation.current();
        generation.end(first);
        let second = generation.current();
        assert_ne!(first, second);
        generation.end(first);
        assert_eq!(generation.current(), second, "new connections are kept");
    }
}
