//! Records what came of attempts, hands on the next ones, acks: in this order.
//!
//! Batches form by themselves: while one is being committed the next gathers. Handing on does not
//! hold up the recording: while the broker is away, what was attempted must be known to the store
//! before the broker is back and gives the same messages to another dispatcher.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use hookline_broker::contract::{Scheduled, Taken};
use hookline_core::delivery::{DeliveryState, OwedAttempt};
use hookline_core::ids::DeliveryId;
use hookline_runtime::fault;
use hookline_runtime::patience::{Ended, keep_on};
use hookline_store::{AttemptRecord, Follow, Parked, StoreError, Wait};
use opentelemetry::KeyValue;
use opentelemetry::metrics::{Counter, Histogram};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::Dispatcher;
use crate::busy::Engaged;
use crate::operations::Operations;

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
    operations: Operations,
    late: CancellationToken,
) -> (Recorder, JoinHandle<()>) {
    let (finished, mut waiting) = mpsc::channel(2 * BATCH);
    let entrance = Recorder { finished };
    let meter = opentelemetry::global::meter("hookline-dispatcher");
    let recording = Recording {
        dispatcher,
        operations,
        late,
        handing_on: TaskTracker::new(),
        attempts: meter.u64_counter("hookline.attempts").build(),
        durations: meter
            .f64_histogram("hookline.attempt.duration")
            .with_unit("s")
            .build(),
        parked: meter.u64_counter("hookline.parked").build(),
        park_statements: meter.u64_counter("hookline.park.statements").build(),
    };
    let task = tokio::spawn(async move {
        let mut batch = Vec::with_capacity(BATCH);
        while waiting.recv_many(&mut batch, BATCH).await > 0 {
            recording.record(std::mem::take(&mut batch)).await;
        }
        recording.handing_on.close();
        recording.handing_on.wait().await;
    });
    (entrance, task)
}

pub(crate) fn unavailable(why: &StoreError) -> bool {
    matches!(why, StoreError::Unavailable(_))
}

struct Recording {
    dispatcher: Dispatcher,
    operations: Operations,
    late: CancellationToken,
    /// What is recorded and not acked; bounded by the prefetch, for the broker counts it.
    handing_on: TaskTracker,
    attempts: Counter<u64>,
    durations: Histogram<f64>,
    parked: Counter<u64>,
    park_statements: Counter<u64>,
}

type Attempted = Vec<(Taken<OwedAttempt>, AttemptRecord)>;

/// Messages of one kind, side by side with what belongs to them.
#[derive(Default)]
struct Batch {
    attempted: Attempted,
    ended: Vec<(Taken<OwedAttempt>, DeliveryState)>,
    /// With how long they wait, and what for.
    parked: Vec<(Taken<OwedAttempt>, Duration, Wait)>,
    repeats: Vec<Taken<OwedAttempt>>,
    next: Vec<Scheduled>,
}

impl Recording {
    async fn record(&self, finished: Vec<Finished>) {
        let mut batch = Batch::default();
        let mut holds = Vec::with_capacity(finished.len());
        for Finished {
            engaged: Engaged { message, hold },
            result,
        } in finished
        {
            holds.push(hold);
            match result {
                Result::Attempted(record) => batch.attempted.push((message, *record)),
                Result::Ended(end) => batch.ended.push((message, end)),
                Result::Parked { delay, wait } => batch.parked.push((message, delay, wait)),
                Result::Repeat(next) => {
                    batch.repeats.push(message);
                    batch.next.extend(next);
                }
            }
        }
        let Batch {
            attempted,
            ended,
            parked,
            repeats,
            next,
        } = batch;
        self.hand_on_and_ack(repeats, next);
        self.end(ended).await;
        self.record_attempts(attempted).await;
        self.park(parked).await;
        drop(holds);
    }

    /// A batch that the store refuses is halved until the one attempt stands alone that it refuses.
    async fn record_attempts(&self, attempted: Attempted) {
        let mut batches = vec![attempted];
        while let Some(mut batch) = batches.pop() {
            if batch.is_empty() {
                continue;
            }
            let records: Arc<[AttemptRecord]> =
                batch.iter().map(|(_, record)| record.clone()).collect();
            let store = &self.dispatcher.store;
            let mut tries = 0;
            let recorded = keep_on(&self.late, "record attempts", unavailable, || {
                tries += 1;
                store.record(Arc::clone(&records))
            })
            .await;
            if tries > 1 {
                // An earlier try may have been committed and its answer lost: then nothing moves
                // now, and the step after it is missing as when somebody had died.
                for (message, _) in &mut batch {
                    message.redelivered = true;
                }
            }
            fault::point("dispatcher::committed");
            match recorded {
                Ended::Done(moved) => self.follow_up(batch, &moved).await,
                Ended::Stopped => {
                    self.release(batch.into_iter().map(|(message, _)| message))
                        .await
                }
                Ended::Failed(why) if batch.len() == 1 => {
                    for (message, _) in batch {
                        self.dispatcher.bury(message, &why.to_string()).await;
                    }
                }
                Ended::Failed(_) => {
                    let rest = batch.split_off(batch.len() / 2);
                    batches.extend([rest, batch]);
                }
            }
        }
    }

    async fn follow_up(&self, batch: Attempted, moved: &HashSet<DeliveryId>) {
        let mut next = Vec::new();
        let mut messages = Vec::with_capacity(batch.len());
        let mut lost_races = Vec::new();
        if batch
            .iter()
            .any(|(_, record)| matches!(record.follow, Follow::Exhausted(_)))
        {
            self.operations.look();
        }
        for (message, record) in batch {
            if moved.contains(&record.owed.delivery) {
                self.measure(&record);
                next.extend(next_of(&record));
                messages.push(message);
            } else if message.redelivered {
                lost_races.push(message);
            } else {
                messages.push(message);
            }
        }
        self.hand_on_and_ack(messages, next);
        // Somebody else recorded this attempt and may have died since: the message, when it comes
        // again, finds in the store what is owed.
        self.release(lost_races.into_iter()).await;
    }

    /// Those of one batch end alike and at one moment: one statement serves them together.
    async fn end(&self, mut ended: Vec<(Taken<OwedAttempt>, DeliveryState)>) {
        while let Some(&(_, end)) = ended.first() {
            let (alike, others) = ended.into_iter().partition(|(_, other)| *other == end);
            ended = others;
            let alike: Vec<(Taken<OwedAttempt>, DeliveryState)> = alike;
            let owed: Vec<OwedAttempt> = alike.iter().map(|(message, _)| message.message).collect();
            let store = &self.dispatcher.store;
            let done = keep_on(&self.late, "end deliveries", unavailable, || {
                store.end(owed.clone(), end)
            })
            .await;
            let messages = alike.into_iter().map(|(message, _)| message);
            match done {
                Ended::Done(()) => self.dispatcher.attempts.ack(messages.collect()).await,
                Ended::Stopped => self.release(messages).await,
                Ended::Failed(why) => {
                    for message in messages {
                        self.dispatcher.bury(message, &why.to_string()).await;
                    }
                }
            }
        }
    }

    /// Puts deliveries off: first what the store says, so that nobody takes them for lost, then
    /// the same attempts once more. It uses up no attempt.
    async fn park(&self, waiting: Vec<(Taken<OwedAttempt>, Duration, Wait)>) {
        if waiting.is_empty() {
            return;
        }
        let now = hookline_clock::now();
        let mut messages = Vec::with_capacity(waiting.len());
        let mut parked = Vec::with_capacity(waiting.len());
        let mut next = Vec::with_capacity(waiting.len());
        for (message, delay, wait) in waiting {
            let owed = message.message;
            let delay = self.dispatcher.publisher.even_delay(delay);
            parked.push(Parked {
                delivery: owed.delivery,
                until: now.after(delay),
                wait,
            });
            next.push(Scheduled { owed, delay });
            messages.push(message);
        }
        let store = &self.dispatcher.store;
        let done = keep_on(&self.late, "put deliveries off", unavailable, || {
            self.park_statements.add(1, &[]);
            store.park(parked.clone())
        })
        .await;
        match done {
            Ended::Done(()) => {
                self.parked
                    .add(u64::try_from(parked.len()).unwrap_or(u64::MAX), &[]);
                tracing::debug!(deliveries = parked.len(), "put deliveries off");
                self.hand_on_and_ack(messages, next);
            }
            Ended::Stopped => self.release(messages.into_iter()).await,
            Ended::Failed(why) => {
                for message in messages {
                    self.dispatcher.bury(message, &why.to_string()).await;
                }
            }
        }
    }

    fn hand_on_and_ack(&self, messages: Vec<Taken<OwedAttempt>>, next: Vec<Scheduled>) {
        if messages.is_empty() {
            return;
        }
        let (dispatcher, late) = (self.dispatcher.clone(), self.late.clone());
        self.handing_on.spawn(async move {
            if !next.is_empty() {
                let publisher = &dispatcher.publisher;
                let published = keep_on(
                    &late,
                    "hand attempts on",
                    |_| true,
                    || publisher.publish_attempts(&next),
                )
                .await;
                if !matches!(published, Ended::Done(())) {
                    return dispatcher.attempts.release(messages).await;
                }
            }
            fault::point("dispatcher::published");
            dispatcher.attempts.ack(messages).await;
            fault::point("dispatcher::acked");
        });
    }

    async fn release(&self, messages: impl Iterator<Item = Taken<OwedAttempt>>) {
        let messages: Vec<_> = messages.collect();
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
