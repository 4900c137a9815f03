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
use crate::ownership::{Part, Progress};
use crate::pipeline::dead_letter::DeadLettering;
use crate::pipeline::write_retry::{Outcome, WriteRetry, Writing, Written};

/// The longest time between two turns of the recorder.
const TURN: Duration = Duration::from_secs(1);

/// The most deliveries in one commit.
const BATCH: usize = 1_024;

/// A due delivery with its outcome. It is in hand until that is recorded.
pub(crate) struct Finished {
    pub(crate) in_hand: InHand,
    pub(crate) result: Disposition,
}

/// The outcome of a due delivery.
pub(crate) enum Disposition {
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
    finished: mpsc::Sender<Finished>,
}

impl Recorder {
    /// Waits while many outcomes wait already, so that a slow store slows the dispatcher down.
    pub(crate) async fn send(&self, finished: Finished) {
        if self.finished.send(finished).await.is_err() {
            tracing::error!("the recorder has ended early; the delivery stays due");
        }
    }
}

/// Starts the recorder. It ends when every [`Recorder`] is gone and the rest is recorded. A process that stops records
/// on until it is `late`. An attempt without a record is made again.
pub(crate) fn start(
    dispatcher: Dispatcher,
    due: DueRows,
    aside: DeadLettering,
    operations: AutoDisable,
    progress: Progress,
    late: CancellationToken,
) -> (Recorder, JoinHandle<()>) {
    let (finished, mut waiting) = mpsc::channel(2 * BATCH);
    let entrance = Recorder { finished };
    let meter = opentelemetry::global::meter("hookline-dispatcher");
    let background = TaskTracker::new();
    let persist = || WriteRetry {
        store: dispatcher.store.clone(),
        late: late.clone(),
        background: background.clone(),
        written: Written::default(),
    };
    let recording = Recording {
        attempting: persist(),
        ending: persist(),
        shared: Arc::new(Shared {
            dispatcher,
            due,
            aside,
            operations,
            attempts: meter.u64_counter("hookline.attempts").build(),
            durations: meter
                .f64_histogram("hookline.attempt.duration")
                .with_unit("s")
                .build(),
        }),
    };
    let task = tokio::spawn(panics::fatal("recorder", async move {
        let mut batch = Vec::with_capacity(BATCH);
        loop {
            progress.finished(Part::Recorder, Instant::now());
            match timeout(TURN, waiting.recv_many(&mut batch, BATCH)).await {
                Ok(0) => break,
                Ok(_) => recording.record(std::mem::take(&mut batch)).await,
                // Nothing was recorded for a while: this counts as a turn, too.
                Err(_) => {}
            }
        }
        background.close();
        background.wait().await;
    }));
    (entrance, task)
}

/// The writers of each kind of rows, and their shared state.
struct Recording {
    attempting: WriteRetry,
    ending: WriteRetry,
    shared: Arc<Shared>,
}

struct Shared {
    dispatcher: Dispatcher,
    due: DueRows,
    aside: DeadLettering,
    operations: AutoDisable,
    attempts: Counter<u64>,
    durations: Histogram<f64>,
}

impl Recording {
    async fn record(&self, finished: Vec<Finished>) {
        let mut attempted = Vec::new();
        let mut ended = Vec::new();
        let mut early = Vec::new();
        for Finished { in_hand, result } in finished {
            match result {
                Disposition::Attempted(record) => attempted.push((in_hand, *record)),
                Disposition::Ended(end) => ended.push((in_hand, end)),
                Disposition::Repeat(again) => early.extend(again),
            }
        }
        self.shared.due.remind(&early);
        self.end(ended).await;
        let attempts = Attempts(Arc::clone(&self.shared));
        self.attempting.write(&attempts, attempted).await;
    }

    /// Ends deliveries. Those of one batch end alike and at one moment: one statement serves them together.
    async fn end(&self, mut ended: Vec<(InHand, DeliveryState)>) {
        while let Some(&(_, end)) = ended.first() {
            let (alike, others) = ended.into_iter().partition(|(_, other)| *other == end);
            ended = others;
            let alike: Vec<(InHand, DeliveryState)> = alike;
            let shared = Arc::clone(&self.shared);
            let alike = alike.into_iter().map(|(in_hand, _)| in_hand).collect();
            self.ending.write(&Ends { shared, end }, alike).await;
        }
    }
}

/// Attempts that were made.
#[derive(Clone)]
struct Attempts(Arc<Shared>);

impl Writing for Attempts {
    type Row = (InHand, AttemptRecord);
    type Done = HashSet<DeliveryId>;
    const WHAT: &'static str = "record attempts";

    fn owed((in_hand, _): &Self::Row) -> AttemptTask {
        in_hand.owed
    }

    async fn write(&self, rows: &[Self::Row]) -> Result<Self::Done, StoreError> {
        let records: Arc<[AttemptRecord]> = rows.iter().map(|(_, record)| record.clone()).collect();
        let moved = self.0.dispatcher.store.record(records).await?;
        failpoint::point("dispatcher::committed");
        Ok(moved)
    }

    fn settle(&self, rows: Vec<Self::Row>, outcome: Outcome<Self::Done>) {
        match outcome {
            Outcome::Written(moved) => self.0.follow_up(rows, &moved),
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
    shared: Arc<Shared>,
    end: DeliveryState,
}

impl Writing for Ends {
    type Row = InHand;
    type Done = ();
    const WHAT: &'static str = "end deliveries";

    fn owed(row: &InHand) -> AttemptTask {
        row.owed
    }

    async fn write(&self, rows: &[InHand]) -> Result<(), StoreError> {
        let owed = rows.iter().map(|in_hand| in_hand.owed);
        let store = &self.shared.dispatcher.store;
        store.end(owed.collect(), self.end).await
    }

    fn settle(&self, rows: Vec<InHand>, outcome: Outcome<()>) {
        self.shared.end_unwritten(rows, outcome);
    }
}

impl Shared {
    /// Dead-letters a row that the store does not take. The other rows are let go: they stay due where they are not
    /// written.
    fn end_unwritten<T>(&self, rows: Vec<InHand>, outcome: Outcome<T>) {
        if let Outcome::AtFault(why) = outcome {
            for in_hand in rows {
                self.aside.begin(in_hand, why.to_string());
            }
        }
    }

    /// Wakes the owners of the next attempts. A row that did not move was recorded before, by this process or another
    /// one. That row says when its next attempt is due, and a look finds it.
    fn follow_up(&self, rows: Vec<(InHand, AttemptRecord)>, moved: &HashSet<DeliveryId>) {
        let is_exhausted =
            |(_, record): &(InHand, AttemptRecord)| matches!(record.follow, NextStep::Exhausted(_));
        if rows.iter().any(is_exhausted) {
            self.operations.look();
        }
        let mut next = Vec::new();
        for (_, record) in &rows {
            if moved.contains(&record.owed.delivery) {
                self.measure(record);
                next.extend(next_of(record));
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
    let NextStep::Retry { due } = record.follow else {
        return None;
    };
    let owed = AttemptTask {
        attempt: record.owed.attempt + 1,
        ..record.owed
    };
    let now = hookline_clock::now();
    Some(Scheduled {
        owed,
        delay: whole_seconds(due.remaining(now)),
    })
}

/// Rounds to whole seconds. The wait was decided in whole seconds a moment ago. The time since then must not round it
/// up to another second.
fn whole_seconds(remaining: Duration) -> Duration {
    Duration::from_secs_f64(remaining.as_secs_f64().round())
}
