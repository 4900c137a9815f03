//! Marks excess messages as backlog, reads them again when there is room, and settles void deliveries there.
//!
//! One query runs at a time, so that a search never runs beside a mark. A search that finds nothing new therefore shows
//! that the backlog has ended. A marked delivery is not urgent, so marks are gathered for a moment. Beside requests
//! they take no more than one connection of the store.

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

use hookline_core::delivery::{AttemptTask, DeliveryState, Origin};
use hookline_core::ids::{DeliveryId, SubscriptionId};
use hookline_runtime::failpoint;
use hookline_runtime::panics;
use hookline_runtime::retry::RetryOutcome;
use hookline_store::{
    BacklogClass, BacklogPosition, BacklogRead, BacklogRow, BreakerChange, StoreError,
};
use opentelemetry::metrics::Counter;
use tokio::task::JoinHandle;

use super::BATCH;
use crate::context::Dispatcher;
use crate::due::{DueRows, InHand};
use crate::pipeline::decide::{Task, decide};
use crate::pipeline::load_retry::LoadRetry;
use crate::pipeline::record::{Disposition, Finished, Recorder};
use crate::scheduler::Read;

/// The time for which rows to mark are gathered, unless there are [`MANY`].
const GATHERING: Duration = Duration::from_millis(100);

/// This number of gathered rows is marked at once.
const MANY: usize = 128;

/// The time between two queries of the backlog that are not urgent.
const PAUSE: Duration = Duration::from_millis(50);

/// The number of void deliveries that are settled at once.
const VOID: u32 = 1_000;

/// The backlogs of one dispatcher.
pub(super) struct Backlog {
    queries: Queries,
    /// Deliveries to mark, in the order of their arrival.
    gathered: Vec<InHand>,
    since: Instant,
    breakers: HashMap<SubscriptionId, Option<Duration>>,
    /// Backlogs with a void delivery, and the position up to which each is settled.
    void: VecDeque<(SubscriptionId, BacklogClass, Option<BacklogPosition>)>,
    under_way: Option<JoinHandle<Step>>,
    /// The earliest time of each kind of query.
    reads_from: Instant,
    writes_from: Instant,
    /// The kinds of queries, the next one first.
    turns: [Kind; 4],
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Read,
    Mark,
    Settle,
    Write,
}

pub(super) enum Step {
    /// It is time to call [`Backlog::begin`].
    Begin,
    /// Rows of these subscriptions were marked. The deliveries are tests, which are not marked.
    Marked(Vec<SubscriptionId>, Vec<InHand>),
    /// Searches have ended, with these rows; others have failed.
    Read {
        ended: Vec<Read>,
        rows: Vec<BacklogRow>,
        failed: Vec<Read>,
    },
    /// The scheduler has nothing to do.
    Done,
    /// These changes were not written.
    Unwritten(Vec<BreakerChange>),
    /// A slice of void rows was settled, up to this position. There may be more behind it.
    Settled(Option<(SubscriptionId, BacklogClass, BacklogPosition)>),
}

#[derive(Clone)]
struct Queries {
    dispatcher: Dispatcher,
    due: DueRows,
    recorder: Recorder,
    loads: LoadRetry,
    marked: Counter<u64>,
    read: Counter<u64>,
    statements: Counter<u64>,
}

impl Backlog {
    pub(super) fn new(
        dispatcher: Dispatcher,
        due: DueRows,
        recorder: Recorder,
        loads: LoadRetry,
    ) -> Self {
        let meter = opentelemetry::global::meter("hookline-dispatcher");
        let now = Instant::now();
        Self {
            queries: Queries {
                dispatcher,
                due,
                recorder,
                loads,
                marked: meter.u64_counter("hookline.backlog.marked").build(),
                read: meter.u64_counter("hookline.backlog.read").build(),
                statements: meter.u64_counter("hookline.backlog.statements").build(),
            },
            gathered: Vec::new(),
            since: now,
            breakers: HashMap::new(),
            void: VecDeque::new(),
            under_way: None,
            reads_from: now,
            writes_from: now,
            turns: [Kind::Read, Kind::Mark, Kind::Settle, Kind::Write],
        }
    }

    /// Adds deliveries to mark soon. The rows that were read from the backlog are still in it.
    pub(super) fn gather(&mut self, excess: Vec<InHand>) {
        if self.gathered.is_empty() {
            self.since = Instant::now();
        }
        let is_marked = |in_hand: &InHand| in_hand.backlog.is_some();
        self.gathered
            .extend(excess.into_iter().filter(|one| !is_marked(one)));
    }

    /// Returns the deliveries of a subscription that were gathered and not marked.
    pub(super) fn give_back(&mut self, subscription: SubscriptionId) -> Vec<InHand> {
        let is_of = |in_hand: &mut InHand| in_hand.owed.subscription == subscription;
        self.gathered.extract_if(.., is_of).collect()
    }

    /// Adds changes to write soon. The last change of a subscription counts.
    pub(super) fn write(&mut self, changes: Vec<BreakerChange>) {
        for BreakerChange { subscription, wait } in changes {
            self.breakers.insert(subscription, wait);
        }
    }

    /// Adds changes to write again, unless there is a newer one.
    fn write_again(&mut self, changes: Vec<BreakerChange>) {
        for BreakerChange { subscription, wait } in changes {
            self.breakers.entry(subscription).or_insert(wait);
        }
    }

    /// Notes a void delivery of this subscription: its backlog is to be settled.
    pub(super) fn settle(&mut self, subscription: SubscriptionId) {
        if self.void.iter().all(|(known, ..)| *known != subscription) {
            for class in [BacklogClass::Live, BacklogClass::Replay] {
                self.void.push_back((subscription, class, None));
            }
        }
    }

    /// Whether rows are gathered faster than they are marked.
    pub(super) fn is_full(&self) -> bool {
        self.gathered.len() >= BATCH
    }

    /// Waits for the next step. `may_read` says whether a search may be wanted. Cancel safe.
    pub(super) async fn next(&mut self, may_read: bool) -> Step {
        if let Some(under_way) = &mut self.under_way {
            let step = under_way.await;
            self.under_way = None;
            return match step.unwrap_or(Step::Done) {
                Step::Unwritten(changes) => {
                    self.write_again(changes);
                    Step::Done
                }
                Step::Settled(Some((subscription, class, last))) => {
                    self.void.push_back((subscription, class, Some(last)));
                    Step::Done
                }
                step => step,
            };
        }
        let moments = [
            may_read.then_some(self.reads_from),
            self.marks_from(),
            (!self.void.is_empty()).then_some(self.since),
            (!self.breakers.is_empty()).then_some(self.writes_from),
        ];
        match moments.into_iter().flatten().min() {
            Some(at) => tokio::time::sleep_until(at.into()).await,
            None => std::future::pending().await,
        }
        Step::Begin
    }

    fn marks_from(&self) -> Option<Instant> {
        match self.gathered.len() {
            0 => None,
            MANY.. => Some(self.since),
            _ => Some(self.since + GATHERING),
        }
    }

    /// Begins the next query; kinds of queries take turns. `reads` returns the searches that are wanted now.
    pub(super) fn begin(&mut self, mut reads: impl FnMut() -> Vec<Read>) {
        let now = Instant::now();
        for at in 0..self.turns.len() {
            if self.begin_one(self.turns[at], &mut reads, now) {
                self.turns[at..].rotate_left(1);
                return;
            }
        }
    }

    /// Begins a query of this kind. Returns whether there was one.
    fn begin_one(
        &mut self,
        kind: Kind,
        reads: &mut impl FnMut() -> Vec<Read>,
        now: Instant,
    ) -> bool {
        match kind {
            Kind::Read if now >= self.reads_from => {
                let reads = reads();
                // A search for more rows than the pause would let through begins at once.
                let is_large = reads.iter().any(|read| read.limit >= MANY);
                self.reads_from = if is_large { now } else { now + PAUSE };
                if reads.is_empty() {
                    return false;
                }
                self.run(self.queries.clone().read(reads));
            }
            Kind::Mark if self.marks_from().is_some_and(|from| now >= from) => {
                let count = self.gathered.len().min(BATCH);
                let some = self.gathered.drain(..count).collect();
                self.since = now;
                self.run(self.queries.clone().mark(some));
            }
            Kind::Settle => {
                let Some((subscription, class, after)) = self.void.pop_front() else {
                    return false;
                };
                self.run(self.queries.clone().settle(subscription, class, after));
            }
            Kind::Write if now >= self.writes_from && !self.breakers.is_empty() => {
                self.writes_from = now + GATHERING;
                let changes = take_changes(&mut self.breakers);
                self.run(self.queries.clone().write(changes));
            }
            Kind::Read | Kind::Mark | Kind::Write => return false,
        }
        true
    }

    fn run(&mut self, step: impl Future<Output = Step> + Send + 'static) {
        self.under_way = Some(tokio::spawn(panics::fatal("backlog", step)));
    }

    /// Ends the queries. Gathered rows stay due. A mark in flight is finished, and changes of circuit breakers are
    /// written.
    pub(super) async fn end(self) {
        if let Some(under_way) = self.under_way {
            let _ = under_way.await;
        }
        let mut breakers = self.breakers;
        if !breakers.is_empty() {
            self.queries.write(take_changes(&mut breakers)).await;
        }
    }
}

fn take_changes(breakers: &mut HashMap<SubscriptionId, Option<Duration>>) -> Vec<BreakerChange> {
    let changes = breakers.drain();
    let changes = changes.map(|(subscription, wait)| BreakerChange { subscription, wait });
    changes.collect()
}

impl Queries {
    async fn mark(self, mut in_hand: Vec<InHand>) -> Step {
        in_hand.retain(InHand::is_owned);
        let owed: Vec<AttemptTask> = in_hand.iter().map(|one| one.owed).collect();
        let now = hookline_clock::now();
        let store = &self.dispatcher.store;
        self.statements.add(1, &[]);
        let marked = self
            .loads
            .keep_on("mark backlog", || store.mark_backlog(owed.clone(), now));
        let marked = match marked.await {
            RetryOutcome::Done(marked) => marked,
            ended => {
                self.loads.apart(in_hand, &ended);
                return Step::Done;
            }
        };
        failpoint::point("dispatcher::marked");
        tracing::debug!(deliveries = marked.len(), "marked deliveries as backlog");
        self.marked
            .add(u64::try_from(marked.len()).unwrap_or(u64::MAX), &[]);
        let (marked, others): (Vec<_>, Vec<_>) = in_hand
            .into_iter()
            .partition(|one| marked.contains(&one.owed.delivery));
        let mut subscriptions: Vec<SubscriptionId> =
            marked.iter().map(|one| one.owed.subscription).collect();
        subscriptions.sort_unstable();
        subscriptions.dedup();
        drop(marked);
        let tests = self.tests_among(others).await;
        Step::Marked(subscriptions, tests)
    }

    /// Finds the tests among rows that were not marked. Other such rows are early or were moved on meanwhile.
    async fn tests_among(&self, in_hand: Vec<InHand>) -> Vec<InHand> {
        let mut tests = Vec::new();
        if in_hand.is_empty() {
            return tests;
        }
        let ids: Vec<DeliveryId> = in_hand.iter().map(|one| one.owed.delivery).collect();
        let store = &self.dispatcher.store;
        let loaded = self
            .loads
            .keep_on("load deliveries", || store.owed(ids.clone()));
        let mut owed = match loaded.await {
            RetryOutcome::Done(owed) => owed,
            ended => {
                self.loads.apart(in_hand, &ended);
                return tests;
            }
        };
        let now = hookline_clock::now();
        for one in in_hand {
            let found = owed.remove(&one.owed.delivery);
            match decide(one.owed, found, now) {
                Task::Attempt(owed) if owed.origin == Origin::Test => tests.push(one),
                // It stays due, and a look finds it.
                Task::Attempt(_) => {}
                Task::Settle(result) => {
                    self.recorder
                        .send(Finished {
                            in_hand: one,
                            result,
                        })
                        .await
                }
            }
        }
        tests
    }

    async fn read(self, reads: Vec<Read>) -> Step {
        let (mut ended, mut failed) = (Vec::new(), Vec::new());
        let mut searches = Vec::new();
        for read in reads {
            let Some(partition) = self.due.readable(read.subscription) else {
                failed.push(read);
                continue;
            };
            searches.push(BacklogRead {
                partition,
                subscription: read.subscription,
                class: read.class,
                after: read.after,
                limit: u32::try_from(read.limit).unwrap_or(u32::MAX),
            });
            ended.push(read);
        }
        let rows = match self.search(searches).await {
            Ok(rows) => rows,
            Err(why) => {
                tracing::warn!(error = %why, "could not read backlog, trying again");
                tokio::time::sleep(crate::context::TRY_AGAIN_AFTER).await;
                failed.append(&mut ended);
                Vec::new()
            }
        };
        Step::Read {
            ended,
            rows,
            failed,
        }
    }

    async fn search(&self, searches: Vec<BacklogRead>) -> Result<Vec<BacklogRow>, StoreError> {
        let now = hookline_clock::now();
        self.statements.add(1, &[]);
        let rows = self.dispatcher.store.read_backlog(searches, now).await?;
        self.read
            .add(u64::try_from(rows.len()).unwrap_or(u64::MAX), &[]);
        failpoint::point("dispatcher::read_backlog");
        Ok(rows)
    }

    async fn write(self, changes: Vec<BreakerChange>) -> Step {
        let now = hookline_clock::now();
        let store = &self.dispatcher.store;
        self.statements.add(1, &[]);
        match store.write_breakers(changes.clone(), now).await {
            Ok(()) => Step::Done,
            Err(why) => {
                tracing::warn!(error = %why, "could not write circuit breakers, trying again");
                tokio::time::sleep(crate::context::TRY_AGAIN_AFTER).await;
                Step::Unwritten(changes)
            }
        }
    }

    /// Ends the void deliveries of a slice; continues while there are any.
    async fn settle(
        self,
        subscription: SubscriptionId,
        class: BacklogClass,
        after: Option<BacklogPosition>,
    ) -> Step {
        let Some(partition) = self.due.readable(subscription) else {
            return Step::Done;
        };
        let search = BacklogRead {
            partition,
            subscription,
            class,
            after,
            limit: VOID,
        };
        let rows = match self.search(vec![search]).await {
            Ok(rows) => rows,
            Err(why) => {
                tracing::warn!(error = %why, "could not read void deliveries, leaving them to their turn");
                return Step::Done;
            }
        };
        let Some(last) = rows.last().map(BacklogRow::position) else {
            return Step::Done;
        };
        let in_hand = self.due.take_read(&rows);
        let ids: Vec<DeliveryId> = in_hand.iter().map(|one| one.owed.delivery).collect();
        let mut owed = match self.dispatcher.store.owed(ids).await {
            Ok(owed) => owed,
            Err(why) => {
                tracing::warn!(error = %why, "could not load void deliveries, leaving them to their turn");
                return Step::Done;
            }
        };
        let now = hookline_clock::now();
        let mut ended = 0;
        for one in in_hand {
            let found = owed.remove(&one.owed.delivery);
            if let Task::Settle(result @ Disposition::Ended(_)) = decide(one.owed, found, now) {
                ended += 1;
                self.recorder
                    .send(Finished {
                        in_hand: one,
                        result,
                    })
                    .await;
            }
        }
        Step::Settled((ended > 0).then_some((subscription, class, last)))
    }
}

/// Whether a delivery ends because its subscription is off or gone. Others of that subscription then end, too.
pub(super) fn is_void(result: &Disposition) -> bool {
    let Disposition::Ended(end) = result else {
        return false;
    };
    matches!(
        end,
        DeliveryState::Skipped { .. } | DeliveryState::Cancelled { .. }
    )
}
