//! Quarantine of suspects: messages that came back more than once, one of which may crash the process. A group at a time is
//! charged in the store, decoded and stored, and cleared. If the process crashes, the charges stay. See
//! `hookline_core::trial`.

use std::sync::Arc;

use hookline_core::ids::TrialKey;
use hookline_core::trial::next;
use hookline_queue::{PublishedEvents, Received};
use hookline_runtime::patience::{Ended, keep_on};
use hookline_store::StoreError;

use crate::intake::{Intake, Stopped};
use crate::intake_loop::IntakeLoop;

type Messages = Vec<Received<PublishedEvents>>;

impl Intake {
    /// Tries all suspects, or requeues those that it cannot try.
    pub(crate) async fn try_suspects(
        self: Arc<Self>,
        mut suspects: Messages,
    ) -> Result<(), Stopped> {
        while !suspects.is_empty() {
            let _alone = tokio::select! {
                biased;
                () = self.shutdown.asked.cancelled() => {
                    self.ingest.events.requeue_uncounted(suspects).await;
                    return Ok(());
                }
                alone = self.ingest.trial.lock() => alone,
            };
            if let Err(Stopped) = self.try_some(&mut suspects).await {
                self.ingest.events.requeue_uncounted(suspects).await;
                return Err(Stopped);
            }
        }
        Ok(())
    }

    /// Dead-letters suspects above the limit, tries one group, and keeps the rest.
    async fn try_some(self: &Arc<Self>, suspects: &mut Messages) -> Result<(), Stopped> {
        let keys: Vec<TrialKey> = suspects.iter().map(key_of).collect();
        let store = &self.ingest.store;
        let charges = self
            .keep_on("look up charges", || store.charges(keys.clone()))
            .await?;
        let charged = std::mem::take(suspects).into_iter().map(|message| {
            let charges = charges.get(&key_of(&message)).copied().unwrap_or(0);
            (message, charges)
        });
        let limit = self.ingest.policy.give_up_after;
        let docket = next(charged.collect(), limit);
        suspects.extend(docket.rest.into_iter().map(|(message, _)| message));
        for message in docket.given_up {
            let reason = format!("the process ended {limit} times while it was handled");
            // Its charges stay, because it comes again if this fails.
            self.reject(message, &reason).await;
        }
        if !docket.group.is_empty() {
            self.try_group(docket.group, suspects).await?;
        }
        Ok(())
    }

    async fn try_group(
        self: &Arc<Self>,
        group: Messages,
        rest: &mut Messages,
    ) -> Result<(), Stopped> {
        let keys: Vec<TrialKey> = group.iter().map(key_of).collect();
        let store = &self.ingest.store;
        let begun = self.keep_on("begin a trial", || {
            store.begin_trials(keys.clone(), hookline_clock::now())
        });
        if let Err(Stopped) = begun.await {
            rest.extend(group);
            return Err(Stopped);
        }
        tracing::debug!(messages = group.len(), "trying suspect messages");
        let batch = self.decode(group).await;
        IntakeLoop::new(Arc::clone(self)).try_once(batch).await;
        // Also when the process stops: a clean shutdown is no crash.
        self.clear(keys).await;
        match self.shutdown.late.is_cancelled() {
            true => Err(Stopped),
            false => Ok(()),
        }
    }

    async fn keep_on<T, F>(&self, what: &str, work: impl FnMut() -> F) -> Result<T, Stopped>
    where
        F: Future<Output = Result<T, StoreError>>,
    {
        match keep_on(&self.shutdown.late, what, |_| true, work).await {
            Ended::Done(done) => Ok(done),
            Ended::Stopped | Ended::Failed(_) => Err(Stopped),
        }
    }

    async fn clear(&self, keys: Vec<TrialKey>) {
        if let Err(why) = self.ingest.store.end_trials(keys).await {
            tracing::warn!(error = %why, "cannot clear charges; they stay one too high");
        }
    }
}

fn key_of(message: &Received<PublishedEvents>) -> TrialKey {
    TrialKey::of_events(&message.message.body)
}
