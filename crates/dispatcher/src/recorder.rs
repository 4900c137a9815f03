//! Records what came of attempts, hands on the next ones, acks: in this order.
//!
//! Batches form by themselves: while one is being committed the next gathers. Handing on does not
//! hold up the recording: while the broker is away, what was attempted must be known to the store
//! before the broker is back and gives the same messages to another dispatcher. Nor does a batch that
//! the store does not take: see `persist`.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use hookline_broker::contract::{Scheduled, Taken};
use hookline_core::delivery::{DeliveryState, OwedAttempt};
use hookline_core::ids::DeliveryId;
use hookline_runtime::fault;
use hookline_runtime::panics;
use hookline_runtime::patience::{Ended, keep_on};
use hookline_store::{AttemptRecord, Follow, Parked, StoreError, Wait};
use opentelemetry::KeyValue;
use opentelemetry::metrics::{Counter, Histogram};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::Dispatcher;
use crate::busy::{Engaged, Hold};
use crate::held::Held;
use crate::operations::Operations;
use crate::persist::{Outcome, Persist, Writing, Written};
use crate::poison::PuttingAside;

/// How many messages one commit serves.
const BATCH: usize = 1_024;

/// A message with what came of it. Its delivery is busy until that is recorded and followed up.
pub(crate) struct Finished {
    pub(crate) engaged: Engaged,
    pub(crate) result: Result,
}

/// What came of a message.
pub(crate) enum Result {
    /// Its attempt was made.
    Attempted(Box<AttemptRecord>),
    /// Its delivery ends without an attempt.
    Ended(DeliveryState),
    /// It has to wait, and uses up no attempt.
    Parked {
        /// For how long.
        delay: Duration,
        /// What for.
        wait: Wait,
    },
    /// Its attempt was recorded before, or came early; this may have to be handed on.
    Repeat(Option<Scheduled>),
}

/// The entrance.
#[derive(Clone)]
pub(crate) struct Recorder {
    finished: mpsc::Sender<Finished>,
}

impl Recorder {
    /// Waits while many wait already, so that a slow store slows the dispatcher down.
    pub(crate) async fn send(&self, finished: Finished) {
        if self.finished.send(finished).await.is_err() {
            tracing::error!(
                "the recorder has ended early; the message comes again after a restart"
            );
        }
    }
}

/// Starts recording. It ends when every entrance is gone and the rest is recorded. A process that
/// stops records on until it is `late`: what is not recorded was in vain.
pub(crate) fn start(
    dispatcher: Dispatcher,
    aside: PuttingAside,
    operations: Operations,
    late: CancellationToken,
) -> (Recorder, JoinHandle<()>) {
    let (finished, mut waiting) = mpsc::channel(2 * BATCH);
    let entrance = Recorder { finished };
    let meter = opentelemetry::global::meter("hookline-dispatcher");
    let handing_on = TaskTracker::new();
    let held = Held::up_to((dispatcher.policy.slots + dispatcher.policy.may_wait) / 2);
    let persist = || Persist {
        store: dispatcher.store.clone(),
        late: late.clone(),
        background: handing_on.clone(),
        written: Written::default(),
    };
    let recording = Recording {
        attempting: persist(),
        ending: persist(),
        parking: persist(),
        shared: Arc::new(Shared {
            dispatcher,
            aside,
            operations,
            late,
            handing_on: handing_on.clone(),
            held,
            attempts: meter.u64_counter("hookline.attempts").build(),
            durations: meter
                .f64_histogram("hookline.attempt.duration")
                .with_unit("s")
                .build(),
            parked: meter.u64_counter("hookline.parked").build(),
            park_statements: meter.u64_counter("hookline.park.statements").build(),
        }),
    };
    let task = tokio::spawn(panics::fatal("recorder", async move {
        let mut batch = Vec::with_capacity(BATCH);
        while waiting.recv_many(&mut batch, BATCH).await > 0 {
            recording.record(std::mem::take(&mut batch)).await;
        }
        handing_on.close();
        handing_on.wait().await;
    }));
    (entrance, task)
}

/// The rows of each kind, and what all kinds share.
struct Recording {
    attempting: Persist,
    ending: Persist,
    parking: Persist,
    shared: Arc<Shared>,
}

struct Shared {
    dispatcher: Dispatcher,
    aside: PuttingAside,
    operations: Operations,
    late: CancellationToken,
    /// What is recorded and not acked, and what is not recorded yet; bounded by the prefetch, for the
    /// broker counts it.
    handing_on: TaskTracker,
    held: Held,
    attempts: Counter<u64>,
    durations: Histogram<f64>,
    parked: Counter<u64>,
    park_statements: Counter<u64>,
}

impl Recording {
    async fn record(&self, finished: Vec<Finished>) {
        let mut attempted = Vec::new();
        let mut ended = Vec::new();
        let mut parked = Vec::new();
        let mut repeats = Vec::new();
        let mut next = Vec::new();
        for Finished { engaged, result } in finished {
            match result {
                Result::Attempted(record) => attempted.push((engaged, *record)),
                Result::Ended(end) => ended.push((engaged, end)),
                Result::Parked { delay, wait } => parked.push(self.to_park(engaged, delay, wait)),
                Result::Repeat(again) => {
                    repeats.push(engaged);
                    next.extend(again);
                }
            }
        }
        self.shared.hand_on_and_ack(repeats, next);
        self.end(ended).await;
        let attempts = Attempts(Arc::clone(&self.shared));
        self.attempting.write(&attempts, attempted).await;
        let parking = Parking(Arc::clone(&self.shared));
        self.parking.write(&parking, parked).await;
    }

    /// Those of one batch end alike and at one moment: one statement serves them together.
    async fn end(&self, mut ended: Vec<(Engaged, DeliveryState)>) {
        while let Some(&(_, end)) = ended.first() {
            let (alike, others) = ended.into_iter().partition(|(_, other)| *other == end);
            ended = others;
            let alike: Vec<(Engaged, DeliveryState)> = alike;
            let shared = Arc::clone(&self.shared);
            let alike = alike.into_iter().map(|(engaged, _)| engaged).collect();
            self.ending.write(&Ends { shared, end }, alike).await;
        }
    }

    fn to_park(&self, engaged: Engaged, delay: Duration, wait: Wait) -> ToPark {
        let owed = engaged.message.message;
        let delay = self.shared.dispatcher.publisher.even_delay(delay);
        ToPark {
            engaged,
            parked: Parked {
                delivery: owed.delivery,
                until: hookline_clock::now().after(delay),
                wait,
            },
            next: Scheduled { owed, delay },
        }
    }
}

/// Attempts that were made.
#[derive(Clone)]
struct Attempts(Arc<Shared>);

impl Writing for Attempts {
    type Row = (Engaged, AttemptRecord);
    type Done = HashSet<DeliveryId>;
    const WHAT: &'static str = "record attempts";

    fn owed((engaged, _): &Self::Row) -> OwedAttempt {
        engaged.message.message
    }

    async fn write(&self, rows: &[Self::Row]) -> std::result::Result<Self::Done, StoreError> {
        let records: Arc<[AttemptRecord]> = rows.iter().map(|(_, record)| record.clone()).collect();
        let moved = self.0.dispatcher.store.record(records).await?;
        fault::point("dispatcher::committed");
        Ok(moved)
    }

    async fn settle(&self, mut rows: Vec<Self::Row>, outcome: Outcome<Self::Done>) {
        match outcome {
            Outcome::Written { done, is_repeat } => {
                if is_repeat {
                    // The earlier try may have been committed: then nothing moves now, and the step
                    // after it is missing as when another process had died.
                    for (engaged, _) in &mut rows {
                        engaged.message.redelivered = true;
                    }
                }
                self.0.follow_up(rows, &done).await;
            }
            outcome => {
                let rows = rows.into_iter().map(|(engaged, _)| engaged);
                self.0.end_unwritten(rows.collect(), outcome).await;
            }
        }
    }
}

/// Deliveries that end without an attempt.
#[derive(Clone)]
struct Ends {
    shared: Arc<Shared>,
    end: DeliveryState,
}

impl Writing for Ends {
    type Row = Engaged;
    type Done = ();
    const WHAT: &'static str = "end deliveries";

    fn owed(row: &Engaged) -> OwedAttempt {
        row.message.message
    }

    async fn write(&self, rows: &[Engaged]) -> std::result::Result<(), StoreError> {
        let owed = rows.iter().map(|engaged| engaged.message.message);
        let store = &self.shared.dispatcher.store;
        store.end(owed.collect(), self.end).await
    }

    async fn settle(&self, rows: Vec<Engaged>, outcome: Outcome<()>) {
        match outcome {
            Outcome::Written { .. } => {
                let (messages, _holds) = apart(rows);
                self.shared.dispatcher.attempts.ack(messages).await;
            }
            outcome => self.shared.end_unwritten(rows, outcome).await,
        }
    }
}

/// A delivery that is put off, and its message.
struct ToPark {
    engaged: Engaged,
    parked: Parked,
    next: Scheduled,
}

/// Deliveries that are put off: first what the store says, so that no reconciler takes them for lost,
/// then the same attempts once more. It uses up no attempt.
#[derive(Clone)]
struct Parking(Arc<Shared>);

impl Writing for Parking {
    type Row = ToPark;
    type Done = ();
    const WHAT: &'static str = "put deliveries off";

    fn owed(row: &ToPark) -> OwedAttempt {
        row.engaged.message.message
    }

    async fn write(&self, rows: &[ToPark]) -> std::result::Result<(), StoreError> {
        self.0.park_statements.add(1, &[]);
        let parked = rows.iter().map(|row| row.parked);
        self.0.dispatcher.store.park(parked.collect()).await
    }

    async fn settle(&self, rows: Vec<ToPark>, outcome: Outcome<()>) {
        match outcome {
            Outcome::Written { .. } => {
                let count = u64::try_from(rows.len()).unwrap_or(u64::MAX);
                self.0.parked.add(count, &[]);
                tracing::debug!(deliveries = rows.len(), "put deliveries off");
                let rows = rows.into_iter().map(|row| (row.engaged, row.next));
                let (engaged, next) = rows.unzip();
                self.0.hand_on_and_ack(engaged, next);
            }
            outcome => {
                let rows = rows.into_iter().map(|row| row.engaged).collect();
                self.0.end_unwritten(rows, outcome).await;
            }
        }
    }
}

/// Messages without their holds: a delivery is busy until its hold is dropped.
fn apart(rows: Vec<Engaged>) -> (Vec<Taken<OwedAttempt>>, Vec<Hold>) {
    let apart = |Engaged { message, hold }| (message, hold);
    rows.into_iter().map(apart).unzip()
}

impl Shared {
    /// Rows that the store has not taken.
    async fn end_unwritten<T>(&self, rows: Vec<Engaged>, outcome: Outcome<T>) {
        let Outcome::AtFault(why) = outcome else {
            let (messages, _holds) = apart(rows);
            return self.release(messages).await;
        };
        for engaged in rows {
            self.aside.begin(engaged, why.to_string());
        }
    }

    async fn follow_up(&self, rows: Vec<(Engaged, AttemptRecord)>, moved: &HashSet<DeliveryId>) {
        let mut next = Vec::new();
        let mut done = Vec::with_capacity(rows.len());
        let mut lost_races = Vec::new();
        let is_exhausted =
            |(_, record): &(Engaged, AttemptRecord)| matches!(record.follow, Follow::Exhausted(_));
        if rows.iter().any(is_exhausted) {
            self.operations.look();
        }
        for (engaged, record) in rows {
            if moved.contains(&record.owed.delivery) {
                self.measure(&record);
                next.extend(next_of(&record));
                done.push(engaged);
            } else if engaged.message.redelivered {
                lost_races.push(engaged);
            } else {
                done.push(engaged);
            }
        }
        self.hand_on_and_ack(done, next);
        // Another dispatcher recorded this attempt and may have died since: the message, when it comes
        // again, finds in the store what is owed.
        let (lost_races, _holds) = apart(lost_races);
        self.release(lost_races).await;
    }

    fn hand_on_and_ack(&self, rows: Vec<Engaged>, next: Vec<Scheduled>) {
        if rows.is_empty() {
            return;
        }
        let (messages, _holds) = apart(rows);
        let (dispatcher, late) = (self.dispatcher.clone(), self.late.clone());
        let held = self.held.hold(messages.len());
        self.handing_on
            .spawn(panics::fatal("handing on", async move {
                if !next.is_empty() {
                    let publisher = &dispatcher.publisher;
                    let published = keep_on(
                        &late,
                        "hand attempts on",
                        |_| !(publisher.is_blocked() && held.are_too_many()),
                        || publisher.publish_attempts(&next),
                    )
                    .await;
                    match published {
                        Ended::Done(()) => {}
                        Ended::Failed(why) => tracing::debug!(
                            attempts = next.len(),
                            error = %why,
                            "left attempts to the reconciler"
                        ),
                        Ended::Stopped => return dispatcher.attempts.release(messages).await,
                    }
                }
                fault::point("dispatcher::published");
                dispatcher.attempts.ack(messages).await;
                fault::point("dispatcher::acked");
            }));
    }

    async fn release(&self, messages: Vec<Taken<OwedAttempt>>) {
        if !messages.is_empty() {
            self.dispatcher.attempts.release(messages).await;
        }
    }

    fn measure(&self, record: &AttemptRecord) {
        let status = match record.outcome.error() {
            None => "success",
            Some((kind, _)) => kind.as_str(),
        };
        let labels = [KeyValue::new("status", status)];
        self.attempts.add(1, &labels);
        self.durations.record(record.took.as_secs_f64(), &labels);
        tracing::debug!(
            delivery.id = %record.owed.delivery,
            subscription.id = %record.subscription,
            attempt.number = record.owed.attempt,
            status,
            duration_ms = record.took.as_millis(),
            "made an attempt"
        );
    }
}

fn next_of(record: &AttemptRecord) -> Option<Scheduled> {
    let Follow::Again { due } = record.follow else {
        return None;
    };
    let owed = OwedAttempt {
        attempt: record.owed.attempt + 1,
        ..record.owed
    };
    let now = hookline_clock::now();
    Some(Scheduled {
        owed,
        delay: whole_seconds(due.remaining(now)),
    })
}

/// The wait was decided in whole seconds a moment ago; what has passed since must not be rounded
/// up to another one.
fn whole_seconds(remaining: Duration) -> Duration {
    Duration::from_secs_f64(remaining.as_secs_f64().round())
}
