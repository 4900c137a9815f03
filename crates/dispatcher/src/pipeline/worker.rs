//! Moves due deliveries into subscription queues, loads their rows when their turn comes, and starts each owed attempt.

mod backlog;
mod load;
mod send;
mod slot;

use std::collections::HashMap;
use std::time::{Duration, Instant};

use hookline_runtime::retry::RetryOutcome;
use hookline_runtime::shutdown::Shutdown;
use hookline_store::{BacklogClass, BacklogRow, BreakerChange, LoadedDeliveries};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::context::{Dispatcher, ticks_every};
use crate::due::{DueRows, InHand};
use crate::http::attempt::Requester;
use crate::ownership::{Watchdog, WatchedPart};
use crate::pipeline::breaker_writer;
use crate::pipeline::dead_letter::DeadLettering;
use crate::pipeline::decide::{NextAction, decide};
use crate::pipeline::load_retry::LoadRetry;
use crate::pipeline::metrics::Gauges;
use crate::pipeline::quarantine::Quarantine;
use crate::pipeline::record::Recorder;
use crate::scheduler::{BacklogSearch, Limits, Scheduler, SearchResult};

use backlog::{BacklogEvent, BacklogQueries, is_void};
use load::{BATCH, Loader};
use send::{NotPrepared, RequestSender};
use slot::{ReleasedSlot, Slot};

/// The most deliveries in hand, as a multiple of `dispatcher.prefetch`. Most are handled and wait to be recorded: while the
/// store lists due deliveries and takes no attempts, the requests end here.
const IN_HAND_PER_ROOM: usize = 32;

/// The longest time between two turns of the scheduler. A dispatcher with a scheduler that hangs for 5 s loses its
/// partitions.
const TURN: Duration = Duration::from_secs(1);

/// The time for which a subscription gets no request, because this process does not have its master key.
const WITHOUT_KEY: Duration = Duration::from_secs(60);

/// The time between two checks for subscription queues of partitions that were given up.
const CHECK_OWNERS_EVERY: Duration = Duration::from_secs(5);

pub(crate) struct Worker {
    due: DueRows,
    dead_letters: DeadLettering,
    recorder: Recorder,
    load_retry: LoadRetry,
    loader: Loader,
    sender: RequestSender,
    max_in_hand: usize,
    scheduler: Scheduler<InHand>,
    backlog: BacklogQueries,
    quarantine: Quarantine,
    breaker_changes: mpsc::UnboundedSender<BreakerChange>,
    breaker_writer: JoinHandle<()>,
    in_flight: TaskTracker,
    slots: mpsc::UnboundedSender<ReleasedSlot>,
    released_slots: mpsc::UnboundedReceiver<ReleasedSlot>,
}

impl Worker {
    pub(crate) fn new(
        dispatcher: &Dispatcher,
        due: DueRows,
        dead_letters: DeadLettering,
        requester: Requester,
        recorder: Recorder,
        quarantine: Quarantine,
        Shutdown { draining, deadline }: Shutdown,
    ) -> Self {
        let (slots, released_slots) = mpsc::unbounded_channel();
        let (breaker_changes, breaker_writer) =
            breaker_writer::start(dispatcher.store.clone(), deadline.clone());
        let in_flight = TaskTracker::new();
        let load_retry = LoadRetry::new(
            dispatcher.clone(),
            dead_letters.clone(),
            draining,
            in_flight.clone(),
        );
        Self {
            loader: Loader::new(dispatcher, load_retry.clone(), due.group_cache()),
            sender: RequestSender {
                dispatcher: dispatcher.clone(),
                dead_letters: dead_letters.clone(),
                requester,
                recorder: recorder.clone(),
                in_flight: in_flight.clone(),
                late: deadline,
            },
            scheduler: Scheduler::new(Limits::from(&*dispatcher.policy)),
            max_in_hand: IN_HAND_PER_ROOM * (dispatcher.policy.slots + dispatcher.policy.may_wait),
            backlog: BacklogQueries::new(
                dispatcher.clone(),
                due.clone(),
                recorder.clone(),
                load_retry.clone(),
            ),
            due,
            dead_letters,
            recorder,
            load_retry,
            quarantine,
            breaker_changes,
            breaker_writer,
            in_flight,
            slots,
            released_slots,
        }
    }

    pub(crate) async fn run(mut self, watchdog: Watchdog, shutdown: CancellationToken) {
        let mut gauges = Gauges::new();
        let due = self.due.clone();
        let mut ticks = ticks_every(TURN);
        let mut owners_checked_at = Instant::now();
        while !shutdown.is_cancelled() {
            watchdog.finished(WatchedPart::Scheduler, Instant::now());
            let room = self
                .scheduler
                .room()
                .saturating_sub(self.quarantine.waiting());
            let has_room = self.has_room();
            let takes = has_room && room > 0 && !self.backlog.is_full();
            let change = self.scheduler.next_change();
            let (mut taken, mut suspects, mut event) = (Vec::new(), Vec::new(), None);
            tokio::select! {
                () = shutdown.cancelled() => break,
                Some(slot) = self.released_slots.recv() => self.release(slot),
                group = self.quarantine.group() => suspects = group,
                next = self.backlog.next(has_room && self.scheduler.may_read()) => event = Some(next),
                rows = due.take(room.min(BATCH)), if takes => taken = rows,
                () = due.backlog_news_arrived() => {}
                _ = ticks.tick() => {}
                () = at(change) => {}
            }
            while let Ok(slot) = self.released_slots.try_recv() {
                self.release(slot);
            }
            let now = Instant::now();
            // The list of a partition comes before the rows of that partition.
            let news = due.take_backlog_news();
            for (subscription, wait) in news.taken {
                self.scheduler.take_over(subscription, wait);
            }
            for (subscription, class) in news.backlog {
                self.scheduler.note_backlog(subscription, class, now);
            }
            if now >= owners_checked_at + CHECK_OWNERS_EVERY {
                owners_checked_at = now;
                self.scheduler.retain(|subscription| due.owns(subscription));
            }
            let mut in_hand = self.quarantine.separate(taken);
            in_hand.extend(suspects);
            self.push(in_hand).await;
            if let Some(event) = event {
                self.handle(event, now).await;
            }
            while !shutdown.is_cancelled() {
                let admitted = self.admit();
                let is_over = admitted.is_empty();
                if !is_over {
                    self.start(admitted).await;
                }
                self.backlog.mark_soon(self.scheduler.take_excess());
                for change in self.scheduler.take_breaker_changes() {
                    // The receiver of the channel outlives this loop.
                    let _ = self.breaker_changes.send(change);
                }
                gauges.show(self.scheduler.totals());
                if is_over {
                    break;
                }
            }
        }
        // Deliveries that wait stay due, and their next owner finds them.
        drop((self.scheduler, self.quarantine, self.breaker_changes));
        self.backlog.end().await;
        // A panic in the task is logged where it happens.
        let _ = self.breaker_writer.await;
        let requests = self.in_flight.len();
        tracing::info!(requests, "stopped scheduler, finishing requests in flight");
        self.in_flight.close();
        self.in_flight.wait().await;
    }

    /// Whether further deliveries may be taken, or read from a backlog.
    fn has_room(&self) -> bool {
        self.due.count_in_hand() < self.max_in_hand
    }

    fn release(&mut self, slot: ReleasedSlot) {
        self.scheduler
            .finished(slot.permit, slot.finish, Instant::now());
    }

    /// Puts deliveries into their subscription queues.
    async fn push(&mut self, in_hand: Vec<InHand>) {
        if in_hand.is_empty() {
            return;
        }
        for (in_hand, groups) in self.loader.groups(in_hand).await {
            let to = in_hand.task.subscription;
            self.scheduler.push(to, groups, in_hand, Instant::now());
        }
    }

    async fn handle(&mut self, event: BacklogEvent, now: Instant) {
        match event {
            BacklogEvent::Begin => {
                let has_room = self.has_room();
                self.backlog.begin(|| match has_room {
                    true => self.scheduler.take_reads(now),
                    false => Vec::new(),
                });
            }
            BacklogEvent::Marked(subscriptions, tests) => {
                for subscription in subscriptions {
                    self.scheduler
                        .note_backlog(subscription, BacklogClass::Live, now);
                }
                for test in tests {
                    let to = test.task.subscription;
                    let groups = self.loader.known_groups(to);
                    self.scheduler.push_test(to, groups, test);
                }
            }
            BacklogEvent::Read {
                ended,
                rows,
                failed,
            } => {
                for read in failed {
                    self.scheduler.read_failed(read, now);
                }
                self.end_reads(ended, &rows).await;
            }
        }
    }

    /// Puts rows of backlogs into subscription queues. Where a backlog has ended, the deliveries to be marked in it are
    /// put there, too.
    async fn end_reads(&mut self, reads: Vec<BacklogSearch>, rows: &[BacklogRow]) {
        let mut results: Vec<SearchResult> = vec![SearchResult::default(); reads.len()];
        let at: HashMap<_, usize> = reads
            .iter()
            .enumerate()
            .map(|(at, read)| ((read.subscription, read.class), at))
            .collect();
        for row in rows {
            if let Some(at) = at.get(&(row.task.subscription, row.class)) {
                results[*at].found += 1;
                results[*at].last = Some(row.position());
            }
        }
        let taken = self.due.take_read(rows);
        for in_hand in &taken {
            let class = in_hand.backlog.unwrap_or(BacklogClass::Live);
            if let Some(at) = at.get(&(in_hand.task.subscription, class)) {
                results[*at].new += 1;
            }
        }
        let in_hand = self.quarantine.separate(taken);
        self.push(in_hand).await;
        let mut unmarked = Vec::new();
        for (read, result) in reads.into_iter().zip(results) {
            if self.scheduler.read(read, result) {
                unmarked.extend(self.backlog.take_unmarked(read.subscription));
            }
        }
        self.push(unmarked).await;
    }

    /// The deliveries that may start now.
    fn admit(&mut self) -> Vec<(InHand, Slot)> {
        let now = Instant::now();
        std::iter::from_fn(|| self.scheduler.next(now))
            .take(BATCH)
            .map(|(permit, in_hand)| (in_hand, Slot::new(permit, self.slots.clone())))
            .collect()
    }

    /// Starts the deliveries that the store still lists as owed. The recorder gets the others.
    async fn start(&mut self, mut admitted: Vec<(InHand, Slot)>) {
        let now = Instant::now();
        admitted.retain(|(in_hand, _)| in_hand.may_start(now));
        if admitted.is_empty() {
            return;
        }
        let ids = admitted.iter().map(|(in_hand, _)| in_hand.task.delivery);
        let LoadedDeliveries {
            mut deliveries,
            bodies,
        } = match self.loader.load(ids.collect()).await {
            RetryOutcome::Done(loaded) => loaded,
            ended => {
                let in_hand = admitted.into_iter().map(|(in_hand, _)| in_hand).collect();
                return self.load_retry.read_each_alone(in_hand, &ended);
            }
        };
        let now = hookline_clock::now();
        let mut attempts = Vec::new();
        for (in_hand, slot) in admitted {
            let subscription = in_hand.task.subscription;
            let found = deliveries.remove(&in_hand.task.delivery);
            let outcome = match decide(in_hand.task, found, now) {
                NextAction::Attempt(delivery) => {
                    let now = Instant::now();
                    if let Some(class) = delivery.backlog.filter(|_| in_hand.backlog.is_none()) {
                        self.scheduler.note_backlog(subscription, class, now);
                    }
                    match self.sender.prepare(delivery) {
                        Ok(request) => attempts.push((in_hand, request, slot)),
                        Err(NotPrepared::NoKey) => {
                            let until = now + WITHOUT_KEY;
                            self.scheduler.suspend(subscription, in_hand, until, now);
                        }
                        Err(NotPrepared::Never(reason)) => self.dead_letters.begin(in_hand, reason),
                    }
                    continue;
                }
                NextAction::Settle(outcome) => outcome,
            };
            if is_void(&outcome) {
                self.backlog.settle(subscription);
            }
            self.recorder.send(in_hand, outcome).await;
        }
        let events = attempts.iter().map(|(_, request, _)| request.event());
        match self.loader.bodies(events.collect(), bodies).await {
            RetryOutcome::Done(bodies) => self.sender.send_all(attempts, &bodies),
            ended => {
                let in_hand = attempts.into_iter().map(|(in_hand, ..)| in_hand).collect();
                self.load_retry.read_each_alone(in_hand, &ended);
            }
        }
    }
}

async fn at(moment: Option<Instant>) {
    match moment {
        Some(moment) => tokio::time::sleep_until(moment.into()).await,
        None => std::future::pending().await,
    }
}
