//! Quarantine of suspects: messages that came back more than once, one of which may crash the process. A group at a time is
//! counted in the store, decoded and stored, and cleared. If the process crashes, the counts stay. See
//! `hookline_core::quarantine`.

use std::sync::Arc;

use hookline_core::ids::QuarantineKey;
use hookline_core::quarantine::plan;
use hookline_queue::{PublishedEvents, ReceivedMessage};
use hookline_runtime::retry::{RetryOutcome, retry_until};
use hookline_store::StoreError;

use crate::intake::{Intake, Interrupted};
use crate::intake_loop::IntakeLoop;

type Messages = Vec<ReceivedMessage<PublishedEvents>>;

impl Intake {
    /// Tries all suspects, or requeues those that it cannot try.
    pub(crate) async fn try_suspects(
        self: Arc<Self>,
        mut suspects: Messages,
    ) -> Result<(), Interrupted> {
        while !suspects.is_empty() {
            let _alone = tokio::select! {
                biased;
                () = self.shutdown.draining.cancelled() => {
                    self.ingest.events.requeue_uncounted(suspects).await;
                    return Ok(());
                }
                alone = self.ingest.trial.lock() => alone,
            };
            if let Err(Interrupted) = self.try_some(&mut suspects).await {
                self.ingest.events.requeue_uncounted(suspects).await;
                return Err(Interrupted);
            }
        }
        Ok(())
    }

    /// Dead-letters suspects above the limit, tries one group, and keeps the rest.
    async fn try_some(self: &Arc<Self>, suspects: &mut Messages) -> Result<(), Interrupted> {
        let keys: Vec<QuarantineKey> = suspects.iter().map(key_of).collect();
        let store = &self.ingest.store;
        let crashes = self
            .keep_on("read crash counts", || store.crash_counts(keys.clone()))
            .await?;
        let counted = std::mem::take(suspects).into_iter().map(|message| {
            let crashes = crashes.get(&key_of(&message)).copied().unwrap_or(0);
            (message, crashes)
        });
        let limit = self.ingest.policy.give_up_after;
        let plan = plan(counted.collect(), limit);
        suspects.extend(plan.rest.into_iter().map(|(message, _)| message));
        for message in plan.dead_letter {
            let reason = format!("the process ended {limit} times while it was handled");
            // Its crash count stays, because it comes again if this fails.
            self.reject(message, &reason).await;
        }
        if !plan.group.is_empty() {
            self.try_group(plan.group, suspects).await?;
        }
        Ok(())
    }

    async fn try_group(
        self: &Arc<Self>,
        group: Messages,
        rest: &mut Messages,
    ) -> Result<(), Interrupted> {
        let keys: Vec<QuarantineKey> = group.iter().map(key_of).collect();
        let store = &self.ingest.store;
        let begun = self.keep_on("raise crash counts", || {
            store.raise_crash_counts(keys.clone(), hookline_clock::now())
        });
        if let Err(Interrupted) = begun.await {
            rest.extend(group);
            return Err(Interrupted);
        }
        tracing::debug!(messages = group.len(), "trying suspect messages");
        let batch = self.decode(group).await;
        IntakeLoop::new(Arc::clone(self)).try_once(batch).await;
        // Also when the process stops: a clean shutdown is no crash.
        self.clear(keys).await;
        match self.shutdown.deadline.is_cancelled() {
            true => Err(Interrupted),
            false => Ok(()),
        }
    }

    async fn keep_on<T, F>(&self, what: &str, work: impl FnMut() -> F) -> Result<T, Interrupted>
    where
        F: Future<Output = Result<T, StoreError>>,
    {
        match retry_until(&self.shutdown.deadline, what, |_| true, work).await {
            RetryOutcome::Done(done) => Ok(done),
            RetryOutcome::Stopped | RetryOutcome::Failed(_) => Err(Interrupted),
        }
    }

    async fn clear(&self, keys: Vec<QuarantineKey>) {
        if let Err(why) = self.ingest.store.clear_crash_counts(keys).await {
            tracing::warn!(error = %why, "cannot clear crash counts; they stay one too high");
        }
    }
}

fn key_of(message: &ReceivedMessage<PublishedEvents>) -> QuarantineKey {
    QuarantineKey::of_events(&message.message.body)
}
