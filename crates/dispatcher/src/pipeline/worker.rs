//! Moves due deliveries into subscription queues, loads their rows when their turn comes, and starts each owed attempt.

mod backlog;
mod load;
mod send;
mod slot;

use std::collections::HashMap;
use std::time::{Duration, Instant};

use hookline_core::ids::EventKey;
use hookline_runtime::retry::RetryOutcome;
use hookline_runtime::shutdown::Shutdown;
use hookline_store::{BacklogClass, BacklogRow, EventPayload, LoadedDeliveries};
use moka::future::Cache;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::context::Dispatcher;
use crate::due::{DueRows, InHand};
use crate::http::attempt::Requester;
use crate::ownership::{Part, Progress};
use crate::pipeline::dead_letter::DeadLettering;
use crate::pipeline::decide::{Task, decide};
use crate::pipeline::group_cache::GroupCache;
use crate::pipeline::load_retry::LoadRetry;
use crate::pipeline::metrics::Gauges;
use crate::pipeline::quarantine::Quarantine;
use crate::pipeline::record::{Finished, Recorder};
use crate::scheduler::{Limits, Read, ReadResult, Scheduler};

use backlog::{Backlog, Step, is_void};
use send::Unready;
use slot::{ReleasedSlot, Slot};

pub(crate) use slot::ReleasedSlots;

/// The longest time between two turns of the scheduler. A dispatcher with a scheduler that hangs for 5 s loses its
/// partitions.
const TURN: Duration = Duration::from_secs(1);

/// The most deliveries that one query loads.
const BATCH: usize = 1_024;

/// The approximate size of a cached body besides its bytes.
const ENTRY: usize = 400;

/// The time for which a subscription gets no request, because this process does not have its master key.
const WITHOUT_KEY: Duration = Duration::from_secs(60);

/// The time between two checks for subscription queues of partitions that were given up.
const RETAINING: Duration = Duration::from_secs(5);

pub(crate) struct Worker {
    dispatcher: Dispatcher,
    due: DueRows,
    aside: DeadLettering,
    requester: Requester,
    recorder: Recorder,
    loads: LoadRetry,
    bodies: Cache<EventKey, EventPayload>,
    whereabouts: GroupCache,
    in_flight: TaskTracker,
    late: CancellationToken,
    over: mpsc::UnboundedSender<ReleasedSlot>,
}

/// A delivery that holds a slot, so that its request may start.
type Turn = (InHand, Slot);

impl Worker {
    pub(crate) fn new(
        dispatcher: Dispatcher,
        due: DueRows,
        aside: DeadLettering,
        requester: Requester,
        recorder: Recorder,
        Shutdown { draining, deadline }: Shutdown,
    ) -> (Self, ReleasedSlots) {
        let bodies = Cache::builder()
            .max_capacity(dispatcher.policy.body_cache_bytes)
            .weigher(|_, body: &EventPayload| {
                u32::try_from(body.bytes.len() + ENTRY).unwrap_or(u32::MAX)
            })
            .build();
        let (over, overs) = mpsc::unbounded_channel();
        let in_flight = TaskTracker::new();
        let worker = Self {
            loads: LoadRetry::new(
                dispatcher.clone(),
                aside.clone(),
                draining,
                in_flight.clone(),
            ),
            dispatcher,
            due,
            aside,
            requester,
            recorder,
            bodies,
            whereabouts: GroupCache::default(),
            in_flight,
            late: deadline,
            over,
        };
        (worker, ReleasedSlots(overs))
    }

    pub(crate) async fn run(
        mut self,
        mut overs: ReleasedSlots,
        mut trials: Quarantine,
        progress: Progress,
        shutdown: CancellationToken,
    ) {
        let mut lanes = Scheduler::new(Limits::from(&*self.dispatcher.policy));
        let mut gauges = Gauges::new();
        let mut backlog = Backlog::new(
            self.dispatcher.clone(),
            self.due.clone(),
            self.recorder.clone(),
            self.loads.clone(),
        );
        let due = self.due.clone();
        let mut turns = tokio::time::interval(TURN);
        turns.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut retained = Instant::now();
        while !shutdown.is_cancelled() {
            progress.finished(Part::Scheduler, Instant::now());
            let room = lanes.room().saturating_sub(trials.waiting());
            let takes = room > 0 && !backlog.is_full();
            let change = lanes.next_change().map(tokio::time::Instant::from_std);
            let (mut tried, mut step) = (Vec::new(), Step::Done);
            let taken = tokio::select! {
                () = shutdown.cancelled() => break,
                Some(over) = overs.0.recv() => {
                    lanes.finished(over.ticket, over.finish, Instant::now());
                    Vec::new()
                }
                group = trials.group() => {
                    tried = group;
                    Vec::new()
                }
                next = backlog.next(lanes.may_read()) => {
                    step = next;
                    Vec::new()
                }
                taken = due.take(room.min(BATCH)), if takes => taken,
                () = due.listed() => Vec::new(),
                _ = turns.tick() => Vec::new(),
                () = at(change) => Vec::new(),
            };
            while let Ok(over) = overs.0.try_recv() {
                lanes.finished(over.ticket, over.finish, Instant::now());
            }
            let now = Instant::now();
            // The list of a partition comes before the rows of that partition.
            let listed = due.take_listed();
            for (subscription, wait) in listed.taken {
                lanes.take_over(subscription, wait);
            }
            for (subscription, class) in listed.backlog {
                lanes.note_backlog(subscription, class, now);
            }
            if now >= retained + RETAINING {
                retained = now;
                lanes.retain(|subscription| due.owns(subscription));
            }
            let mut in_hand = trials.sort_out(taken);
            in_hand.extend(tried);
            self.push(&mut lanes, in_hand).await;
            match step {
                Step::Begin => backlog.begin(|| lanes.take_reads(now)),
                Step::Marked(subscriptions, tests) => {
                    for subscription in subscriptions {
                        lanes.note_backlog(subscription, BacklogClass::Live, now);
                    }
                    for test in tests {
                        self.put_first(&mut lanes, test);
                    }
                }
                Step::Read {
                    ended,
                    rows,
                    failed,
                } => {
                    for read in failed {
                        lanes.read_failed(read, now);
                    }
                    let given_back = self
                        .end_reads(&mut lanes, &mut backlog, &trials, ended, &rows)
                        .await;
                    self.push(&mut lanes, given_back).await;
                }
                Step::Unwritten(_) | Step::Settled(_) | Step::Done => {}
            }
            while !shutdown.is_cancelled() {
                let turns = self.turns(&mut lanes);
                let is_over = turns.is_empty();
                if !is_over {
                    self.start(turns, &mut lanes, &mut backlog).await;
                }
                backlog.gather(lanes.take_excess());
                backlog.write(lanes.take_breaker_changes());
                gauges.show(lanes.totals());
                if is_over {
                    break;
                }
            }
        }
        // Deliveries that wait stay due, and their next owner finds them.
        drop((lanes, trials));
        backlog.end().await;
        let requests = self.in_flight.len();
        tracing::info!(requests, "stopped; what is in flight is finished");
        self.in_flight.close();
        self.in_flight.wait().await;
    }

    /// Puts deliveries into their subscription queues.
    async fn push(&mut self, lanes: &mut Scheduler<InHand>, in_hand: Vec<InHand>) {
        if in_hand.is_empty() {
            return;
        }
        for (in_hand, kin) in self.sort(in_hand).await {
            let to = in_hand.owed.subscription;
            lanes.push(to, kin, in_hand, Instant::now());
        }
    }

    /// Puts rows of backlogs into subscription queues. Returns the deliveries that were to be marked in a backlog that
    /// has ended.
    async fn end_reads(
        &mut self,
        lanes: &mut Scheduler<InHand>,
        backlog: &mut Backlog,
        trials: &Quarantine,
        reads: Vec<Read>,
        rows: &[BacklogRow],
    ) -> Vec<InHand> {
        let mut results: Vec<ReadResult> = vec![ReadResult::default(); reads.len()];
        let at: HashMap<_, usize> = reads
            .iter()
            .enumerate()
            .map(|(at, read)| ((read.subscription, read.class), at))
            .collect();
        let result_of = |row: &BacklogRow| at.get(&(row.owed.subscription, row.class)).copied();
        for row in rows {
            if let Some(at) = result_of(row) {
                results[at].found += 1;
                results[at].last = Some(row.position());
            }
        }
        let taken = self.due.take_read(rows);
        for in_hand in &taken {
            let class = in_hand.backlog.unwrap_or(BacklogClass::Live);
            if let Some(at) = at.get(&(in_hand.owed.subscription, class)) {
                results[*at].new += 1;
            }
        }
        let in_hand = trials.sort_out(taken);
        self.push(lanes, in_hand).await;
        let mut given_back = Vec::new();
        for (read, result) in reads.into_iter().zip(results) {
            if lanes.read(read, result) {
                given_back.extend(backlog.give_back(read.subscription));
            }
        }
        given_back
    }

    /// Puts a test before all other messages. It is sent once, and a caller of the API waits for the outcome.
    fn put_first(&self, lanes: &mut Scheduler<InHand>, test: InHand) {
        let to = test.owed.subscription;
        let kin = self.whereabouts.of(to).unwrap_or_default();
        lanes.push_first(to, kin, test);
    }

    /// The deliveries that may start now.
    fn turns(&self, lanes: &mut Scheduler<InHand>) -> Vec<Turn> {
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

    /// Starts the deliveries that the store still lists as owed. The recorder gets the others.
    async fn start(
        &mut self,
        mut turns: Vec<Turn>,
        lanes: &mut Scheduler<InHand>,
        backlog: &mut Backlog,
    ) {
        let now = Instant::now();
        turns.retain(|(in_hand, _)| in_hand.may_start(now));
        if turns.is_empty() {
            return;
        }
        let LoadedDeliveries { mut owed, bodies } = match self.load(&turns).await {
            RetryOutcome::Done(loaded) => loaded,
            ended => {
                let deliveries = turns.into_iter().map(|(in_hand, _)| in_hand).collect();
                return self.loads.apart(deliveries, &ended);
            }
        };
        owed.values().for_each(|owed| self.whereabouts.learn(owed));
        let now = hookline_clock::now();
        let mut attempts = Vec::new();
        for (in_hand, slot) in turns {
            let subscription = in_hand.owed.subscription;
            let found = owed.remove(&in_hand.owed.delivery);
            let result = match decide(in_hand.owed, found, now) {
                Task::Attempt(owed) => {
                    if let Some(class) = owed.backlog.filter(|_| in_hand.backlog.is_none()) {
                        lanes.note_backlog(subscription, class, Instant::now());
                    }
                    match self.ready(owed) {
                        Ok(ready) => attempts.push((in_hand, ready, slot)),
                        Err(Unready::NoKey) => {
                            let now = Instant::now();
                            lanes.hold(subscription, in_hand, now + WITHOUT_KEY, now);
                        }
                        Err(Unready::Ever(reason)) => self.aside.begin(in_hand, reason),
                    }
                    continue;
                }
                Task::Settle(result) => result,
            };
            if is_void(&result) {
                backlog.settle(subscription);
            }
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
