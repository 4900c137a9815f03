//! The pool's connections: how each is set up, and when one is thrown away.
//!
//! A session can be broken while its socket is well: it is read-only since a failover, its prepared
//! statements are gone, or its plans are stale. So a transient error costs the connection that
//! returned it, and an error that repeats costs every connection made before.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use diesel::ConnectionError;
use diesel::connection::SimpleConnection as _;
use diesel::r2d2::{ConnectionManager, Error, ManageConnection};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

use super::{Conn, Plans, PostgresSettings};

/// A connection that answered so shortly ago is taken to be there still: to ask before each use
/// costs a round trip. Being in use says nothing: statements fail, too, and their connection comes
/// back as if it were whole.
const FRESH: Duration = Duration::from_secs(1);

/// The generation of connections that is in use. Connections of earlier generations are thrown away
/// when a caller asks for one.
#[derive(Clone, Default)]
pub(super) struct Generation(Arc<AtomicU64>);

impl Generation {
    /// Throws away every connection of this generation and of earlier ones. Once: calls that fail at the
    /// same time have connections of one generation, and those that take their place are not to blame.
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

/// Makes connections, and says which are usable still.
#[derive(Clone)]
pub(super) struct Manager {
    inner: Arc<ConnectionManager<Conn>>,
    statement_timeout: Duration,
    plans: Plans,
    generation: Generation,
}

pub(super) struct Connection {
    pub(super) conn: Conn,
    answered: Instant,
    generation: u64,
    is_spoilt: bool,
}

impl Connection {
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
    type Connection = Connection;
    type Error = Error;

    fn connect(&self) -> Result<Connection, Error> {
        // Read first: a connection that is made while the generation advances is outdated.
        let generation = self.generation.current();
        let mut conn = self.inner.connect()?;
        let timeout = self.statement_timeout.as_millis();
        // Our own transactions are short. A statement that waits for the lock of a foreign session occupies a connection,
        // so it fails early and is retried.
        let lock_timeout = (timeout / 4).max(1);
        let plans = match self.plans {
            Plans::OfEach => "auto",
            Plans::OnceForAll => "force_generic_plan",
        };
        // All that we ask is found through an index. A plan is kept with its statement, and one that
        // was made while a table was small would read all of it when it is large. Where a small one
        // is read as a whole all the same, it seems to cost so much that it would be compiled.
        conn.batch_execute(&format!(
            "SET statement_timeout = {timeout}; SET lock_timeout = {lock_timeout}; SET idle_in_transaction_session_timeout = {timeout}; \
             SET synchronous_commit = on; SET enable_seqscan = off; SET jit = off; \
             SET plan_cache_mode = {plans}"
        ))
        .map_err(Error::QueryError)?;
        Ok(Connection {
            conn,
            answered: Instant::now(),
            generation,
            is_spoilt: false,
        })
    }

    fn is_valid(&self, connection: &mut Connection) -> Result<(), Error> {
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

    fn has_broken(&self, connection: &mut Connection) -> bool {
        connection.is_spoilt || self.inner.has_broken(&mut connection.conn)
    }
}

/// A peer that vanished must be noticed within a request's deadline, and an administrator sees in
/// `pg_stat_activity` which service a session belongs to: see libpq's connection parameters. A
/// parameter of the URL itself comes last and wins.
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
