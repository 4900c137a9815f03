//! From published events to owed deliveries.
//!
//! Messages are read and their events wait by organization (`backlog`). A slice of them is taken in by the
//! store in one transaction with the deliveries it makes, and the owners of these are woken (`storing`). A message is
//! acked when all of its events are stored (`hand`): from then on the rows say what is owed. A crash in between
//! repeats the message, whose events are known then and make nothing twice.

mod backlog;
mod bundle;
mod early;
mod full;
mod hand;
mod reading;
mod storing;
mod trials;
mod turns;

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use hookline_core::event_type::EventType;
use hookline_core::ids::OrganizationId;
use hookline_core::rate::Rate;
use hookline_core::trial::SUSPECT_AFTER;
use hookline_queue::{Deferred, EventConsumer, PublishedEvents, Publisher, Received};
use hookline_runtime::fault;
use hookline_runtime::panics;
use hookline_runtime::shutdown::Shutdown;
use hookline_runtime::telemetry::{continue_trace, trace_of};
use hookline_store::{FanoutIndex, IncomingEvent, Store, StoreError};
use opentelemetry::metrics::Counter;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::task::{JoinError, JoinSet};
use tracing::Span;

use crate::backlog::{Backlog, Failure, PUT_OFF, Slice, Waiting};
use crate::early::Usher;
use crate::full::Full;
use crate::hand::{Fate, Fault, Hand, Settled, Way};
use crate::storing::News;
use crate::turns::Turns;

/// How many slices use the store at once.
const TRANSACTIONS: usize = 3;

/// How many messages are in hand at most.
const IN_HAND: usize = 1_024;

/// How long intake rests before it looks again whether dispatchers have caught up.
const REST: Duration = Duration::from_secs(1);

/// More deliveries than all replicas of ingest store in a second.
const STORED_PER_SECOND: u64 = 20_000;

/// What comes this much before its turn is not sent away again: clocks differ.
const EARLY: Duration = Duration::from_millis(500);

/// What ingest works with.
#[derive(Clone)]
pub struct Ingest {
    /// Where events and deliveries are kept.
    pub store: Store,
    /// Where events come from.
    pub events: Arc<dyn EventConsumer>,
    /// Wakes the owners of deliveries.
    pub publisher: Arc<dyn Publisher>,
    /// How many messages make a batch at most.
    pub batch: usize,
    /// How many messages the source gives out before one is acked.
    pub prefetch: usize,
    /// While more deliveries than this are due, no more events are taken in.
    pub max_waiting: u64,
    /// How many events of one organization are taken in; the others of it wait.
    pub events_of_organization: Option<Rate>,
    /// How many bytes of events are kept of one organization; beyond that its events wait.
    pub max_stored_bytes: Option<u64>,
    /// How often a message may be charged with the end of a process before it is given up.
    pub give_up_after: u32,
    /// Held during a trial. Ingest and dispatcher share it in one process: a message is charged when the process
    /// ends during its trial, also where the message of the other trial has ended the process.
    pub trial: Arc<tokio::sync::Mutex<()>>,
}

/// Takes events in until it is asked to stop. What was begun is finished, or handed back when it is
/// late; what is ahead goes back at once.
pub async fn run(ingest: Ingest, shutdown: Shutdown) {
    let meter = opentelemetry::global::meter("hookline-ingest");
    let (early, receiver) = mpsc::unbounded_channel();
    let usher = Usher {
        events: Arc::clone(&ingest.events),
        early: receiver,
        enough: ingest.batch,
        shutdown: shutdown.clone(),
        put_off: meter.u64_counter("hookline.events.put_off").build(),
    };
    let intake = Arc::new(Intake {
        index: FanoutIndex::default(),
        shutdown: shutdown.clone(),
        turns: Mutex::new(Turns::new(ingest.events_of_organization)),
        full: Full::new(ingest.max_stored_bytes),
        permits: Arc::new(Semaphore::new(TRANSACTIONS)),
        count_again: Mutex::default(),
        taken_in: meter.u64_counter("hookline.events.taken_in").build(),
        early,
        rejected: meter.u64_counter("hookline.events.rejected").build(),
        ingest,
    });
    let stopping = async {
        shutdown.asked.cancelled().await;
        intake.ingest.events.stop();
        std::future::pending::<()>().await;
    };
    let putting_off = tokio::spawn(panics::fatal("putting off", usher.run()));
    let working = async {
        intake.learn_fan_out().await;
        Desk::new(Arc::clone(&intake)).run().await;
    };
    tokio::select! {
        () = working => {}
        () = stopping => return,
    }
    // It ends once no more can come.
    drop(intake);
    // A panic in it is logged where it happens.
    let _ = putting_off.await;
}

/// What slices share.
struct Intake {
    ingest: Ingest,
    index: FanoutIndex,
    shutdown: Shutdown,
    /// What organizations have published lately.
    turns: Mutex<Turns>,
    full: Full,
    permits: Arc<Semaphore>,
    /// When due deliveries are counted again.
    count_again: Mutex<Option<Instant>>,
    taken_in: Counter<u64>,
    /// What is to come again, on its way out; prefetch bounds it.
    early: mpsc::UnboundedSender<InHand>,
    rejected: Counter<u64>,
}

/// The process stops before a batch was dealt with.
struct Stopped;

/// A message that was read, until it is acked.
struct InHand {
    message: Received<PublishedEvents>,
    events: Vec<IncomingEvent>,
    /// Lasts as long as the message is in hand.
    _span: Span,
}

type Batch = Vec<InHand>;

/// How many deliveries an event of this organization and type makes.
type FanOut = HashMap<(OrganizationId, EventType), usize>;

/// Messages as they come.
struct Come {
    batch: Batch,
    fan_out: FanOut,
    suspects: Vec<Received<PublishedEvents>>,
}

/// The messages in hand, and whose turn it is among them.
struct Desk {
    intake: Arc<Intake>,
    hand: Hand,
    backlog: Backlog,
    news: mpsc::UnboundedSender<News>,
    told: mpsc::UnboundedReceiver<News>,
    slices: JoinSet<()>,
    /// Nothing more is begun.
    stops: bool,
    /// What the store does not take is not retried here.
    is_trial: bool,
}

impl Desk {
    fn new(intake: Arc<Intake>) -> Self {
        let (news, told) = mpsc::unbounded_channel();
        Self {
            hand: Hand::default(),
            backlog: Backlog::new(intake.in_hand()),
            news,
            told,
            slices: JoinSet::new(),
            stops: false,
            is_trial: false,
            intake,
        }
    }

    async fn run(mut self) {
        let intake = Arc::clone(&self.intake);
        let asked = &intake.shutdown.asked;
        // Each is asked for once, and waited for in each turn of the loop.
        let (mut taking, mut permit) = (None, None);
        let mut nothing_comes = false;
        loop {
            let has_room = self.stops || self.hand.len() < intake.in_hand();
            if taking.is_none() && !nothing_comes && has_room {
                taking = Some(Box::pin(intake.take()));
            }
            if self.stops && nothing_comes && self.slices.is_empty() && self.told.is_empty() {
                return;
            }
            let now = Instant::now();
            let has_turn = !self.stops && self.backlog.has_turn(now);
            if has_turn && permit.is_none() {
                permit = Some(Box::pin(Arc::clone(&intake.permits).acquire_owned()));
            } else if !has_turn {
                permit = None;
            }
            tokio::select! {
                () = asked.cancelled(), if !self.stops => self.stop().await,
                Some(news) = self.told.recv() => self.settle(news).await,
                come = or_never(&mut taking) => {
                    taking = None;
                    match come {
                        Some(come) => self.admit(come),
                        None => nothing_comes = true,
                    }
                }
                Ok(acquired) = or_never(&mut permit) => {
                    permit = None;
                    self.begin(acquired);
                }
                () = due(self.backlog.due(now)), if !has_turn && !self.stops => {}
                Some(joined) = self.slices.join_next(), if !self.slices.is_empty() => {
                    // What it had in hand comes again only when the process ends.
                    if let Err(Ok(panic)) = joined.map_err(JoinError::try_into_panic) {
                        std::panic::resume_unwind(panic);
                    }
                }
            }
        }
    }

    fn admit(&mut self, come: Come) {
        let Come {
            batch,
            fan_out,
            suspects,
        } = come;
        let now = hookline_clock::now();
        for mut in_hand in batch {
            let mut owners = in_hand.events.iter().map(|one| &one.event.organization);
            if let Some(wait) = owners.find_map(|owner| self.backlog.crowded_for(owner)) {
                in_hand.message.message.due = Some(now.after(wait));
                self.intake.put_off(in_hand);
                continue;
            }
            self.take(in_hand, &fan_out);
        }
        if !suspects.is_empty() {
            let intake = Arc::clone(&self.intake);
            self.slices.spawn(async move {
                // What could not be tried is handed back.
                let _ = intake.try_all(suspects).await;
            });
        }
    }

    fn take(&mut self, in_hand: InHand, fan_out: &FanOut) {
        let InHand {
            message,
            events,
            _span: span,
        } = in_hand;
        let message = self.hand.take(message, span, events.len());
        for event in events {
            let kind = (event.event.organization.clone(), event.event.event_type);
            let deliveries = fan_out.get(&kind).copied().unwrap_or_default();
            let waiting = Waiting::new(message, event, deliveries);
            self.backlog.push(waiting, Instant::now());
        }
    }

    fn begin(&mut self, permit: OwnedSemaphorePermit) {
        if let Some(slice) = self.next() {
            let (intake, news) = (Arc::clone(&self.intake), self.news.clone());
            self.slices
                .spawn(async move { intake.work(slice, permit, news).await });
        }
    }

    fn next(&mut self) -> Option<Slice> {
        let slice = self
            .backlog
            .next(self.intake.ingest.batch, Instant::now())?;
        self.hand.begin(slice.events.iter().map(|one| one.message));
        Some(slice)
    }

    /// Settles what slices have told so far.
    async fn settle(&mut self, first: News) {
        let mut settled = Vec::new();
        let mut next = Some(first);
        while let Some(news) = next {
            match news {
                News::TakenIn {
                    organizations,
                    is_slow,
                    written,
                } => {
                    let now = Instant::now();
                    self.backlog.taken_in(&organizations, is_slow, written, now);
                }
                News::NotTaken {
                    events,
                    failure,
                    why,
                } => settled.extend(self.not_taken(events, failure, &why)),
                News::Event { message, fate } => {
                    if matches!(fate, Fate::Unfinished) {
                        self.backlog.forget(&HashSet::from([message]));
                    }
                    settled.extend(self.hand.over(message, fate));
                }
                News::Over(organizations) => self.backlog.over(&organizations),
            }
            next = self.told.try_recv().ok();
        }
        self.intake.let_go(settled).await;
    }

    /// Events that were not taken in wait again, but for those that leave. Answers with the messages that can
    /// go at once.
    fn not_taken(&mut self, events: Vec<Waiting>, failure: Failure, why: &StoreError) -> Settled {
        let mut settled = Settled::new();
        let mut waiting = Vec::with_capacity(events.len());
        for one in events {
            if self.stops {
                settled.extend(self.hand.over(one.message, Fate::Unfinished));
            } else if self.hand.waits_again(one.message) {
                waiting.push(one);
            } else {
                settled.extend(self.hand.settled(one.message));
            }
        }
        if self.is_trial && failure.is_transient {
            let messages = waiting.iter().map(|one| one.message).collect();
            settled.extend(self.leave(&messages, &Way::PutOff));
            return settled;
        }
        let events = waiting.len();
        let refusal = self.backlog.not_taken(waiting, failure);
        if let Some(one) = refusal.at_fault {
            let event = one.event.event;
            let fault = Fault {
                event: event.id,
                organization: event.organization,
                reason: why.to_string(),
            };
            settled.extend(self.leave(&HashSet::from([one.message]), &Way::PutAside(fault)));
            return settled;
        }
        if events > 0 {
            tracing::warn!(
                what = "take events in",
                events,
                error = %why,
                wait_ms = refusal.wait.as_millis(),
                "could not go on, trying again"
            );
        }
        if let Some(organization) = refusal.stuck {
            tracing::warn!(
                organization.id = %organization,
                reason = %why,
                "the store takes no events of an organization and takes those of others; its events wait"
            );
        }
        if !refusal.put_off.is_empty() {
            settled.extend(self.leave(&refusal.put_off, &Way::PutOff));
        }
        settled
    }

    fn leave(&mut self, messages: &HashSet<u64>, way: &Way) -> Settled {
        self.backlog.forget(messages);
        let leave = |message: &u64| self.hand.leave(*message, way.clone());
        messages.iter().filter_map(leave).collect()
    }

    /// Begins nothing more.
    async fn stop(&mut self) {
        self.stops = true;
        self.backlog.clear();
        let settled = self.hand.stop();
        self.intake.let_go(settled).await;
    }

    /// Tries a batch alone, each event at most once: the process survives it or not, and one that the store
    /// does not take now shall not keep the others waiting.
    async fn try_once(mut self, batch: Batch) {
        self.is_trial = true;
        let fan_out = self.intake.fan_out(&batch).await;
        for in_hand in batch {
            self.take(in_hand, &fan_out);
        }
        let intake = Arc::clone(&self.intake);
        while !intake.shutdown.late.is_cancelled()
            && let Some(slice) = self.next()
            && let Ok(permit) = Arc::clone(&intake.permits).acquire_owned().await
        {
            intake.work(slice, permit, self.news.clone()).await;
            while let Ok(news) = self.told.try_recv() {
                self.settle(news).await;
            }
        }
        self.stop().await;
    }
}

/// What comes of a future that may be there.
async fn or_never<T>(future: &mut Option<std::pin::Pin<Box<impl Future<Output = T>>>>) -> T {
    match future {
        Some(future) => future.await,
        None => std::future::pending().await,
    }
}

async fn due(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at.into()).await,
        None => std::future::pending().await,
    }
}

impl Intake {
    /// How many messages are in hand at most. A folder gives out what there is.
    fn in_hand(&self) -> usize {
        self.ingest.prefetch.min(IN_HAND)
    }

    /// The next messages; none once no more come.
    async fn take(&self) -> Option<Come> {
        self.wait_for_dispatchers().await;
        let events = &self.ingest.events;
        let taken = events.receive(self.ingest.batch).await;
        // Nothing comes any more once the source was stopped.
        if taken.is_empty() {
            return None;
        }
        let mut come = Come {
            batch: Vec::new(),
            fan_out: FanOut::new(),
            suspects: Vec::new(),
        };
        if self.shutdown.asked.is_cancelled() {
            events.requeue_uncounted(taken).await;
            return Some(come);
        }
        let others;
        (come.suspects, others) = taken
            .into_iter()
            .partition(|message| message.delivery_count >= SUSPECT_AFTER);
        let batch = self.read(others).await;
        let full = self.full.now(&self.ingest.store).await;
        let early;
        (come.batch, early) = self.by_turn(batch, &full);
        for in_hand in early {
            self.put_off(in_hand);
        }
        come.fan_out = self.fan_out(&come.batch).await;
        Some(come)
    }

    /// Unless the process ends anyway, there is a task that puts it off.
    fn put_off(&self, in_hand: InHand) {
        let _ = self.early.send(in_hand);
    }

    /// It was in a transaction that failed, and the process lives: what comes again was in hand once.
    fn put_off_tried(&self, mut message: Received<PublishedEvents>) {
        message.message.due = Some(hookline_clock::now().after(PUT_OFF));
        message.delivery_count = 1;
        self.put_off(InHand {
            message,
            events: Vec::new(),
            _span: Span::none(),
        });
    }

    /// While dispatchers are far behind, what is not taken in stays with the broker, which holds it
    /// better than a table of due deliveries without end.
    async fn wait_for_dispatchers(&self) {
        while !self.shutdown.asked.is_cancelled() && self.is_far_ahead().await {
            tokio::select! {
                () = tokio::time::sleep(REST) => {}
                () = self.shutdown.asked.cancelled() => {}
            }
        }
    }

    /// False where the store does not answer: then nothing is taken in anyway. The count reads an entry of an index for
    /// each due delivery, so it is repeated no sooner than the limit can be reached.
    async fn is_far_ahead(&self) -> bool {
        let most = self.ingest.max_waiting;
        let again = *self.count_again();
        if again.is_some_and(|again| Instant::now() < again) {
            return false;
        }
        let due = self.ingest.store.count_due(hookline_clock::now(), most + 1);
        let due = due.await.unwrap_or_default();
        let rest = Duration::from_secs(most.saturating_sub(due) / STORED_PER_SECOND).max(REST);
        *self.count_again() = Some(Instant::now() + rest);
        due > most
    }

    fn count_again(&self) -> MutexGuard<'_, Option<Instant>> {
        self.count_again
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Learns which subscriptions there are: the first events are taken in with slices that fit them. Where
    /// the store is not available, they are cut when the store says that they make too much.
    async fn learn_fan_out(&self) {
        let now = hookline_clock::now();
        let nothing = self.ingest.store.take_in(&self.index, Arc::default(), now);
        if let Err(why) = nothing.await {
            tracing::debug!(error = %why, "could not learn which subscriptions there are");
        }
    }

    /// How many deliveries the events of a batch make, as far as is known. The index may be locked
    /// while the store is asked.
    async fn fan_out(&self, batch: &Batch) -> FanOut {
        let kinds: HashSet<_> = batch
            .iter()
            .flat_map(|in_hand| &in_hand.events)
            .map(|one| (one.event.organization.clone(), one.event.event_type))
            .collect();
        let index = self.index.clone();
        let counting = tokio::task::spawn_blocking(move || {
            let count = |kind: (OrganizationId, EventType)| {
                let deliveries = index.deliveries_of(&kind.0, kind.1);
                (kind, deliveries)
            };
            kinds.into_iter().map(count).collect()
        });
        counting.await.unwrap_or_default()
    }

    /// What is no valid event goes to the rejected ones, and holds nobody up.
    async fn read(&self, taken: Vec<Received<PublishedEvents>>) -> Batch {
        let mut batch = Vec::with_capacity(taken.len());
        for message in taken {
            let span = span_of(&message.message);
            // Attempts are children of this span; where nobody collects, of the publisher's.
            let trace = trace_of(&span).or(message.message.trace);
            match reading::events(&message.message, trace) {
                Ok(events) if events.is_empty() => {
                    self.ingest.events.ack(vec![message]).await;
                }
                Ok(events) => batch.push(InHand {
                    message,
                    events,
                    _span: span,
                }),
                Err(why) => self.reject(message, &why.to_string()).await,
            }
        }
        batch
    }

    /// Those whose turn it is, and the others, each with the moment at which it will be.
    fn by_turn(&self, batch: Batch, full: &HashSet<OrganizationId>) -> (Batch, Batch) {
        let (now, instant) = (hookline_clock::now(), Instant::now());
        let mut turns = self.turns.lock().unwrap_or_else(PoisonError::into_inner);
        if !turns.are_taken() && full.is_empty() {
            return (batch, Vec::new());
        }
        let mut early = Vec::new();
        let mut present = Vec::with_capacity(batch.len());
        for mut in_hand in batch {
            let due = &mut in_hand.message.message.due;
            let mut owners = in_hand.events.iter().map(|one| &one.event.organization);
            if owners.clone().any(|owner| full.contains(owner)) {
                *due = Some(now.after(full::WAIT));
                early.push(in_hand);
                continue;
            }
            let wait = match *due {
                Some(due) => due.remaining(now).saturating_sub(EARLY),
                None => turns.wait_of(&mut owners, instant),
            };
            if wait.is_zero() {
                present.push(in_hand);
                continue;
            }
            due.get_or_insert_with(|| now.after(wait));
            early.push(in_hand);
        }
        (present, early)
    }

    /// A bundle is taken apart instead: what is wrong with one of its events is found with that one.
    async fn reject(&self, message: Received<PublishedEvents>, reason: &str) {
        let apart = bundle::apart(&message.message, message.count_to_carry());
        let Some(message) = self.take_apart(message, apart, reason).await else {
            return;
        };
        tracing::info!(reason, "rejected a message that is no valid event");
        self.bury(message, reason).await;
    }

    /// Puts the message of an event aside that the store does not take; if it has others, these are
    /// parted from it first.
    async fn put_aside(&self, message: Received<PublishedEvents>, fault: Fault) {
        let reason = &fault.reason;
        let apart = bundle::singles(&message.message, message.count_to_carry());
        let Some(message) = self.take_apart(message, apart, reason).await else {
            return;
        };
        tracing::warn!(
            event.id = %fault.event,
            organization.id = %fault.organization,
            reason,
            "put an event aside that the store does not take"
        );
        self.bury(message, reason).await;
    }

    /// Messages take the place of one, if it stands for several; else it is answered.
    async fn take_apart(
        &self,
        message: Received<PublishedEvents>,
        apart: Option<Vec<Deferred>>,
        reason: &str,
    ) -> Option<Received<PublishedEvents>> {
        let Some(apart) = apart else {
            return Some(message);
        };
        let events = &self.ingest.events;
        tracing::info!(reason, "took events apart that came together");
        let message = [message];
        if let Err(why) = events.defer(&message, &apart).await {
            tracing::warn!(error = %why, "could not take events apart; they come again");
            events.requeue(message.into()).await;
        }
        None
    }

    async fn bury(&self, message: Received<PublishedEvents>, reason: &str) {
        self.rejected.add(1, &[]);
        if let Err(why) = self.ingest.events.dead_letter(message, reason).await {
            tracing::warn!(error = %why, "could not put a message to the rejected ones; it comes again");
        }
    }

    /// Messages leave.
    async fn let_go(&self, settled: Settled) {
        let events = &self.ingest.events;
        let (mut done, mut untouched, mut unfinished) = (Vec::new(), Vec::new(), Vec::new());
        for (message, way) in settled {
            match way {
                Way::Ack => done.push(message),
                Way::PutBack => untouched.push(message),
                Way::Release => unfinished.push(message),
                Way::PutAside(fault) => self.put_aside(message, fault).await,
                Way::PutOff => self.put_off_tried(message),
            }
        }
        if !done.is_empty() {
            events.ack(done).await;
            fault::point("ingest::acked");
        }
        if !untouched.is_empty() {
            events.requeue_uncounted(untouched).await;
        }
        if !unfinished.is_empty() {
            events.requeue(unfinished).await;
        }
    }
}

/// The publisher's trace in a span of our own.
fn span_of(message: &PublishedEvents) -> Span {
    let span = tracing::info_span!("intake");
    if let Some(trace) = message.trace {
        continue_trace(&span, trace);
    }
    span
}
