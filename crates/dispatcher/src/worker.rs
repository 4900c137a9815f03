//! Takes due deliveries into lanes, asks the store what they mean when their turn comes, and starts an
//! attempt for each that is owed.

mod loading;
mod making;
mod putting_off;
mod slot;

use std::time::{Duration, Instant};

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
use crate::caller::Caller;
use crate::decision::{Task, decide};
use crate::due::{DueRows, InHand};
use crate::gauges::Gauges;
use crate::lanes::{Lanes, Limits};
use crate::loads::Loads;
use crate::origins::Origins;
use crate::ownership::{Part, Progress};
use crate::poison::PuttingAside;
use crate::recorder::{Finished, Recorder, Result};
use crate::trials::Trials;
use crate::whereabouts::Whereabouts;

use making::Unready;
use putting_off::PuttingOff;
use slot::{Over, Slot};

pub(crate) use slot::Overs;

/// The longest time between two turns of the scheduler. A dispatcher with a scheduler that hangs for 5 s loses its
/// partitions.
const TURN: Duration = Duration::from_secs(1);

/// How many deliveries are asked about at once.
const BATCH: usize = 1_024;

/// What a cached body takes besides its bytes, about.
const ENTRY: usize = 400;

/// For how long a test waits when another one of its subscription is about to be sent.
const BEHIND_ANOTHER_TEST: Duration = Duration::from_secs(1);

pub(crate) struct Worker {
    dispatcher: Dispatcher,
    due: DueRows,
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

/// A delivery that holds a slot, so that its request may start.
type Turn = (InHand, Slot);

impl Worker {
    pub(crate) fn new(
        dispatcher: Dispatcher,
        due: DueRows,
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
            due,
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
        progress: Progress,
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
        let due = self.due.clone();
        let mut turns = tokio::time::interval(TURN);
        turns.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        while !shutdown.is_cancelled() {
            progress.finished(Part::Scheduler, Instant::now());
            let room = lanes.room().saturating_sub(trials.waiting());
            let takes = room > 0 && !putting_off.is_full();
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
                group = trials.group() => {
                    tried = group;
                    Vec::new()
                }
                found = putting_off.proceed() => {
                    tests = found;
                    Vec::new()
                }
                taken = due.take(room.min(BATCH)), if takes => taken,
                _ = turns.tick() => Vec::new(),
                () = at(change) => Vec::new(),
            };
            while let Ok(over) = overs.0.try_recv() {
                lanes.finished(over.ticket, over.finish, Instant::now());
            }
            let mut in_hand = trials.sort_out(taken);
            in_hand.extend(tried);
            for (in_hand, kin) in self.sort(in_hand).await {
                let to = in_hand.owed.subscription;
                lanes.push(to, kin, in_hand, Instant::now());
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
        // Deliveries that wait stay due, and their next owner finds them.
        drop((lanes, trials));
        putting_off.end().await;
        let requests = self.in_flight.len();
        tracing::info!(requests, "stopped; what is in flight is finished");
        self.in_flight.close();
        self.in_flight.wait().await;
    }

    /// A test is sent once and somebody waits for what comes of it: it is put off only behind
    /// another test.
    async fn put_first(&self, lanes: &mut Lanes<InHand>, test: InHand) {
        let to = test.owed.subscription;
        let kin = self.whereabouts.of(to).unwrap_or_default();
        if let Err(in_hand) = lanes.push_first(to, kin, test, Instant::now()) {
            let result = Result::Parked {
                delay: BEHIND_ANOTHER_TEST,
                wait: Wait::Time,
            };
            self.recorder.send(Finished { in_hand, result }).await;
        }
    }

    /// Those that may start now.
    fn turns(&self, lanes: &mut Lanes<InHand>) -> Vec<Turn> {
        let now = Instant::now();
        std::iter::from_fn(|| lanes.next(now))
            .take(BATCH)
            .map(|(ticket, in_hand)| {
                let (over, finish) = (self.over.clone(), None);
                let slot = Slot {
                    over,
                    ticket,
                    finish,
                };
                (in_hand, slot)
            })
            .collect()
    }

    /// Starts what is still owed, as the store says; the recorder gets the others.
    async fn start(&mut self, mut turns: Vec<Turn>) {
        let now = Instant::now();
        turns.retain(|(in_hand, _)| in_hand.may_start(now));
        if turns.is_empty() {
            return;
        }
        let Loaded { mut owed, bodies } = match self.load(&turns).await {
            Ended::Done(loaded) => loaded,
            ended => {
                let deliveries = turns.into_iter().map(|(in_hand, _)| in_hand).collect();
                return self.loads.apart(deliveries, &ended);
            }
        };
        owed.values().for_each(|owed| self.whereabouts.learn(owed));
        let now = hookline_clock::now();
        let mut attempts = Vec::new();
        for (in_hand, slot) in turns {
            let found = owed.remove(&in_hand.owed.delivery);
            let result = match decide(in_hand.owed, found, now) {
                Task::Attempt(owed) => match self.ready(owed) {
                    Ok(ready) => {
                        attempts.push((in_hand, ready, slot));
                        continue;
                    }
                    Err(Unready::Until(delay)) => Result::Parked {
                        delay,
                        wait: Wait::Time,
                    },
                    Err(Unready::Ever(reason)) => {
                        self.aside.begin(in_hand, reason);
                        continue;
                    }
                },
                Task::Settle(result) => result,
            };
            self.recorder.send(Finished { in_hand, result }).await;
        }
        self.attempt_all(attempts, bodies).await;
    }
}

async fn at(moment: Option<tokio::time::Instant>) {
    match moment {
        Some(moment) => tokio::time::sleep_until(moment).await,
        None => std::future::pending().await,
    }
}
