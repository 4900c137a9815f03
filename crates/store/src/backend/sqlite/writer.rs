//! The single writer, with group commit. It takes the waiting jobs, runs each in a savepoint of its own, and commits once:
//! one fsync serves them all, so durability costs little under load and adds no wait without load. A caller gets its
//! result after the commit is durable.
//!
//! On a full disk, SQLite rolls back the whole transaction, including jobs that were done. Then all callers of the group get
//! the error.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

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

/// The queue of jobs. Callers beyond it wait for a place.
const WAITING: usize = 1_024;

/// After this number of pages a checkpoint copies the write-ahead log into the file, each page once: a longer log is less
/// work. Beyond 4,062 pages readers search two index blocks.
const LOG_PAGES: u32 = 4_000;

/// The most jobs of one commit.
const TOGETHER: usize = 256;

/// A commit takes no further job after this time, so that the callers of the first jobs get their results.
const TOGETHER_FOR: Duration = Duration::from_millis(20);

/// Runs in the transaction, and returns a function that answers the caller after the commit.
type Job = Box<dyn FnOnce(&mut Conn) -> JobReply + Send>;
type JobReply = Box<dyn FnOnce(Result<(), StoreError>) + Send>;

#[derive(Clone)]
pub(super) struct Writer {
    jobs: mpsc::Sender<Job>,
    health: Arc<WriterHealth>,
}

#[derive(Debug, Default)]
struct WriterHealth {
    fails: AtomicBool,
    failures: AtomicU64,
}

impl Writer {
    /// Opens the file, migrates it if `sharing` allows that, and starts the thread.
    pub(super) fn start(url: &str, sharing: Sharing) -> Result<Self, StoreError> {
        let mut conn =
            Conn::establish(url).map_err(|why| StoreError::Unavailable(why.to_string()))?;
        conn.batch_execute(&format!("PRAGMA busy_timeout = {}", BUSY.as_millis()))?;
        if sharing == Sharing::Existing {
            // Before `journal_mode`, which is written into the file.
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
        let health = Arc::new(WriterHealth::default());
        let writing = WriterThread::new(conn, Arc::clone(&health));
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
        let (sender, result_of_job) = oneshot::channel();
        let job: Job = Box::new(move |conn| {
            let result = conn.transaction(work);
            Box::new(move |committed| {
                // The caller may have gone; the job is done anyway.
                let _ = sender.send(committed.and(result));
            })
        });
        let unavailable = || StoreError::Unavailable("the writer could not begin".to_owned());
        self.jobs.send(job).await.map_err(|_| unavailable())?;
        result_of_job.await.unwrap_or_else(|_| Err(unavailable()))
    }

    pub(super) fn is_ready(&self) -> bool {
        !self.jobs.is_closed() && !self.health.fails.load(Ordering::Relaxed)
    }

    /// The number of failed transactions. A job that sees another number than an earlier job knows that the changes of that
    /// job may be rolled back.
    pub(super) fn failures(&self) -> u64 {
        self.health.failures.load(Ordering::Relaxed)
    }
}

/// The writer's thread.
struct WriterThread {
    conn: Conn,
    health: Arc<WriterHealth>,
    first_error: FirstError,
}

impl WriterThread {
    fn new(mut conn: Conn, health: Arc<WriterHealth>) -> Self {
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
            // Without this thread the process could not write any more. Its callers get an error and retry.
            let (replies, committed) = catch_unwind(writing).unwrap_or_else(|_| {
                let panicked = StoreError::Unavailable("a job of the writer panicked".to_owned());
                (Vec::new(), Err(panicked))
            });
            match &committed {
                Ok(()) => self.health.fails.store(false, Ordering::Relaxed),
                Err(why) => {
                    tracing::warn!(jobs = replies.len(), error = %why, "a transaction failed as a whole");
                    self.leave_transaction();
                    // Before the answers, and before the next job.
                    self.health.failures.fetch_add(1, Ordering::Relaxed);
                    self.health.fails.store(true, Ordering::Relaxed);
                }
            }
            for reply in replies {
                reply(committed.clone());
            }
        }
    }

    /// One transaction for all waiting jobs.
    fn write(
        &mut self,
        first: Job,
        waiting: &mut mpsc::Receiver<Job>,
    ) -> (Vec<JobReply>, Result<(), StoreError>) {
        let Self {
            conn,
            health,
            first_error,
        } = self;
        let mut replies = Vec::new();
        first_error.forget();
        let committed = conn.immediate_transaction(|conn| {
            // Another process may have held the lock until now.
            let begun = Instant::now();
            if health.fails.load(Ordering::Relaxed) {
                // A transaction without a write succeeds on a full disk, too, and would report success. Until one has succeeded,
                // each one therefore writes.
                conn.batch_execute("PRAGMA user_version = 0")?;
            }
            let mut next = Some(first);
            while let Some(job) = next {
                first_error.forget();
                replies.push(job(conn));
                if !is_open(conn) {
                    return Err(StoreError::Unavailable("it was taken back".to_owned()));
                }
                next = match replies.len() < TOGETHER && begun.elapsed() < TOGETHER_FOR {
                    true => waiting.try_recv().ok(),
                    false => None,
                };
            }
            Ok(())
        });
        // No job is at fault, so a retry may succeed. The first error is the cause: later ones follow from it, such as a
        // missing savepoint.
        let committed = committed.map_err(|why| {
            StoreError::Unavailable(first_error.take().unwrap_or_else(|| why.to_string()))
        });
        (replies, committed)
    }

    /// After an error the next transaction can begin.
    fn leave_transaction(&mut self) {
        let conn = &mut self.conn;
        if AnsiTransactionManager::is_broken_transaction_manager(conn) || is_open(conn) {
            // There may be no transaction left.
            let _ = conn.batch_execute("ROLLBACK");
            *AnsiTransactionManager::transaction_manager_status_mut(conn) =
                TransactionManagerStatus::default();
        }
    }
}

/// Whether the group's transaction still exists after a job and its savepoint.
fn is_open(conn: &mut Conn) -> bool {
    let status = AnsiTransactionManager::transaction_manager_status_mut(conn);
    matches!(status.transaction_depth(), Ok(Some(_)))
}

/// The first error of a job.
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
