//! Defers messages in a task of its own.
//!
//! Deferring is not urgent, and doing it in the intake loop would delay events that are due. The task waits a moment for
//! more messages, because those of one organization are deferred together (`deferred_batch`).

use std::sync::Arc;
use std::time::Duration;

use hookline_queue::{EventConsumer, ReceivedMessage};
use hookline_runtime::retry::{RetryOutcome, retry_until};
use hookline_runtime::shutdown::Shutdown;
use opentelemetry::metrics::Counter;
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout_at};

use crate::decode::Decoded;
use crate::deferred_batch::batched;

/// How long a message waits for others.
const GATHER_FOR: Duration = Duration::from_millis(50);

pub(crate) struct Deferrer {
    pub(crate) events: Arc<dyn EventConsumer>,
    pub(crate) messages: mpsc::UnboundedReceiver<Decoded>,
    /// A batch of this size waits for no more messages.
    pub(crate) max_batch: usize,
    pub(crate) shutdown: Shutdown,
    pub(crate) deferred: Counter<u64>,
}

impl Deferrer {
    /// Runs until the channel is closed.
    pub(crate) async fn run(mut self) {
        loop {
            let gathered = self.gather().await;
            if gathered.is_empty() {
                return;
            }
            self.defer(gathered).await;
        }
    }

    /// Empty once the channel is closed.
    async fn gather(&mut self) -> Vec<Decoded> {
        let mut gathered: Vec<Decoded> = self.messages.recv().await.into_iter().collect();
        let until = Instant::now() + GATHER_FOR;
        while gathered.len() < self.max_batch {
            match timeout_at(until, self.messages.recv()).await {
                Ok(Some(one)) => gathered.push(one),
                Ok(None) | Err(_) => break,
            }
        }
        gathered
    }

    /// Defers the messages, or requeues them after the end of the grace period.
    async fn defer(&self, mut messages: Vec<Decoded>) {
        // A message of a lost connection comes again, or another process has it.
        messages.retain(|one| self.events.is_owned(&one.message));
        let deferred = batched(&messages);
        let received: Vec<ReceivedMessage<_>> =
            messages.into_iter().map(|one| one.message).collect();
        let sent = retry_until(
            &self.shutdown.deadline,
            "defer events",
            |_| true,
            || self.events.defer(&received, &deferred),
        );
        let RetryOutcome::Done(()) = sent.await else {
            return self.events.requeue_uncounted(received).await;
        };
        self.deferred.add(received.len() as u64, &[]);
        tracing::debug!(
            messages = received.len(),
            as_messages = deferred.len(),
            "deferred events"
        );
    }
}
