//! Marks excess messages as backlog, reads them again when there is room, and settles void deliveries there.
//!
//! One query runs at a time, so that a search never runs beside a mark. A search that finds nothing new therefore shows
//! that the backlog has ended. A marked delivery is not urgent, so marks are gathered for a moment. Beside requests
//! they take no more than one connection of the store.

use std::collections::{BTreeSet, VecDeque};
use std::time::{Duration, Instant};

use hookline_core::delivery::{AttemptTask, DeliveryKind, DeliveryState};
use hookline_core::ids::{DeliveryId, SubscriptionId};
use hookline_runtime::failpoint;
use hookline_runtime::panics;
use hookline_runtime::retry::RetryOutcome;
use hookline_store::{BacklogClass, BacklogPosition, BacklogRead, BacklogRow, StoreError};
use opentelemetry::metrics::Counter;
use tokio::task::JoinHandle;

use super::load::BATCH;
use crate::context::Dispatcher;
use crate::due::{DueRows, InHand};
use crate::pipeline::decide::{NextAction, decide};
use crate::pipeline::load_retry::LoadRetry;
use crate::pipeline::record::{DeliveryOutcome, Recorder};
use crate::scheduler::BacklogSearch;

/// The time for which rows to mark are gathered, unless there are [`MANY`].
const GATHERING: Duration = Duration::from_millis(100);

/// This number of gathered rows is marked at once.
const MANY: usize = 128;

/// The time between two queries of the backlog that are not urgent.
const PAUSE: Duration = Duration::from_millis(50);

/// The number of void deliveries that are settled at once.
const VOID: u32 = 1_000;

/// The backlogs of one dispatcher.
pub(super) struct BacklogQueries {
    queries: Queries,
    /// Deliveries to mark, in the order of their arrival.
    to_mark: Vec<InHand>,
    since: Instant,
    /// Backlogs with a void delivery, and the position up to which each is settled.
    voids: VecDeque<(SubscriptionId, BacklogClass, Option<BacklogPosition>)>,
    running: Option<JoinHandle<QueryResult>>,
    /// The earliest time of the next search.
    reads_from: Instant,
    /// The kinds of queries, the next one first.
    turns: [QueryKind; 3],
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum QueryKind {
    Read,
    Mark,
    Settle,
}

/// News of a query for the scheduler.
pub(super) enum BacklogEvent {
    /// It is time to call [`BacklogQueries::begin`].
    Begin,
    /// Rows of these subscriptions were marked. The deliveries are tests, which are not marked.
    Marked(BTreeSet<SubscriptionId>, Vec<InHand>),
    /// Searches have ended, with these rows; others have failed.
    Read {
        ended: Vec<BacklogSearch>,
        rows: Vec<BacklogRow>,
        failed: Vec<BacklogSearch>,
    },
}

/// The result of a query.
enum QueryResult {
    News(BacklogEvent),
    /// A slice of void rows was settled, up to this position. There may be more behind it.
    Settled(SubscriptionId, BacklogClass, BacklogPosition),
    Done,
}

#[derive(Clone)]
struct Queries {
    dispatcher: Dispatcher,
    due: DueRows,
    recorder: Recorder,
    load_retry: LoadRetry,
    marked: Counter<u64>,
    read: Counter<u64>,
    statements: Counter<u64>,
}

impl BacklogQueries {
    pub(super) fn new(
        dispatcher: Dispatcher,
        due: DueRows,
        recorder: Recorder,
        load_retry: LoadRetry,
    ) -> Self {
        let meter = opentelemetry::global::meter("hookline-dispatcher");
        let now = Instant::now();
        Self {
            queries: Queries {
                dispatcher,
                due,
                recorder,
                load_retry,
                marked: meter.u64_counter("hookline.backlog.marked").build(),
                read: meter.u64_counter("hookline.backlog.read").build(),
                statements: meter.u64_counter("hookline.backlog.statements").build(),
            },
            to_mark: Vec::new(),
            since: now,
            voids: VecDeque::new(),
            running: None,
            reads_from: now,
            turns: [QueryKind::Read, QueryKind::Mark, QueryKind::Settle],
        }
    }

    /// Adds deliveries to mark soon. The rows that were read from the backlog are still in it.
    pub(super) fn mark_soon(&mut self, excess: Vec<InHand>) {
        if self.to_mark.is_empty() {
            self.since = Instant::now();
        }
        let is_marked = |in_hand: &InHand| in_hand.backlog.is_some();
        self.to_mark
            .extend(excess.into_iter().filter(|one| !is_marked(one)));
    }

    /// Returns the deliveries of a subscription that were gathered and not marked.
    pub(super) fn take_unmarked(&mut self, subscription: SubscriptionId) -> Vec<InHand> {
        let is_of = |in_hand: &mut InHand| in_hand.task.subscription == subscription;
        self.to_mark.extract_if(.., is_of).collect()
    }

    /// Notes a void delivery of this subscription: its backlog is to be settled.
    pub(super) fn settle(&mut self, subscription: SubscriptionId) {
        if self.voids.iter().all(|(known, ..)| *known != subscription) {
            for class in [BacklogClass::Live, BacklogClass::Replay] {
                self.voids.push_back((subscription, class, None));
            }
        }
    }

    /// Whether rows are gathered faster than they are marked.
    pub(super) fn is_full(&self) -> bool {
        self.to_mark.len() >= BATCH
    }

    /// Waits for the next event. `may_read` says whether a search may be wanted. Cancel safe.
    pub(super) async fn next(&mut self, may_read: bool) -> BacklogEvent {
        while let Some(running) = &mut self.running {
            let result = running.await;
            self.running = None;
            match result.unwrap_or(QueryResult::Done) {
                QueryResult::News(event) => return event,
                QueryResult::Settled(subscription, class, last) => {
                    self.voids.push_back((subscription, class, Some(last)));
                }
                QueryResult::Done => {}
            }
        }
        let moments = [
            may_read.then_some(self.reads_from),
            self.marks_from(),
            (!self.voids.is_empty()).then_some(self.since),
        ];
        match moments.into_iter().flatten().min() {
            Some(at) => tokio::time::sleep_until(at.into()).await,
            None => std::future::pending().await,
        }
        BacklogEvent::Begin
    }

    fn marks_from(&self) -> Option<Instant> {
        match self.to_mark.len() {
            0 => None,
            MANY.. => Some(self.since),
            _ => Some(self.since + GATHERING),
        }
    }

    /// Begins the next query; kinds of queries take turns. `reads` returns the searches that are wanted now.
    pub(super) fn begin(&mut self, mut reads: impl FnMut() -> Vec<BacklogSearch>) {
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
        kind: QueryKind,
        reads: &mut impl FnMut() -> Vec<BacklogSearch>,
        now: Instant,
    ) -> bool {
        match kind {
            QueryKind::Read if now >= self.reads_from => {
                let reads = reads();
                // A search for more rows than the pause would let through begins at once.
                let is_large = reads.iter().any(|read| read.limit >= MANY);
                self.reads_from = if is_large { now } else { now + PAUSE };
                if reads.is_empty() {
                    return false;
                }
                self.run(self.queries.clone().read(reads));
            }
            QueryKind::Mark if self.marks_from().is_some_and(|from| now >= from) => {
                let most = self.queries.dispatcher.store.rows_per_write();
                let count = self.to_mark.len().min(most);
                let some = self.to_mark.drain(..count).collect();
                self.since = now;
                self.run(self.queries.clone().mark(some));
            }
            QueryKind::Settle => {
                let Some((subscription, class, after)) = self.voids.pop_front() else {
                    return false;
                };
                self.run(self.queries.clone().settle(subscription, class, after));
            }
            QueryKind::Read | QueryKind::Mark => return false,
        }
        true
    }

    fn run(&mut self, step: impl Future<Output = QueryResult> + Send + 'static) {
        self.running = Some(tokio::spawn(panics::fatal("backlog", step)));
    }

    /// Ends the queries. Gathered rows stay due. A mark in flight is finished.
    pub(super) async fn end(self) {
        if let Some(running) = self.running {
            let _ = running.await;
        }
    }
}

impl Queries {
    async fn mark(self, mut in_hand: Vec<InHand>) -> QueryResult {
        in_hand.retain(InHand::is_owned);
        let tasks: Vec<AttemptTask> = in_hand.iter().map(|one| one.task).collect();
        let now = hookline_clock::now();
        let store = &self.dispatcher.store;
        self.statements.add(1, &[]);
        let marked = self
            .load_retry
            .retry("mark backlog", || store.mark_backlog(tasks.clone(), now));
        let marked = match marked.await {
            RetryOutcome::Done(marked) => marked,
            ended => {
                self.load_retry.read_each_alone(in_hand, &ended);
                return QueryResult::Done;
            }
        };
        failpoint::point("dispatcher::marked");
        tracing::debug!(deliveries = marked.len(), "marked deliveries as backlog");
        self.marked.add(marked.len() as u64, &[]);
        let (marked, others): (Vec<_>, Vec<_>) = in_hand
            .into_iter()
            .partition(|one| marked.contains(&one.task.delivery));
        let subscriptions = marked.iter().map(|one| one.task.subscription).collect();
        drop(marked);
        let tests = self.tests_among(others).await;
        QueryResult::News(BacklogEvent::Marked(subscriptions, tests))
    }

    /// Finds the tests among rows that were not marked. Other such rows are early or were moved on meanwhile.
    async fn tests_among(&self, in_hand: Vec<InHand>) -> Vec<InHand> {
        let mut tests = Vec::new();
        if in_hand.is_empty() {
            return tests;
        }
        let ids: Vec<DeliveryId> = in_hand.iter().map(|one| one.task.delivery).collect();
        let store = &self.dispatcher.store;
        let loaded = self
            .load_retry
            .retry("load deliveries", || store.due_deliveries(ids.clone()));
        let mut deliveries = match loaded.await {
            RetryOutcome::Done(deliveries) => deliveries,
            ended => {
                self.load_retry.read_each_alone(in_hand, &ended);
                return tests;
            }
        };
        let now = hookline_clock::now();
        for one in in_hand {
            let found = deliveries.remove(&one.task.delivery);
            match decide(one.task, found, now) {
                NextAction::Attempt(delivery) if delivery.kind == DeliveryKind::Test => {
                    tests.push(one)
                }
                // It stays due, and a look finds it.
                NextAction::Attempt(_) => {}
                NextAction::Settle(outcome) => self.recorder.send(one, outcome).await,
            }
        }
        tests
    }

    async fn read(self, reads: Vec<BacklogSearch>) -> QueryResult {
        let (mut ended, mut failed) = (Vec::new(), Vec::new());
        let mut searches = Vec::new();
        for read in reads {
            let Some(partition) = self.due.readable_partition(read.subscription) else {
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
        QueryResult::News(BacklogEvent::Read {
            ended,
            rows,
            failed,
        })
    }

    async fn search(&self, searches: Vec<BacklogRead>) -> Result<Vec<BacklogRow>, StoreError> {
        let now = hookline_clock::now();
        self.statements.add(1, &[]);
        let rows = self.dispatcher.store.read_backlog(searches, now).await?;
        self.read.add(rows.len() as u64, &[]);
        failpoint::point("dispatcher::read_backlog");
        Ok(rows)
    }

    /// Ends the void deliveries of a slice; continues while there are any.
    async fn settle(
        self,
        subscription: SubscriptionId,
        class: BacklogClass,
        after: Option<BacklogPosition>,
    ) -> QueryResult {
        let Some(partition) = self.due.readable_partition(subscription) else {
            return QueryResult::Done;
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
                tracing::warn!(error = %why, "could not read void deliveries, leaving them in the backlog");
                return QueryResult::Done;
            }
        };
        let Some(last) = rows.last().map(BacklogRow::position) else {
            return QueryResult::Done;
        };
        let in_hand = self.due.take_read(&rows);
        let ids: Vec<DeliveryId> = in_hand.iter().map(|one| one.task.delivery).collect();
        let mut deliveries = match self.dispatcher.store.due_deliveries(ids).await {
            Ok(deliveries) => deliveries,
            Err(why) => {
                tracing::warn!(error = %why, "could not load void deliveries, leaving them in the backlog");
                return QueryResult::Done;
            }
        };
        let now = hookline_clock::now();
        let mut ended = 0;
        for one in in_hand {
            let found = deliveries.remove(&one.task.delivery);
            if let NextAction::Settle(outcome @ DeliveryOutcome::Ended(_)) =
                decide(one.task, found, now)
            {
                ended += 1;
                self.recorder.send(one, outcome).await;
            }
        }
        match ended {
            0 => QueryResult::Done,
            _ => QueryResult::Settled(subscription, class, last),
        }
    }
}

/// Whether a delivery ends because its subscription is off or gone. Others of that subscription then end, too.
pub(super) fn is_void(result: &DeliveryOutcome) -> bool {
    let DeliveryOutcome::Ended(end) = result else {
        return false;
    };
    matches!(
        end,
        DeliveryState::Skipped { .. } | DeliveryState::Cancelled { .. }
    )
}
