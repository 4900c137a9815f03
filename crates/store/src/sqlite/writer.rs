//! The one writer. It takes every job that waits, runs each in a savepoint of its own, and commits
//! once for all: one fsync serves them together, so durability costs little under load and no
//! wait without it. A caller hears of its job when the commit is on the disk.
//!
//! Where the disk is full, SQLite takes the whole transaction back by itself, and with it the jobs
//! that were done in it already. None of the group is done then, and all of its callers hear so.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use diesel::connection::{
    AnsiTransactionManager, InstrumentationEvent, SimpleConnection as _, TransactionManager,
    TransactionManagerStatus,
};
use diesel::prelude::*;
use tokio::sync::{mpsc, oneshot};

use super::{BUSY, Conn, Sharing, check_schema, migrate};
use crate::error::StoreError;

#[cfg(test)]
mod tests;

/// How many jobs may wait; who comes then waits to be let in.
const WAITING: usize = 1_024;

/// After so many pages the write-ahead log is copied into the file, each page once, however often it
/// was written: so a longer one is less work. With more than 4,062, readers have to look in two places.
const LOG_PAGES: u32 = 4_000;

/// How many jobs one commit serves.
const TOGETHER: usize = 256;

/// Runs in the transaction; what it returns tells the caller once the commit is known.
type Job = Box<dyn FnOnce(&mut Conn) -> Tell + Send>;
type Tell = Box<dyn FnOnce(Result<(), StoreError>) + Send>;

#[derive(Clone)]
pub(super) struct Writer {
    jobs: mpsc::Sender<Job>,
    health: Arc<Health>,
}

/// How it goes, for whoever asks from outside.
#[derive(Debug, Default)]
struct Health {
    /// The last transaction failed.
    fails: AtomicBool,
    /// How many have failed.
    failures: AtomicU64,
}

impl Writer {
    /// Opens the file, brings its schema up to date, where that is this process's to do, and starts the
    /// thread.
    pub(super) fn start(url: &str, sharing: Sharing) -> Result<Self, StoreError> {
        let mut conn =
            Conn::establish(url).map_err(|why| StoreError::Unavailable(why.to_string()))?;
        conn.batch_execute(&format!("PRAGMA busy_timeout = {}", BUSY.as_millis()))?;
        if sharing == Sharing::Existing {
            // Before the mode of the log, which is written into the file.
            check_schema(&mut conn)?;
        }
        conn.batch_execute(&format!(
            "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; \
             PRAGMA foreign_keys = ON; PRAGMA cache_size = -32000; PRAGMA temp_store = MEMORY; \
             PRAGMA wal_autocheckpoint = {LOG_PAGES}"
        ))?;
        match sharing {
            Sharing::Exclusive | Sharing::Shared => migrate(&mut conn)?,
            Sharing::Existing => {}
        }
        let (jobs, waiting) = mpsc::channel(WAITING);
        let health = Arc::new(Health::default());
        let writing = Writing::new(conn, Arc::clone(&health));
        thread::Builder::new()
            .name("sqlite-writer".to_owned())
            .spawn(move || writing.keep_on(waiting))
            .map_err(|why| StoreError::Unavailable(why.to_string()))?;
        Ok(Self { jobs, health })
    }

    pub(super) async fn run<T, F>(&self, work: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnOnce(&mut Conn) -> Result<T, StoreError> + Send + 'static,
    {
        let (tell, told) = oneshot::channel();
        let job: Job = Box::new(move |conn| {
            let result = conn.transaction(work);
            Box::new(move |committed| {
                // Who asked may have gone away; the work is done all the same.
                let _ = tell.send(committed.and(result));
            })
        });
        let gone = || StoreError::Unavailable("the writer could not begin".to_owned());
        self.jobs.send(job).await.map_err(|_| gone())?;
        told.await.unwrap_or_else(|_| Err(gone()))
    }

    /// Whether the last transaction was written.
    pub(super) fn is_ready(&self) -> bool {
        !self.jobs.is_closed() && !self.health.fails.load(Ordering::Relaxed)
    }

    /// How many transactions have failed. Asked inside a job, it says whether what an earlier job
    /// saw may have been taken back since.
    pub(super) fn failures(&self) -> u64 {
        self.health.failures.load(Ordering::Relaxed)
    }
}

/// The writer's thread.
struct Writing {
    conn: Conn,
    health: Arc<Health>,
    first_error: FirstError,
}

impl Writing {
    fn new(mut conn: Conn, health: Arc<Health>) -> Self {
        let first_error = FirstError::default();
        let seen = first_error.clone();
        conn.set_instrumentation(move |event: InstrumentationEvent<'_>| {
            if let InstrumentationEvent::FinishQuery {
                error: Some(error), ..
            } = event
            {
                seen.note(error);
            }
        });
        Self {
            conn,
            health,
            first_error,
        }
    }

    fn keep_on(mut self, mut waiting: mpsc::Receiver<Job>) {
        while let Some(first) = waiting.blocking_recv() {
            let writing = AssertUnwindSafe(|| self.write(first, &mut waiting));
            // Without this thread the process could write no more. Its callers are told nothing and so try again.
            let (told, committed) = catch_unwind(writing).unwrap_or_else(|_| {
                let panicked = StoreError::Unavailable("a job of the writer panicked".to_owned());
                (Vec::new(), Err(panicked))
            });
            match &committed {
                Ok(()) => self.health.fails.store(false, Ordering::Relaxed),
                Err(why) => {
                    tracing::warn!(jobs = told.len(), error = %why, "a transaction failed as a whole");
                    self.leave_transaction();
                    // Before anybody hears of it, and before the next job.
                    self.health.failures.fetch_add(1, Ordering::Relaxed);
                    self.health.fails.store(true, Ordering::Relaxed);
                }
            }
            for tell in told {
                tell(committed.clone());
            }
        }
    }

    /// One transaction for all who wait.
    fn write(
        &mut self,
        first: Job,
        waiting: &mut mpsc::Receiver<Job>,
    ) -> (Vec<Tell>, Result<(), StoreError>) {
        let Self {
            conn,
            health,
            first_error,
        } = self;
        let mut told = Vec::new();
        first_error.forget();
        let committed = conn.immediate_transaction(|conn| {
            if health.fails.load(Ordering::Relaxed) {
                // One that has nothing to write succeeds on a full disk, too, and would say that
                // all is well again: so each writes something until one has succeeded.
                conn.batch_execute("PRAGMA user_version = 0")?;
            }
            let mut next = Some(first);
            while let Some(job) = next {
                first_error.forget();
                told.push(job(conn));
                if !is_open(conn) {
                    return Err(StoreError::Unavailable("it was taken back".to_owned()));
                }
                next = match told.len() < TOGETHER {
                    true => waiting.try_recv().ok(),
                    false => None,
                };
            }
            Ok(())
        });
        // It is nobody's own fault, so the same may work later. What went wrong first says why:
        // the rest follows from it, such as a savepoint that is no longer there.
        let committed = committed.map_err(|why| {
            StoreError::Unavailable(first_error.take().unwrap_or_else(|| why.to_string()))
        });
        (told, committed)
    }

    /// Whatever a failure has left, the next transaction can begin.
    fn leave_transaction(&mut self) {
        let conn = &mut self.conn;
        if AnsiTransactionManager::is_broken_transaction_manager(conn) || is_open(conn) {
            // If there is none to leave, all the better.
            let _ = conn.batch_execute("ROLLBACK");
            *AnsiTransactionManager::transaction_manager_status_mut(conn) =
                TransactionManagerStatus::default();
        }
    }
}

/// Whether the group's transaction is still there after a job and its savepoint.
fn is_open(conn: &mut Conn) -> bool {
    let status = AnsiTransactionManager::transaction_manager_status_mut(conn);
    matches!(status.transaction_depth(), Ok(Some(_)))
}

/// What went wrong first in a job.
#[derive(Clone, Default)]
struct FirstError(Arc<Mutex<Option<String>>>);

impl FirstError {
    fn note(&self, error: &diesel::result::Error) {
        let mut first = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        first.get_or_insert_with(|| error.to_string());
    }

    fn take(&self) -> Option<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    fn forget(&self) {
        drop(self.take());
    }
}
