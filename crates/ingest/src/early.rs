//! What is early leaves beside what is not.
//!
//! Nobody waits for it, and a lane that saw it off itself would keep those waiting whose turn it
//! is. So it is handed to a task of its own, which gathers a moment for those that wait together.

use std::sync::Arc;
use std::time::Duration;

use hookline_queue::{EventConsumer, Received};
use hookline_runtime::patience::{Ended, keep_on};
use hookline_runtime::shutdown::Shutdown;
use opentelemetry::metrics::Counter;
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout_at};

use crate::InHand;
use crate::bundle::bundled;

/// How long what is early waits for more.
const GATHER: Duration = Duration::from_millis(50);

/// Puts off what is handed to it, until nobody is there any more who could.
pub(crate) struct Usher {
    pub(crate) events: Arc<dyn EventConsumer>,
    pub(crate) early: mpsc::UnboundedReceiver<InHand>,
    /// So many wait for no more.
    pub(crate) enough: usize,
    pub(crate) shutdown: Shutdown,
    pub(crate) put_off: Counter<u64>,
}

impl Usher {
    pub(crate) async fn run(mut self) {
        loop {
            let gathered = self.gather().await;
            if gathered.is_empty() {
                return;
            }
            self.see_off(gathered).await;
        }
    }

    /// Nothing when nothing comes any more.
    async fn gather(&mut self) -> Vec<InHand> {
        let mut gathered: Vec<InHand> = self.early.recv().await.into_iter().collect();
        let until = Instant::now() + GATHER;
        while gathered.len() < self.enough {
            match timeout_at(until, self.early.recv()).await {
                Ok(Some(one)) => gathered.push(one),
                Ok(None) | Err(_) => break,
            }
        }
        gathered
    }

    /// They come again when it is their turn, or are handed back when the process is late.
    async fn see_off(&self, mut early: Vec<InHand>) {
        // What came on a connection that has died is somebody else's by now, or comes again.
        early.retain(|one| self.events.is_owned(&one.message));
        let coming = bundled(&early);
        let taken: Vec<Received<_>> = early.into_iter().map(|one| one.message).collect();
        let sent = keep_on(
            &self.shutdown.late,
            "put events off",
            |_| true,
            || self.events.defer(&taken, &coming),
        );
        let Ended::Done(()) = sent.await else {
            return self.events.requeue_uncounted(taken).await;
        };
        self.put_off.add(taken.len() as u64, &[]);
        tracing::debug!(
            messages = taken.len(),
            as_messages = coming.len(),
            "put events off until it is their organizations' turn"
        );
    }
}
