//! The pool's connections, and how each is set up.

use std::time::{Duration, Instant};

use diesel::connection::SimpleConnection as _;
use diesel::r2d2::{ConnectionManager, Error, ManageConnection};

use super::{Conn, Plans, PostgresSettings};

/// A connection that answered so shortly ago is taken to be there still: to ask before each use
/// costs a round trip. Being in use says nothing: statements fail, too, and their connection comes
/// back as if it were whole.
const FRESH: Duration = Duration::from_secs(1);

/// Makes connections, and says which are there still.
pub(super) struct Manager {
    inner: ConnectionManager<Conn>,
    statement_timeout: Duration,
    plans: Plans,
}

pub(super) struct Connection {
    pub(super) conn: Conn,
    answered: Instant,
}

impl Manager {
    pub(super) fn new(url: &str, settings: &PostgresSettings) -> Self {
        Self {
            inner: ConnectionManager::new(with_timeouts(url)),
            statement_timeout: settings.statement_timeout,
            plans: settings.plans,
        }
    }
}

impl ManageConnection for Manager {
    type Connection = Connection;
    type Error = Error;

    fn connect(&self) -> Result<Connection, Error> {
        let mut conn = self.inner.connect()?;
        let timeout = self.statement_timeout.as_millis();
        let plans = match self.plans {
            Plans::OfEach => "auto",
            Plans::OnceForAll => "force_generic_plan",
        };
        // All that we ask is found through an index. A plan is kept with its statement, and one that
        // was made while a table was small would read all of it when it is large. Where a small one
        // is read as a whole all the same, it seems to cost so much that it would be compiled.
        conn.batch_execute(&format!(
            "SET statement_timeout = {timeout}; SET idle_in_transaction_session_timeout = {timeout}; \
             SET synchronous_commit = on; SET enable_seqscan = off; SET jit = off; \
             SET plan_cache_mode = {plans}"
        ))
        .map_err(Error::QueryError)?;
        Ok(Connection {
            conn,
            answered: Instant::now(),
        })
    }

    fn is_valid(&self, connection: &mut Connection) -> Result<(), Error> {
        if connection.answered.elapsed() < FRESH {
            return Ok(());
        }
        self.inner.is_valid(&mut connection.conn)?;
        connection.answered = Instant::now();
        Ok(())
    }

    fn has_broken(&self, connection: &mut Connection) -> bool {
        self.inner.has_broken(&mut connection.conn)
    }
}

/// A peer that vanished must be noticed within a request's deadline: see libpq's connection
/// parameters. What the URL says itself comes last and wins.
fn with_timeouts(url: &str) -> String {
    const PARAMETERS: &str = "connect_timeout=2&tcp_user_timeout=4000&keepalives_idle=5&keepalives_interval=2&keepalives_count=2";
    match url.split_once('?') {
        Some((base, given)) => format!("{base}?{PARAMETERS}&{given}"),
        None => format!("{url}?{PARAMETERS}"),
    }
}
