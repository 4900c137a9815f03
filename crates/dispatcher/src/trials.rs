//! Messages that came back more than once: this process may die of one of them.
//!
//! They do not go to the lanes with the others. A group at a time is charged in the store, tried,
//! and cleared when all of it is dealt with; meanwhile the others are handled as ever. If we die,
//! the charges stay. See `hookline_core::trial`.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use hookline_broker::contract::Taken;
use hookline_core::delivery::OwedAttempt;
use hookline_core::ids::TrialKey;
use hookline_core::trial::{SUSPECT_AFTER, next};
use hookline_runtime::panics;
use hookline_runtime::patience::{Ended, keep_on};
use hookline_store::StoreError;
use tokio::sync::mpsc;
use tokio::sync::mpsc::error::SendError;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::Dispatcher;
use crate::busy::Busy;
use crate::poison::PuttingAside;

/// A part of a trial, which lasts until the last part is dropped.
pub(crate) type OnTrial = mpsc::Sender<Infallible>;

/// A suspect whose turn has come.
pub(crate) type Tried = (Taken<OwedAttempt>, OnTrial);

/// Where suspects wait for their trial.
pub(crate) struct Trials {
    suspects: mpsc::UnboundedSender<Taken<OwedAttempt>>,
    tried: mpsc::UnboundedReceiver<Vec<Tried>>,
    waiting: Arc<AtomicUsize>,
}

impl Trials {
    /// Keeps the suspects, and returns the others.
    pub(crate) fn sort_out(&self, taken: Vec<Taken<OwedAttempt>>) -> Vec<Taken<OwedAttempt>> {
        let (suspects, others): (Vec<_>, Vec<_>) = taken
            .into_iter()
            .partition(|message| message.returns >= SUSPECT_AFTER);
        self.waiting.fetch_add(suspects.len(), Ordering::Relaxed);
        for suspect in suspects {
            // Somebody listens for as long as this is there.
            let _ = self.suspects.send(suspect);
        }
        others
    }

    /// No more trials. Who waits for one is put back; whose turn had come is returned for that.
    pub(crate) fn end(mut self) -> Vec<Taken<OwedAttempt>> {
        self.tried.close();
        let mut groups = Vec::new();
        while let Ok(group) = self.tried.try_recv() {
            groups.extend(group.into_iter().map(|(message, _)| message));
        }
        groups
    }

    /// How many wait, apart from those on trial.
    pub(crate) fn waiting(&self) -> usize {
        self.waiting.load(Ordering::Relaxed)
    }

    /// The next group; for ever, when trials have ended.
    pub(crate) async fn group(&mut self) -> Vec<Tried> {
        match self.tried.recv().await {
            Some(group) => group,
            None => std::future::pending().await,
        }
    }
}

/// Starts trying. It ends with [`Trials::end`], once what is on trial is dealt with; nothing is
/// tried after `shutdown`.
pub(crate) fn start(
    dispatcher: Dispatcher,
    aside: PuttingAside,
    busy: Busy,
    shutdown: CancellationToken,
) -> (Trials, JoinHandle<()>) {
    let (suspects, arriving) = mpsc::unbounded_channel();
    let (trying, tried) = mpsc::unbounded_channel();
    let waiting = Arc::new(AtomicUsize::new(0));
    let trials = Trials {
        suspects,
        tried,
        waiting: Arc::clone(&waiting),
    };
    let court = Court {
        dispatcher,
        aside,
        busy,
        shutdown,
        arriving,
        trying,
        waiting,
    };
    (trials, tokio::spawn(panics::fatal("trials", court.sit())))
}

struct Court {
    dispatcher: Dispatcher,
    aside: PuttingAside,
    busy: Busy,
    shutdown: CancellationToken,
    arriving: mpsc::UnboundedReceiver<Taken<OwedAttempt>>,
    trying: mpsc::UnboundedSender<Vec<Tried>>,
    waiting: Arc<AtomicUsize>,
}

type Suspects = Vec<Taken<OwedAttempt>>;

/// The process stops.
struct Stopped;

impl Court {
    async fn sit(mut self) {
        let mut suspects = Suspects::new();
        loop {
            if suspects.is_empty() {
                match self.arriving.recv().await {
                    Some(first) => suspects.push(first),
                    None => return,
                }
            }
            while let Ok(another) = self.arriving.try_recv() {
                suspects.push(another);
            }
            if let Err(Stopped) = self.try_some(&mut suspects).await {
                return self.put_back_all(&mut suspects).await;
            }
        }
    }

    /// Those that wait here, and those that come until the worker has ended trials.
    async fn put_back_all(&mut self, suspects: &mut Suspects) {
        while let Some(another) = self.arriving.recv().await {
            suspects.push(another);
        }
        let suspects = std::mem::take(suspects);
        self.dispatcher.attempts.put_back(suspects).await;
    }

    /// Gives up whom it must, tries a group, and leaves the rest.
    async fn try_some(&mut self, suspects: &mut Suspects) -> Result<(), Stopped> {
        if self.shutdown.is_cancelled() {
            return Err(Stopped);
        }
        let keys: Vec<TrialKey> = suspects.iter().map(key_of).collect();
        let store = &self.dispatcher.store;
        let charges = self
            .keep_on("look up charges", || store.charges(keys.clone()))
            .await?;
        let charged = std::mem::take(suspects).into_iter().map(|message| {
            let charges = charges.get(&key_of(&message)).copied().unwrap_or(0);
            (message, charges)
        });
        let limit = self.dispatcher.policy.give_up_after;
        let docket = next(charged.collect(), limit);
        suspects.extend(docket.rest.into_iter().map(|(message, _)| message));
        for message in docket.given_up {
            self.waiting.fetch_sub(1, Ordering::Relaxed);
            let reason = format!("the process ended {limit} times while it was handled");
            // Its charges stay: it comes again where it cannot be put aside before the process stops.
            // Where another message of it is in hand, this one waits for that and is a suspect again.
            if let Some(engaged) = self.busy.engage(message) {
                self.aside.begin(engaged, reason);
            }
        }
        if !docket.group.is_empty() {
            self.try_group(docket.group, suspects).await?;
        }
        Ok(())
    }

    async fn try_group(&mut self, group: Suspects, rest: &mut Suspects) -> Result<(), Stopped> {
        let keys: Vec<TrialKey> = group.iter().map(key_of).collect();
        let trial = Arc::clone(&self.dispatcher.trial);
        let _alone = tokio::select! {
            alone = trial.lock() => alone,
            () = self.shutdown.cancelled() => {
                rest.extend(group);
                return Err(Stopped);
            }
        };
        let store = &self.dispatcher.store;
        let begun = self.keep_on("begin a trial", || {
            store.begin_trials(keys.clone(), hookline_clock::now())
        });
        if let Err(Stopped) = begun.await {
            rest.extend(group);
            return Err(Stopped);
        }
        tracing::debug!(messages = group.len(), "trying suspect messages");
        self.waiting.fetch_sub(group.len(), Ordering::Relaxed);
        let (on_trial, mut over) = mpsc::channel(1);
        let tried = group
            .into_iter()
            .map(|message| (message, on_trial.clone()))
            .collect();
        drop(on_trial);
        let tried = match self.trying.send(tried) {
            Ok(()) => Ok(()),
            // Nobody listens any more when the process stops.
            Err(SendError(group)) => {
                rest.extend(group.into_iter().map(|(message, _)| message));
                Err(Stopped)
            }
        };
        // Nothing is ever sent: this is the end of the last part.
        tokio::select! {
            _ = over.recv() => {}
            () = self.shutdown.cancelled() => {
                // What is on trial may take its time; who waits for it goes to others now.
                self.put_back_all(rest).await;
                let _ = over.recv().await;
            }
        }
        self.clear(keys).await;
        tried
    }

    async fn keep_on<T, F>(&self, what: &str, work: impl FnMut() -> F) -> Result<T, Stopped>
    where
        F: Future<Output = Result<T, StoreError>>,
    {
        match keep_on(&self.shutdown, what, |_| true, work).await {
            Ended::Done(done) => Ok(done),
            Ended::Stopped | Ended::Failed(_) => Err(Stopped),
        }
    }

    /// Also while the process stops: an orderly end is nobody's fault.
    async fn clear(&self, keys: Vec<TrialKey>) {
        if let Err(why) = self.dispatcher.store.end_trials(keys).await {
            tracing::warn!(error = %why, "could not take charges back; they are one too many");
        }
    }
}

fn key_of(message: &Taken<OwedAttempt>) -> TrialKey {
    message.message.delivery.into()
}
