//! Transient faults that PostgreSQL raises itself, with its own codes and texts, for as long as a test wants them. None
//! is a fault of the row that meets it.

use std::process::Stdio;

use anyhow::{Context as _, ensure};
use tokio::process::{Child, Command};

use crate::waiting::until;

/// A fault of a database.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum DatabaseFault {
    /// Writers and another session lock the same two things in opposite orders, again and again. PostgreSQL always
    /// chooses the writer as the victim (40P01).
    Deadlock,
    /// `pg_cancel_backend` of each statement that writes (57014).
    Cancel,
    /// The right to write is revoked (42501).
    Revoke,
    /// New sessions are read-only, as those of a demoted server, and old ones end (25006).
    ReadOnly,
    /// `pg_terminate_backend` of each session, several times a second (57P01).
    Kill,
    /// A session that wrote has lost its prepared statements (26000).
    Unprepare,
}

/// A database as its superuser sees it.
#[derive(Debug, Clone)]
pub struct Database {
    admin: String,
    name: String,
}

/// A fault that goes on until [`OngoingFault::end`].
#[must_use]
pub struct OngoingFault {
    fault: DatabaseFault,
    database: Database,
    session: Option<Child>,
}

/// The name of the sessions that raise faults.
const SESSION: &str = "hookline-fault";

/// Each statement that writes takes two locks, in this order.
const LOCKS_IN_ORDER: &str = "
CREATE FUNCTION fault() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  PERFORM pg_advisory_xact_lock_shared(1);
  PERFORM pg_advisory_xact_lock_shared(2);
  RETURN NULL;
END $$";

/// The other order. The session that checks first for a deadlock is its victim: this one never does.
const LOCKS_IN_OPPOSITE_ORDER: &str = "
SET deadlock_timeout = '1h';
DO $$
BEGIN
  LOOP
    PERFORM pg_advisory_lock(2);
    WHILE NOT EXISTS (SELECT FROM pg_locks WHERE locktype = 'advisory' AND objid = 2 AND NOT granted
                      AND database = (SELECT oid FROM pg_database WHERE datname = current_database()))
    LOOP
      PERFORM pg_sleep(0.01);
    END LOOP;
    PERFORM pg_advisory_lock(1);
    PERFORM pg_advisory_unlock_all();
  END LOOP;
END $$";

/// Statements are too quick to be cancelled by chance: they wait for a lock, and are cancelled there.
const CANCELS: &str = "
DO $$
BEGIN
  LOCK TABLE deliveries IN EXCLUSIVE MODE;
  LOOP
    PERFORM pg_stat_clear_snapshot();
    PERFORM pg_cancel_backend(pid) FROM pg_stat_activity
      WHERE datname = current_database() AND usename = 'hookline' AND wait_event_type = 'Lock';
    PERFORM pg_sleep(0.05);
  END LOOP;
END $$";

const KILLS: &str = "
DO $$
BEGIN
  LOOP
    PERFORM pg_stat_clear_snapshot();
    PERFORM pg_terminate_backend(pid) FROM pg_stat_activity
      WHERE datname = current_database() AND usename = 'hookline';
    PERFORM pg_sleep(0.1);
  END LOOP;
END $$";

const FORGETS_STATEMENTS: &str = "
CREATE FUNCTION fault() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  EXECUTE 'DEALLOCATE ALL';
  RETURN NULL;
END $$";

/// The faults hit the statements that take events in, and those that record attempts. Each statement is a transaction
/// of its own: one that locked both tables could end in a deadlock with the services.
const TRIGGERS: [&str; 2] = [
    "CREATE TRIGGER fault AFTER INSERT ON events FOR EACH STATEMENT EXECUTE FUNCTION fault()",
    "CREATE TRIGGER fault AFTER UPDATE ON deliveries FOR EACH STATEMENT EXECUTE FUNCTION fault()",
];

const NO_TRIGGERS: [&str; 3] = [
    "DROP TRIGGER fault ON events",
    "DROP TRIGGER fault ON deliveries",
    "DROP FUNCTION fault()",
];

impl DatabaseFault {
    /// All of them.
    pub const ALL: [DatabaseFault; 6] = [
        DatabaseFault::Deadlock,
        DatabaseFault::Cancel,
        DatabaseFault::Revoke,
        DatabaseFault::ReadOnly,
        DatabaseFault::Kill,
        DatabaseFault::Unprepare,
    ];
}

impl Database {
    /// The database of this name on the server that `admin` is the superuser's URL of.
    pub fn new(admin: &str, name: &str) -> anyhow::Result<Self> {
        let mut url: reqwest::Url = admin.parse()?;
        url.set_path(name);
        Ok(Self {
            admin: url.to_string(),
            name: name.to_owned(),
        })
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    /// The server's own database, for what cannot be done in this one.
    pub fn maintenance(&self) -> anyhow::Result<Self> {
        Self::new(&self.admin, "postgres")
    }

    /// Runs SQL as the superuser and returns what it printed, unaligned.
    pub async fn sql(&self, sql: &str) -> anyhow::Result<String> {
        let output = self.psql(sql).output().await.context("psql")?;
        ensure!(
            output.status.success(),
            "{sql}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    }

    fn psql(&self, sql: &str) -> Command {
        let mut command = Command::new("psql");
        command
            .args([&self.admin, "-XAtq", "-v", "ON_ERROR_STOP=1", "-c", sql])
            .env("PGAPPNAME", SESSION)
            // The superuser can write even while the database is read-only for others.
            .env("PGOPTIONS", "-c default_transaction_read_only=off")
            .stdin(Stdio::null())
            .kill_on_drop(true);
        command
    }

    /// Lets the server speak to new sessions in the language of this locale, and ends the old ones.
    /// False when it has no words in that language.
    pub async fn set_language(&self, locale: &str) -> anyhow::Result<bool> {
        self.sql(&format!(
            "ALTER DATABASE {} SET lc_messages = '{locale}'",
            self.name
        ))
        .await?;
        self.end_sessions().await?;
        let output = self.psql("SELECT 1/0").output().await?;
        let is_english = String::from_utf8_lossy(&output.stderr).contains("division by zero");
        Ok(is_english == (locale == "C"))
    }

    /// Ends every session of Hookline.
    pub async fn end_sessions(&self) -> anyhow::Result<()> {
        let sql = format!(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
             WHERE datname = '{}' AND usename = 'hookline'",
            self.name
        );
        self.sql(&sql).await.map(drop)
    }

    /// Begins a fault.
    pub async fn begin_fault(&self, fault: DatabaseFault) -> anyhow::Result<OngoingFault> {
        let mut session = None;
        match fault {
            DatabaseFault::Deadlock => {
                self.sql(LOCKS_IN_ORDER).await?;
                self.sql_one_by_one(&TRIGGERS).await?;
                session = Some(self.session(LOCKS_IN_OPPOSITE_ORDER).await?);
            }
            DatabaseFault::Cancel => session = Some(self.session(CANCELS).await?),
            DatabaseFault::Kill => session = Some(self.session(KILLS).await?),
            DatabaseFault::Unprepare => {
                self.sql(FORGETS_STATEMENTS).await?;
                self.sql_one_by_one(&TRIGGERS).await?;
            }
            DatabaseFault::Revoke => self.revoke().await?,
            DatabaseFault::ReadOnly => self.set_read_only().await?,
        }
        Ok(OngoingFault {
            fault,
            database: self.clone(),
            session,
        })
    }

    async fn sql_one_by_one(&self, statements: &[&str]) -> anyhow::Result<()> {
        for statement in statements {
            self.sql(statement).await?;
        }
        Ok(())
    }

    async fn revoke(&self) -> anyhow::Result<()> {
        self.sql("REVOKE INSERT, UPDATE ON ALL TABLES IN SCHEMA public FROM hookline")
            .await?;
        Ok(())
    }

    async fn set_read_only(&self) -> anyhow::Result<()> {
        let name = &self.name;
        let sql = format!("ALTER DATABASE {name} SET default_transaction_read_only = on");
        self.sql(&sql).await?;
        self.end_sessions().await
    }

    async fn session(&self, sql: &str) -> anyhow::Result<Child> {
        // The loop would outlive a psql that was killed.
        let sql = format!("SET client_connection_check_interval = '1s'; {sql}");
        let child = self.psql(&sql).stderr(Stdio::null()).spawn()?;
        let sessions = self.sessions();
        until("the session that raises a fault", async || {
            Ok((self.sql(&sessions).await? != "0").then_some(()))
        })
        .await?;
        Ok(child)
    }

    /// SQL that counts the sessions that raise faults, without the session that asks.
    fn sessions(&self) -> String {
        format!(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = '{}' \
             AND application_name = '{SESSION}' AND pid <> pg_backend_pid()",
            self.name
        )
    }
}

impl OngoingFault {
    /// Ends it. Sessions that it has left in a bad state stay as they are.
    ///
    /// # Errors
    /// When it cannot be ended, or ended before by itself.
    pub async fn end(mut self) -> anyhow::Result<()> {
        let database = &self.database;
        if let Some(session) = &mut self.session {
            ensure!(
                session.try_wait()?.is_none(),
                "the session of {:?} ended by itself",
                self.fault
            );
            let ends = database
                .sessions()
                .replace("count(*)", "pg_terminate_backend(pid)");
            database.sql(&ends).await?;
            session.wait().await?;
        }
        match self.fault {
            DatabaseFault::Deadlock | DatabaseFault::Unprepare => {
                database.sql_one_by_one(&NO_TRIGGERS).await?;
            }
            DatabaseFault::Revoke => {
                database
                    .sql("GRANT INSERT, UPDATE ON ALL TABLES IN SCHEMA public TO hookline")
                    .await?;
            }
            DatabaseFault::ReadOnly => {
                let name = &database.name;
                let sql = format!("ALTER DATABASE {name} RESET default_transaction_read_only");
                database.sql(&sql).await?;
            }
            DatabaseFault::Cancel | DatabaseFault::Kill => {}
        }
        Ok(())
    }
}
