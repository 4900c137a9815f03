//! Quarantine of suspects: due deliveries that may have ended the process of an earlier owner of their partition.
//!
//! Suspects do not go to the subscription queues with the others. One group at a time is charged in the store, tried,
//! and cleared when all of it is handled. Meanwhile the other deliveries are handled as usual. If the process dies, the
//! charges stay. See `hookline_core::quarantine`.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use hookline_core::ids::QuarantineKey;
use hookline_core::quarantine::plan;
use hookline_runtime::panics;
use hookline_runtime::retry::{RetryOutcome, retry_until};
use hookline_store::StoreError;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::context::Dispatcher;
use crate::due::InHand;
use crate::pipeline::dead_letter::DeadLettering;

/// The suspects that wait for their group.
pub(crate) struct Quarantine {
    suspects: mpsc::UnboundedSender<InHand>,
    groups: mpsc::UnboundedReceiver<Vec<InHand>>,
    waiting: Arc<AtomicUsize>,
}

impl Quarantine {
    /// Keeps the suspects, and returns the other deliveries.
    pub(crate) fn separate(&self, taken: Vec<InHand>) -> Vec<InHand> {
        let (suspects, others): (Vec<_>, Vec<_>) =
            taken.into_iter().partition(|in_hand| in_hand.is_suspect);
        self.waiting.fetch_add(suspects.len(), Ordering::Relaxed);
        for suspect in suspects {
            // The task receives for as long as this value exists.
            let _ = self.suspects.send(suspect);
        }
        others
    }

    /// The number of suspects that wait, without the present group.
    pub(crate) fn waiting(&self) -> usize {
        self.waiting.load(Ordering::Relaxed)
    }

    /// The next group. Pending for ever when the quarantine has ended.
    pub(crate) async fn group(&mut self) -> Vec<InHand> {
        match self.groups.recv().await {
            Some(group) => group,
            None => std::future::pending().await,
        }
    }
}

/// Starts the quarantine. It ends once [`Quarantine`] is dropped and the present group is handled. No group starts
/// after `shutdown`.
pub(crate) fn start(
    dispatcher: Dispatcher,
    dead_letters: DeadLettering,
    shutdown: CancellationToken,
) -> (Quarantine, JoinHandle<()>) {
    let (suspects, arrived) = mpsc::unbounded_channel();
    let (groups, formed_groups) = mpsc::unbounded_channel();
    let waiting = Arc::new(AtomicUsize::new(0));
    let quarantine = Quarantine {
        suspects,
        groups: formed_groups,
        waiting: Arc::clone(&waiting),
    };
    let task = QuarantineTask {
        dispatcher,
        dead_letters,
        shutdown,
        arrived,
        groups,
        waiting,
    };
    (
        quarantine,
        tokio::spawn(panics::fatal("quarantine", task.run())),
    )
}

struct QuarantineTask {
    dispatcher: Dispatcher,
    dead_letters: DeadLettering,
    shutdown: CancellationToken,
    arrived: mpsc::UnboundedReceiver<InHand>,
    groups: mpsc::UnboundedSender<Vec<InHand>>,
    waiting: Arc<AtomicUsize>,
}

/// The process stops.
struct ShuttingDown;

impl QuarantineTask {
    async fn run(mut self) {
        let mut suspects = Vec::new();
        loop {
            if suspects.is_empty() {
                match self.arrived.recv().await {
                    Some(first) => suspects.push(first),
                    None => return,
                }
            }
            while let Ok(another) = self.arrived.try_recv() {
                suspects.push(another);
            }
            if let Err(ShuttingDown) = self.advance(&mut suspects).await {
                return;
            }
        }
    }

    /// Dead-letters messages over the limit, handles one group, keeps the rest.
    async fn advance(&mut self, suspects: &mut Vec<InHand>) -> Result<(), ShuttingDown> {
        if self.shutdown.is_cancelled() {
            return Err(ShuttingDown);
        }
        let keys: Vec<QuarantineKey> = suspects.iter().map(key_of).collect();
        let store = &self.dispatcher.store;
        let crashes = self
            .retry("read crash counts", || store.crash_counts(keys.clone()))
            .await?;
        let all = suspects.len();
        suspects.retain(InHand::is_owned);
        self.subtract_waiting(all - suspects.len());
        let counted = std::mem::take(suspects).into_iter().map(|suspect| {
            let crashes = crashes.get(&key_of(&suspect)).copied().unwrap_or(0);
            (suspect, crashes)
        });
        let limit = self.dispatcher.policy.give_up_after;
        let plan = plan(counted.collect(), limit);
        suspects.extend(plan.rest.into_iter().map(|(message, _)| message));
        self.subtract_waiting(plan.dead_letter.len() + plan.group.len());
        for suspect in plan.dead_letter {
            let reason = format!("the process ended {limit} times while it was handled");
            // Its crash count stays. If the process stops before the dead-lettering is done, the delivery comes again.
            self.dead_letters.begin(suspect, reason);
        }
        if !plan.group.is_empty() {
            self.run_group(plan.group, suspects).await?;
        }
        Ok(())
    }

    /// Subtracts suspects that wait no longer.
    fn subtract_waiting(&self, count: usize) {
        self.waiting.fetch_sub(count, Ordering::Relaxed);
    }

    async fn run_group(
        &mut self,
        group: Vec<InHand>,
        rest: &mut Vec<InHand>,
    ) -> Result<(), ShuttingDown> {
        let keys: Vec<QuarantineKey> = group.iter().map(key_of).collect();
        let quarantine = Arc::clone(&self.dispatcher.quarantine);
        let _alone = tokio::select! {
            alone = quarantine.lock() => alone,
            () = self.shutdown.cancelled() => return Err(ShuttingDown),
        };
        let store = &self.dispatcher.store;
        let begun = self.retry("raise crash counts", || {
            store.raise_crash_counts(keys.clone(), hookline_clock::now())
        });
        begun.await?;
        tracing::debug!(deliveries = group.len(), "started quarantine group");
        let (guard, mut group_end) = mpsc::channel(1);
        let members = group
            .into_iter()
            .map(|suspect| suspect.join_quarantine(guard.clone()))
            .collect();
        drop(guard);
        // The receiver is gone when the process stops: then the group stays due.
        let sent = self.groups.send(members).map_err(|_| ShuttingDown);
        // No message is ever sent: this returns at the end of the last part.
        tokio::select! {
            _ = group_end.recv() => {}
            () = self.shutdown.cancelled() => {
                // The group may take its time; the suspects that wait behind it go to the next owner now.
                rest.clear();
                let _ = group_end.recv().await;
            }
        }
        self.clear(keys).await;
        sent
    }

    async fn retry<T, F>(&self, what: &str, work: impl FnMut() -> F) -> Result<T, ShuttingDown>
    where
        F: Future<Output = Result<T, StoreError>>,
    {
        match retry_until(&self.shutdown, what, |_| true, work).await {
            RetryOutcome::Done(done) => Ok(done),
            RetryOutcome::Stopped | RetryOutcome::Failed(_) => Err(ShuttingDown),
        }
    }

    /// Clears crash counts, also while the process stops: no delivery is at fault for a graceful shutdown.
    async fn clear(&self, keys: Vec<QuarantineKey>) {
        if let Err(why) = self.dispatcher.store.clear_crash_counts(keys).await {
            tracing::warn!(error = %why, "could not clear crash counts, they stay one too high");
        }
    }
}

fn key_of(suspect: &InHand) -> QuarantineKey {
    suspect.task.delivery.into()
}
