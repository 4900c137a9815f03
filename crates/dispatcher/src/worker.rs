//! Takes messages into lanes, asks the store what they mean when their turn comes, and starts an
//! attempt for each that is owed.

mod loading;
mod making;
mod putting_off;
mod slot;

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::FutureExt as _;
use futures::future::BoxFuture;
use hookline_broker::contract::Taken;
use hookline_core::delivery::OwedAttempt;
use hookline_core::ids::EventKey;
use hookline_runtime::patience::Ended;
use hookline_runtime::shutdown::Shutdown;
use hookline_store::{Body, Loaded, Wait};
use moka::future::Cache;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::Dispatcher;
use crate::attempt::Requester;
use crate::busy::{Busy, Engaged, Waited};
use crate::caller::Caller;
use crate::decision::{Task, decide};
use crate::gauges::Gauges;
use crate::lanes::{Lanes, Limits, Message};
use crate::loads::Loads;
use crate::origins::Origins;
use crate::poison::PuttingAside;
use crate::recorder::{Finished, Recorder, Result};
use crate::trials::Trials;
use crate::whereabouts::Whereabouts;

use making::Unready;
use putting_off::PuttingOff;
use slot::{Over, Slot};

pub(crate) use slot::Overs;

/// How many messages are asked about at once.
const BATCH: usize = 1_024;

/// What a cached body takes besides its bytes, about.
const ENTRY: usize = 400;

/// For how long a test waits when another one of its subscription is about to be sent.
const BEHIND_ANOTHER_TEST: Duration = Duration::from_secs(1);

pub(crate) struct Worker {
    dispatcher: Dispatcher,
    aside: PuttingAside,
    requester: Requester,
    recorder: Recorder,
    loads: Loads,
    bodies: Cache<EventKey, Body>,
    whereabouts: Whereabouts,
    origins: Option<Origins>,
    in_flight: TaskTracker,
    late: CancellationToken,
    over: mpsc::UnboundedSender<Over>,
}

/// A message whose request may start.
type Turn = (Engaged, Slot);

impl Message for Engaged {
    fn attempt(&self) -> u32 {
        self.message.message.attempt
    }
}

type Taking<'a> = BoxFuture<'a, Vec<Taken<OwedAttempt>>>;

impl Worker {
    pub(crate) fn new(
        dispatcher: Dispatcher,
        aside: PuttingAside,
        requester: Requester,
        recorder: Recorder,
        Shutdown { asked, late }: Shutdown,
    ) -> (Self, Overs) {
        let bodies = Cache::builder()
            .max_capacity(dispatcher.policy.body_cache_bytes)
            .weigher(|_, body: &Body| u32::try_from(body.bytes.len() + ENTRY).unwrap_or(u32::MAX))
            .build();
        let origins = dispatcher.policy.origin_rate.map(Origins::new);
        let (over, overs) = mpsc::unbounded_channel();
        let in_flight = TaskTracker::new();
        let worker = Self {
            loads: Loads::new(dispatcher.clone(), aside.clone(), asked, in_flight.clone()),
            dispatcher,
            aside,
            requester,
            recorder,
            bodies,
            whereabouts: Whereabouts::default(),
            origins,
            in_flight,
            late,
            over,
        };
        (worker, Overs(overs))
    }

    pub(crate) async fn run(
        mut self,
        mut overs: Overs,
        mut trials: Trials,
        (busy, mut waited): (Busy, Waited),
        shutdown: CancellationToken,
    ) {
        let mut lanes = Lanes::new(Limits::from(&*self.dispatcher.policy));
        let mut gauges = Gauges::new();
        let (come, mut all_back) = mpsc::unbounded_channel();
        let mut putting_off = PuttingOff::new(
            self.dispatcher.clone(),
            self.recorder.clone(),
            self.loads.clone(),
        );
        let caller = Caller::new(&self.dispatcher, come);
        let source = Arc::clone(&self.dispatcher.attempts);
        // Kept from turn to turn: what is dropped half-way may have to be waited for.
        let mut taking: Option<Taking<'_>> = None;
        while !shutdown.is_cancelled() {
            let room = lanes.room().saturating_sub(trials.waiting());
            if taking.is_none() && room > 0 && !putting_off.is_full() {
                taking = Some(source.take(room.min(BATCH)).boxed());
            }
            let change = lanes.next_change().map(tokio::time::Instant::from_std);
            let (mut tried, mut tests) = (Vec::new(), Vec::new());
            let taken = tokio::select! {
                () = shutdown.cancelled() => break,
                Some(over) = overs.0.recv() => {
                    lanes.finished(over.ticket, over.finish, Instant::now());
                    Vec::new()
                }
                Some(subscription) = all_back.recv() => {
                    lanes.all_are_back(subscription, Instant::now());
                    Vec::new()
                }
                Some(waited) = waited.recv() => waited,
                group = trials.group() => {
                    tried = group;
                    Vec::new()
                }
                found = putting_off.proceed() => {
                    tests = found;
                    Vec::new()
                }
                taken = or_never(&mut taking) => {
                    taking = None;
                    taken
                }
                () = at(change) => Vec::new(),
            };
            while let Ok(over) = overs.0.try_recv() {
                lanes.finished(over.ticket, over.finish, Instant::now());
            }
            // Before the store is asked: what it says of a busy delivery will not be true for long.
            let others = trials.sort_out(taken).into_iter();
            let engaged: Vec<Engaged> = others
                .filter_map(|message| busy.engage(message))
                .chain(
                    tried
                        .into_iter()
                        .filter_map(|tried| busy.engage_on_trial(tried)),
                )
                .collect();
            for (engaged, kin) in self.sort(engaged).await {
                let to = engaged.message.message.subscription;
                lanes.push(to, kin, engaged, Instant::now());
            }
            for test in tests {
                self.put_first(&mut lanes, test).await;
            }
            while !shutdown.is_cancelled() {
                let turns = self.turns(&mut lanes);
                putting_off.gather(lanes.take_excess());
                for (subscription, count) in lanes.take_called_back() {
                    caller.call_back(subscription, count);
                }
                gauges.show(lanes.totals());
                if turns.is_empty() {
                    break;
                }
                self.start(turns).await;
            }
        }
        let mut waiting = lanes.drain();
        waiting.extend(putting_off.end().await);
        self.stop(waiting, trials.end(), taking).await;
        self.in_flight.close();
        self.in_flight.wait().await;
    }

    /// What waits here and what the source has ahead goes back at once, so that nobody waits for it
    /// until the requests in flight are over.
    async fn stop(
        &self,
        waiting: Vec<Engaged>,
        suspects: Vec<Taken<OwedAttempt>>,
        taking: Option<Taking<'_>>,
    ) {
        let source = &self.dispatcher.attempts;
        source.stop();
        let mut waiting: Vec<Taken<OwedAttempt>> =
            waiting.into_iter().map(|engaged| engaged.message).collect();
        waiting.extend(suspects);
        if let Some(taking) = taking {
            waiting.extend(taking.await);
        }
        loop {
            let ahead = source.take(BATCH).await;
            if ahead.is_empty() {
                break;
            }
            waiting.extend(ahead);
        }
        let messages = waiting.len();
        source.put_back(waiting).await;
        let requests = self.in_flight.len();
        tracing::info!(
            messages,
            requests,
            "put back what waited; what is in flight is finished"
        );
    }

    /// A test is sent once and somebody waits for what comes of it: it is put off only behind
    /// another test.
    async fn put_first(&self, lanes: &mut Lanes<Engaged>, test: Engaged) {
        let to = test.message.message.subscription;
        let kin = self.whereabouts.of(to).unwrap_or_default();
        if let Err(engaged) = lanes.push_first(to, kin, test, Instant::now()) {
            let result = Result::Parked {
                delay: BEHIND_ANOTHER_TEST,
                wait: Wait::Time,
            };
            self.recorder.send(Finished { engaged, result }).await;
        }
    }

    /// Those that may start now.
    fn turns(&self, lanes: &mut Lanes<Engaged>) -> Vec<Turn> {
        let now = Instant::now();
        std::iter::from_fn(|| lanes.next(now))
            .take(BATCH)
            .map(|(ticket, engaged)| {
                let (over, finish) = (self.over.clone(), None);
                let slot = Slot {
                    over,
                    ticket,
                    finish,
                };
                (engaged, slot)
            })
            .collect()
    }

    /// Starts what is still owed, as the store says; the recorder gets the others.
    async fn start(&mut self, mut turns: Vec<Turn>) {
        // What came on a connection that has died is somebody else's turn by now, or comes again.
        turns.retain(|(engaged, _)| self.dispatcher.attempts.holds(&engaged.message));
        if turns.is_empty() {
            return;
        }
        let Loaded { mut owed, bodies } = match self.load(&turns).await {
            Ended::Done(loaded) => loaded,
            ended => {
                let messages = turns.into_iter().map(|(engaged, _)| engaged).collect();
                return self.loads.apart(messages, ended).await;
            }
        };
        owed.values().for_each(|owed| self.whereabouts.learn(owed));
        let now = hookline_clock::now();
        let mut attempts = Vec::new();
        for (engaged, slot) in turns {
            let found = owed.remove(&engaged.message.message.delivery);
            let result = match decide(&engaged.message, found, now) {
                Task::Attempt(owed) => match self.ready(owed) {
                    Ok(ready) => {
                        attempts.push((engaged, ready, slot));
                        continue;
                    }
                    Err(Unready::Until(delay)) => Result::Parked {
                        delay,
                        wait: Wait::Time,
                    },
                    Err(Unready::Ever(reason)) => {
                        self.aside.begin(engaged, reason);
                        continue;
                    }
                },
                Task::Settle(result) => result,
            };
            self.recorder.send(Finished { engaged, result }).await;
        }
        self.attempt_all(attempts, bodies).await;
    }
}

async fn or_never<T>(future: &mut Option<BoxFuture<'_, T>>) -> T {
    match future {
        Some(future) => future.await,
        None => std::future::pending().await,
    }
}

async fn at(moment: Option<tokio::time::Instant>) {
    match moment {
        Some(moment) => tokio::time::sleep_until(moment).await,
        None => std::future::pending().await,
    }
}
