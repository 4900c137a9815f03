//! From published events to owed deliveries.
//!
//! A batch is read, taken in by the store in one transaction with the deliveries it makes, handed
//! on as one message for each owed attempt, and acked only when those are confirmed. A crash in
//! between repeats the batch; the store then answers with what is still owed, so the repeat hands
//! on what the crash kept back and makes nothing twice.

mod bundle;
mod early;
mod full;
mod reading;
mod trials;
mod turns;

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use hookline_broker::contract::{EventSource, PublishedEvents, Publisher, Scheduled, Taken};
use hookline_core::delivery::OwedAttempt;
use hookline_core::ids::OrganizationId;
use hookline_core::rate::Rate;
use hookline_core::trial::SUSPECT_AFTER;
use hookline_runtime::fault;
use hookline_runtime::patience::{Ended, keep_on};
use hookline_runtime::shutdown::Shutdown;
use hookline_runtime::telemetry::{continue_trace, trace_of};
use hookline_store::{FanoutIndex, IncomingEvent, Passage, Store, StoreError};
use opentelemetry::metrics::Counter;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tracing::Span;

use crate::early::Usher;
use crate::full::Full;
use crate::turns::Turns;

/// How many batches are worked on at once: one is committed while the next is handed on.
const LANES: usize = 2;

/// How many events share a transaction, unless one message has more.
const EVENTS_TOGETHER: usize = 1_000;

/// How long intake rests before it looks again whether dispatchers have caught up.
const REST: Duration = Duration::from_millis(500);

/// What comes this much before its turn is not sent away again: clocks differ.
const EARLY: Duration = Duration::from_millis(500);

/// What ingest works with.
#[derive(Clone)]
pub struct Ingest {
    /// Where events and deliveries are kept.
    pub store: Store,
    /// Where events come from.
    pub events: Arc<dyn EventSource>,
    /// Where owed attempts go.
    pub publisher: Arc<dyn Publisher>,
    /// How many messages make a batch at most.
    pub batch: usize,
    /// While more attempts wait than this, no more events are taken in.
    pub max_waiting: u64,
    /// How many events of one organization are taken in; the others of it wait.
    pub events_of_organization: Option<Rate>,
    /// How many bytes of events are kept of one organization; beyond that its events wait.
    pub max_stored_bytes: Option<u64>,
    /// How often a message may be charged with the end of a process before it is given up.
    pub give_up_after: u32,
}

/// Takes events in until it is asked to stop. What was begun is finished, or handed back when it is
/// late; what is ahead goes back at once.
pub async fn run(ingest: Ingest, shutdown: Shutdown) {
    let index = FanoutIndex::default();
    let meter = opentelemetry::global::meter("hookline-ingest");
    let trials = Arc::default();
    let turns = Arc::new(Mutex::new(Turns::new(ingest.events_of_organization)));
    let full = Arc::new(Full::new(ingest.max_stored_bytes));
    let (early, receiver) = mpsc::unbounded_channel();
    let usher = Usher {
        events: Arc::clone(&ingest.events),
        early: receiver,
        enough: ingest.batch,
        shutdown: shutdown.clone(),
        put_off: meter.u64_counter("hookline.events.put_off").build(),
    };
    let mut lanes = JoinSet::new();
    lanes.spawn(usher.run());
    for _ in 0..LANES {
        let lane = Lane {
            ingest: ingest.clone(),
            index: index.clone(),
            shutdown: shutdown.clone(),
            trials: Arc::clone(&trials),
            turns: Arc::clone(&turns),
            full: Arc::clone(&full),
            taken_in: meter.u64_counter("hookline.events.taken_in").build(),
            early: early.clone(),
            rejected: meter.u64_counter("hookline.events.rejected").build(),
        };
        lanes.spawn(async move { lane.run().await });
    }
    drop(early);
    let stopping = async {
        shutdown.asked.cancelled().await;
        ingest.events.stop();
        std::future::pending::<()>().await;
    };
    tokio::select! {
        _ = lanes.join_all() => {}
        () = stopping => {}
    }
}

struct Lane {
    ingest: Ingest,
    index: FanoutIndex,
    shutdown: Shutdown,
    /// Held during a trial: one at a time, or two would be charged with what one did.
    trials: Arc<tokio::sync::Mutex<()>>,
    /// What organizations have published lately, in all lanes.
    turns: Arc<Mutex<Turns>>,
    full: Arc<Full>,
    taken_in: Counter<u64>,
    /// What is to come again, on its way out; prefetch bounds it.
    early: mpsc::UnboundedSender<InHand>,
    rejected: Counter<u64>,
}

/// The process stops before a batch was dealt with.
struct Stopped;

/// A message that was read, until it is acked.
struct InHand {
    message: Taken<PublishedEvents>,
    events: Vec<IncomingEvent>,
    /// Lasts as long as the message is in hand.
    _span: Span,
}

type Batch = Vec<InHand>;

impl Lane {
    async fn run(&self) {
        let mut looked = None;
        loop {
            let taken = self.take(&mut looked).await;
            // Nothing comes any more once the source was stopped.
            if taken.is_empty() {
                return;
            }
            if self.shutdown.asked.is_cancelled() {
                self.ingest.events.put_back(taken).await;
                continue;
            }
            let (suspects, others) = taken
                .into_iter()
                .partition(|message| message.returns >= SUSPECT_AFTER);
            let batch = self.read(others).await;
            let full = self.full.now(&self.ingest.store).await;
            let (batch, early) = self.by_turn(batch, &full);
            for in_hand in early {
                // Unless the process ends anyway, somebody is there.
                let _ = self.early.send(in_hand);
            }
            let Ok(()) = self.deal_with(batch).await else {
                return self.ingest.events.put_back(suspects).await;
            };
            if let Err(Stopped) = self.try_all(suspects).await {
                return;
            }
        }
    }

    /// Waits for messages, and before that for dispatchers that are far behind: what is not taken
    /// in stays with the broker, which holds it better than a delivery queue without end.
    async fn take(&self, looked: &mut Option<Instant>) -> Vec<Taken<PublishedEvents>> {
        if looked.is_none_or(|looked| looked.elapsed() >= REST) {
            while !self.shutdown.asked.is_cancelled() && self.is_far_ahead().await {
                tokio::select! {
                    () = tokio::time::sleep(REST) => {}
                    () = self.shutdown.asked.cancelled() => {}
                }
            }
            *looked = Some(Instant::now());
        }
        self.ingest.events.take(self.ingest.batch).await
    }

    /// Where nobody can say it is not so: what cannot be handed on is held later.
    async fn is_far_ahead(&self) -> bool {
        let waiting = self.ingest.publisher.attempts_waiting().await;
        waiting.is_ok_and(|waiting| waiting > self.ingest.max_waiting)
    }

    /// What is no valid event goes to the rejected ones, and holds nobody up.
    async fn read(&self, taken: Vec<Taken<PublishedEvents>>) -> Batch {
        let mut batch = Vec::with_capacity(taken.len());
        for message in taken {
            let passage = match message.redelivered {
                true => Passage::Again,
                false => Passage::First,
            };
            let span = span_of(&message.message);
            // Attempts are children of this span; where nobody collects, of the publisher's.
            let trace = trace_of(&span).or(message.message.trace);
            match reading::events(&message.message, trace, passage) {
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
            let turn = &mut in_hand.message.message.turn;
            let mut owners = in_hand.events.iter().map(|one| &one.event.organization);
            if owners.clone().any(|owner| full.contains(owner)) {
                *turn = Some(now.after(full::WAIT));
                early.push(in_hand);
                continue;
            }
            let wait = match *turn {
                Some(turn) => turn.remaining(now).saturating_sub(EARLY),
                None => turns.wait_of(&mut owners, instant),
            };
            if wait.is_zero() {
                present.push(in_hand);
                continue;
            }
            turn.get_or_insert_with(|| now.after(wait));
            early.push(in_hand);
        }
        (present, early)
    }

    /// A bundle is taken apart instead: what is wrong with one of its events is found with that one.
    async fn reject(&self, message: Taken<PublishedEvents>, reason: &str) {
        let events = &self.ingest.events;
        if let Some(apart) = bundle::apart(&message.message, message.held_before()) {
            tracing::info!(reason, "took events apart that waited together");
            let message = [message];
            if let Err(why) = events.put_off(&message, &apart).await {
                tracing::warn!(error = %why, "could not take events apart; they come again");
                events.release(message.into()).await;
            }
            return;
        }
        tracing::info!(reason, "rejected a message that is no valid event");
        self.rejected.add(1, &[]);
        if let Err(why) = events.bury(message, reason).await {
            tracing::warn!(error = %why, "could not put a message to the rejected ones; it comes again");
        }
    }

    /// Takes a batch in, hands on what is owed, acks. A batch that the store refuses is halved
    /// until the one event stands alone that it refuses.
    async fn deal_with(&self, batch: Batch) -> Result<(), Stopped> {
        let mut batches = in_transactions(batch);
        while let Some(mut batch) = batches.pop() {
            let events: Arc<[IncomingEvent]> = batch
                .iter()
                .flat_map(|in_hand| in_hand.events.iter().cloned())
                .collect();
            let dealt_with = match self.take_in(events).await {
                Ended::Done(owed) => self.hand_on(&batch, owed).await,
                Ended::Stopped => Err(Stopped),
                Ended::Failed(why) if batch.len() == 1 => {
                    for InHand { message, .. } in batch {
                        self.reject(message, &why.to_string()).await;
                    }
                    continue;
                }
                Ended::Failed(_) => {
                    let rest = batch.split_off(batch.len() / 2);
                    batches.extend([rest, batch]);
                    continue;
                }
            };
            if let Err(Stopped) = dealt_with {
                batches.push(batch);
                self.ingest
                    .events
                    .release(messages(batches.into_iter().flatten()))
                    .await;
                return Err(Stopped);
            }
            self.ingest.events.ack(messages(batch)).await;
            fault::point("ingest::acked");
        }
        Ok(())
    }

    async fn take_in(
        &self,
        mut events: Arc<[IncomingEvent]>,
    ) -> Ended<Vec<OwedAttempt>, StoreError> {
        let passes = |why: &StoreError| matches!(why, StoreError::Unavailable(_));
        let mut tries = 0;
        let ended = keep_on(&self.shutdown.late, "take events in", passes, || {
            tries += 1;
            if tries == 2 {
                // The first try may have been committed and its answer lost.
                events = events.iter().map(passing_again).collect();
            }
            let now = hookline_clock::now();
            self.ingest
                .store
                .take_in(&self.index, Arc::clone(&events), now)
        })
        .await;
        fault::point("ingest::committed");
        match ended {
            Ended::Done(given) => {
                self.taken_in.add(given.new_events as u64, &[]);
                Ended::Done(given.owed)
            }
            Ended::Failed(why) => Ended::Failed(why),
            Ended::Stopped => Ended::Stopped,
        }
    }

    async fn hand_on(&self, batch: &Batch, owed: Vec<OwedAttempt>) -> Result<(), Stopped> {
        let attempts: Vec<Scheduled> = owed
            .into_iter()
            .map(|owed| Scheduled {
                owed,
                delay: Duration::ZERO,
            })
            .collect();
        let published = keep_on(
            &self.shutdown.late,
            "hand attempts on",
            |_| true,
            || self.ingest.publisher.publish_first(&attempts),
        )
        .await;
        let Ended::Done(()) = published else {
            return Err(Stopped);
        };
        tracing::debug!(
            messages = batch.len(),
            attempts = attempts.len(),
            "took events in"
        );
        fault::point("ingest::published");
        Ok(())
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

fn passing_again(event: &IncomingEvent) -> IncomingEvent {
    IncomingEvent {
        passage: Passage::Again,
        ..event.clone()
    }
}

/// Cuts a batch where a transaction would have too many events; a message is never cut.
fn in_transactions(batch: Batch) -> Vec<Batch> {
    let mut batches: Vec<Batch> = Vec::new();
    let mut room = 0;
    for in_hand in batch {
        let events = in_hand.events.len();
        match batches.last_mut() {
            Some(last) if events <= room => {
                room -= events;
                last.push(in_hand);
            }
            _ => {
                room = EVENTS_TOGETHER.saturating_sub(events);
                batches.push(vec![in_hand]);
            }
        }
    }
    batches.reverse();
    batches
}

fn messages(batch: impl IntoIterator<Item = InHand>) -> Vec<Taken<PublishedEvents>> {
    batch.into_iter().map(|in_hand| in_hand.message).collect()
}
