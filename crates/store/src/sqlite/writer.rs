//! The one writer. It takes every job that waits, runs each in a savepoint of its own, and commits
//! once for all: one fsync serves them together, so durability costs little under load and no
//! wait without it. A caller hears of its job when the commit is on the disk.

use std::thread;

use diesel::connection::SimpleConnection as _;
use diesel::prelude::*;
use tokio::sync::{mpsc, oneshot};

use super::{BUSY, Conn, migrate};
use crate::error::StoreError;

/// How many jobs may wait; who comes then waits to be let in.
const WAITING: usize = 1_024;

/// How many jobs one commit serves.
const TOGETHER: usize = 256;

/// Runs in the transaction; what it returns tells the caller once the commit is known.
type Job = Box<dyn FnOnce(&mut Conn) -> Tell + Send>;
type Tell = Box<dyn FnOnce(Result<(), StoreError>) + Send>;

#[derive(Clone)]
pub(super) struct Writer {
    jobs: mpsc::Sender<Job>,
}

impl Writer {
    /// Opens the file, brings its schema up to date and starts the thread.
    pub(super) fn start(url: &str) -> Result<Self, StoreError> {
        let mut conn =
            Conn::establish(url).map_err(|why| StoreError::Unavailable(why.to_string()))?;
        conn.batch_execute(&format!(
            "PRAGMA busy_timeout = {}; PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; \
             PRAGMA foreign_keys = ON; PRAGMA cache_size = -32000; PRAGMA temp_store = MEMORY",
            BUSY.as_millis()
        ))?;
        migrate(&mut conn)?;
        let (jobs, waiting) = mpsc::channel(WAITING);
        thread::Builder::new()
            .name("sqlite-writer".to_owned())
            .spawn(move || write(&mut conn, waiting))
            .map_err(|why| StoreError::Unavailable(why.to_string()))?;
        Ok(Self { jobs })
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
        let gone = || StoreError::Unavailable("the writer has ended".to_owned());
        self.jobs.send(job).await.map_err(|_| gone())?;
        told.await.unwrap_or_else(|_| Err(gone()))
    }

    pub(super) fn is_alive(&self) -> bool {
        !self.jobs.is_closed()
    }
}

fn write(conn: &mut Conn, mut waiting: mpsc::Receiver<Job>) {
    while let Some(first) = waiting.blocking_recv() {
        let mut told = Vec::new();
        let committed = conn.immediate_transaction(|conn| {
            told.push(first(conn));
            while told.len() < TOGETHER
                && let Ok(job) = waiting.try_recv()
            {
                told.push(job(conn));
            }
            Ok::<_, StoreError>(())
        });
        if let Err(why) = &committed
            && told.is_empty()
        {
            tracing::warn!(error = %why, "the writer could not begin a transaction");
        }
        for tell in told {
            tell(committed.clone());
        }
    }
}
