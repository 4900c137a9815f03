//! Records the outcomes of attempts, then wakes the owner of each next attempt, then lets go: in this order.
//!
//! Batches form by themselves: while one is being committed, the next gathers. A batch that the store does not take
//! does not delay the others: see `write_retry`.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hookline_core::delivery::{AttemptTask, DeliveryState};
use hookline_core::ids::DeliveryId;
use hookline_queue::Scheduled;
use hookline_runtime::failpoint;
use hookline_runtime::panics;
use hookline_store::{AttemptRecord, NextStep, StoreError};
use opentelemetry::KeyValue;
use opentelemetry::metrics::{Counter, Histogram};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::context::Dispatcher;
use crate::due::{DueRows, InHand};
use crate::jobs::auto_disable::AutoDisable;
use crate::ownership::{Watchdog, WatchedPart};
use crate::pipeline::dead_letter::DeadLettering;
use crate::pipeline::write_retry::{LastWrites, RowWriter, WriteOutcome, WriteRetry};

/// The longest time between two turns of the recorder.
const TURN: Duration = Duration::from_secs(1);

/// The outcome of a due delivery.
pub(crate) enum DeliveryOutcome {
    /// The attempt was made.
    Attempted(Box<AttemptRecord>),
    /// The delivery ends without an attempt.
    Ended(DeliveryState),
    /// Nothing is owed now; a later attempt may be.
    Repeat(Option<Scheduled>),
}

/// The sender of outcomes to the recorder.
#[derive(Clone)]
pub(crate) struct Recorder {
    finished: mpsc::Sender<(InHand, DeliveryOutcome)>,
}

/// Room for one outcome in the recorder; none if that has ended.
pub(crate) struct RecorderRoom<'a>(Option<mpsc::Permit<'a, (InHand, DeliveryOutcome)>>);

impl Recorder {
    /// Waits while many outcomes wait already, so that a slow store slows the dispatcher down.
    pub(crate) async fn reserve(&self) -> RecorderRoom<'_> {
        RecorderRoom(self.finished.reserve().await.ok())
    }

    /// Waits for room and sends the outcome of a delivery.
    pub(crate) async fn send(&self, in_hand: InHand, outcome: DeliveryOutcome) {
        self.reserve().await.send(in_hand, outcome);
    }
}

impl RecorderRoom<'_> {
    /// Sends the outcome of a delivery, which is in hand until that is recorded.
    pub(crate) fn send(self, in_hand: InHand, outcome: DeliveryOutcome) {
        match self.0 {
            Some(room) => room.send((in_hand, outcome)),
            None => tracing::error!(
                "could not record outcome: the recorder has ended; the delivery stays due"
            ),
        }
    }
}

/// Starts the recorder. It ends when every [`Recorder`] is gone and the rest is recorded. A process that stops records
/// on until it is `late`. An attempt without a record is made again.
pub(crate) fn start(
    dispatcher: Dispatcher,
    due: DueRows,
    dead_letters: DeadLettering,
    auto_disable: AutoDisable,
    watchdog: Watchdog,
    late: CancellationToken,
) -> (Recorder, JoinHandle<()>) {
    let batch_size = dispatcher.store.rows_per_write();
    let (finished, mut waiting) = mpsc::channel(2 * batch_size);
    let recorder = Recorder { finished };
    let meter = opentelemetry::global::meter("hookline-dispatcher");
    let background = TaskTracker::new();
    let retry = || WriteRetry {
        store: dispatcher.store.clone(),
        late: late.clone(),
        background: background.clone(),
        written: LastWrites::default(),
    };
    let recording = Recording {
        attempt_writer: retry(),
        end_writer: retry(),
        shared: Arc::new(RecorderContext {
            dispatcher,
            due,
            dead_letters,
            auto_disable,
            attempts: meter.u64_counter("hookline.attempts").build(),
            durations: meter
                .f64_histogram("hookline.attempt.duration")
                .with_unit("s")
                .build(),
        }),
    };
    let task = tokio::spawn(panics::fatal("recorder", async move {
        let mut batch = Vec::with_capacity(batch_size);
        loop {
            watchdog.finished(WatchedPart::Recorder, Instant::now());
            match timeout(TURN, waiting.recv_many(&mut batch, batch_size)).await {
                Ok(0) => break,
                Ok(_) => recording.record(std::mem::take(&mut batch)).await,
                // Nothing was recorded for a while: this counts as a turn, too.
                Err(_) => {}
            }
        }
        background.close();
        background.wait().await;
    }));
    (recorder, task)
}

/// The writers of each kind of rows, and their shared state.
struct Recording {
    attempt_writer: WriteRetry,
    end_writer: WriteRetry,
    shared: Arc<RecorderContext>,
}

struct RecorderContext {
    dispatcher: Dispatcher,
    due: DueRows,
    dead_letters: DeadLettering,
    auto_disable: AutoDisable,
    attempts: Counter<u64>,
    durations: Histogram<f64>,
}

impl Recording {
    async fn record(&self, finished: Vec<(InHand, DeliveryOutcome)>) {
        let mut attempted = Vec::new();
        let mut ended = Vec::new();
        let mut early = Vec::new();
        for (in_hand, outcome) in finished {
            match outcome {
                DeliveryOutcome::Attempted(record) => attempted.push((in_hand, *record)),
                DeliveryOutcome::Ended(end) => ended.push((in_hand, end)),
                DeliveryOutcome::Repeat(again) => early.extend(again),
            }
        }
        self.shared.due.schedule(&early);
        self.end(ended).await;
        let attempts = Attempts(Arc::clone(&self.shared));
        self.attempt_writer.write(&attempts, attempted).await;
    }

    /// Ends deliveries. Those of one batch end alike and at one moment: one statement serves them together.
    async fn end(&self, mut ended: Vec<(InHand, DeliveryState)>) {
        while let Some(&(_, end)) = ended.first() {
            let (alike, others) = ended.into_iter().partition(|(_, other)| *other == end);
            ended = others;
            let alike: Vec<(InHand, DeliveryState)> = alike;
            let shared = Arc::clone(&self.shared);
            let alike = alike.into_iter().map(|(in_hand, _)| in_hand).collect();
            self.end_writer.write(&Ends { shared, end }, alike).await;
        }
    }
}

/// Attempts that were made.
#[derive(Clone)]
struct Attempts(Arc<RecorderContext>);

impl RowWriter for Attempts {
    type Row = (InHand, AttemptRecord);
    type Done = HashSet<DeliveryId>;
    const WHAT: &'static str = "record attempts";

    fn task((in_hand, _): &Self::Row) -> AttemptTask {
        in_hand.task
    }

    async fn write(&self, rows: &[Self::Row]) -> Result<Self::Done, StoreError> {
        let records: Arc<[AttemptRecord]> = rows.iter().map(|(_, record)| record.clone()).collect();
        let moved = self.0.dispatcher.store.record(records).await?;
        failpoint::point("dispatcher::committed");
        Ok(moved)
    }

    fn settle(&self, rows: Vec<Self::Row>, outcome: WriteOutcome<Self::Done>) {
        match outcome {
            WriteOutcome::Done(moved) => self.0.after_recorded(rows, &moved),
            outcome => {
                let rows = rows.into_iter().map(|(in_hand, _)| in_hand);
                self.0.end_unwritten(rows.collect(), outcome);
            }
        }
    }
}

/// Deliveries that end without an attempt.
#[derive(Clone)]
struct Ends {
    shared: Arc<RecorderContext>,
    end: DeliveryState,
}

impl RowWriter for Ends {
    type Row = InHand;
    type Done = ();
    const WHAT: &'static str = "end deliveries";

    fn task(row: &InHand) -> AttemptTask {
        row.task
    }

    async fn write(&self, rows: &[InHand]) -> Result<(), StoreError> {
        let tasks = rows.iter().map(|in_hand| in_hand.task);
        let store = &self.shared.dispatcher.store;
        store.end(tasks.collect(), self.end).await
    }

    fn settle(&self, rows: Vec<InHand>, outcome: WriteOutcome<()>) {
        self.shared.end_unwritten(rows, outcome);
    }
}

impl RecorderContext {
    /// Dead-letters a row that the store does not take. The other rows are let go: they stay due where they are not
    /// written.
    fn end_unwritten<T>(&self, rows: Vec<InHand>, outcome: WriteOutcome<T>) {
        if let WriteOutcome::AtFault(why) = outcome {
            for in_hand in rows {
                self.dead_letters.begin(in_hand, why.to_string());
            }
        }
    }

    /// Wakes the owners of the next attempts. A row that did not move was recorded before, by this process or another
    /// one. That row says when its next attempt is due, and a look finds it.
    fn after_recorded(&self, rows: Vec<(InHand, AttemptRecord)>, moved: &HashSet<DeliveryId>) {
        let is_exhausted = |(_, record): &(InHand, AttemptRecord)| {
            matches!(record.next_step, NextStep::Exhausted(_))
        };
        if rows.iter().any(is_exhausted) {
            self.auto_disable.look();
        }
        let mut next = Vec::new();
        for (_, record) in &rows {
            if moved.contains(&record.task.delivery) {
                self.measure(record);
                next.extend(next_attempt(record));
            }
        }
        self.dispatcher.publisher.wake(&next);
        failpoint::point("dispatcher::published");
        drop(rows);
        failpoint::point("dispatcher::acked");
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
            delivery.id = %record.task.delivery,
            subscription.id = %record.subscription,
            attempt.number = record.task.attempt,
            status,
            duration_ms = record.took.as_millis(),
            "made an attempt"
        );
    }
}

fn next_attempt(record: &AttemptRecord) -> Option<Scheduled> {
    let NextStep::Retry { due } = record.next_step else {
        return None;
    };
    let task = AttemptTask {
        attempt: record.task.attempt + 1,
        ..record.task
    };
    let now = hookline_clock::now();
    Some(Scheduled {
        task,
        delay: whole_seconds(due.remaining(now)),
    })
}

/// Rounds to whole seconds. The wait was decided in whole seconds a moment ago. The time since then must not round it
/// up to another second.
fn whole_seconds(remaining: Duration) -> Duration {
    Duration::from_secs_f64(remaining.as_secs_f64().round())
}
