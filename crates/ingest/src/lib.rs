//! From published events to owed deliveries.
//!
//! A batch is read, taken in by the store in one transaction with the deliveries it makes, handed
//! on as one message for each owed attempt, and acked only when those are confirmed. A crash in
//! between repeats the batch; the store then answers with what is still owed, so the repeat hands
//! on what the crash kept back and makes nothing twice.

mod reading;

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use hookline_broker::contract::{PublishedEvents, Publisher, Scheduled, Source, Taken};
use hookline_core::delivery::OwedAttempt;
use hookline_core::timestamp::Timestamp;
use hookline_runtime::fault;
use hookline_runtime::patience::{Ended, keep_on};
use hookline_store::{FanoutIndex, IncomingEvent, Store, StoreError};
use opentelemetry::metrics::Counter;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// How many batches are worked on at once: one is committed while the next is handed on.
const LANES: usize = 2;

/// How long intake rests before it looks again whether dispatchers have caught up.
const REST: Duration = Duration::from_millis(500);

/// What ingest works with.
#[derive(Clone)]
pub struct Ingest {
    /// Where events and deliveries are kept.
    pub store: Store,
    /// Where events come from.
    pub events: Arc<dyn Source<PublishedEvents>>,
    /// Where owed attempts go.
    pub publisher: Arc<dyn Publisher>,
    /// How many messages make a batch at most.
    pub batch: usize,
    /// While more attempts wait than this, no more events are taken in.
    pub max_waiting: u64,
}

/// Takes events in until `shutdown`; what is in hand then goes back.
pub async fn run(ingest: Ingest, shutdown: CancellationToken) {
    let index = FanoutIndex::default();
    let meter = opentelemetry::global::meter("hookline-ingest");
    let mut lanes = JoinSet::new();
    for _ in 0..LANES {
        let lane = Lane {
            ingest: ingest.clone(),
            index: index.clone(),
            shutdown: shutdown.clone(),
            taken_in: meter.u64_counter("hookline.events.taken_in").build(),
            rejected: meter.u64_counter("hookline.events.rejected").build(),
        };
        lanes.spawn(async move { lane.run().await });
    }
    lanes.join_all().await;
}

struct Lane {
    ingest: Ingest,
    index: FanoutIndex,
    shutdown: CancellationToken,
    taken_in: Counter<u64>,
    rejected: Counter<u64>,
}

/// The process stops before a batch was dealt with.
struct Stopped;

type Batch = Vec<(Taken<PublishedEvents>, Vec<IncomingEvent>)>;

impl Lane {
    async fn run(&self) {
        while !self.shutdown.is_cancelled() {
            let taken = tokio::select! {
                taken = self.take() => taken,
                () = self.shutdown.cancelled() => return,
            };
            let batch = self.read(taken).await;
            if let Err(Stopped) = self.deal_with(batch).await {
                return;
            }
        }
    }

    /// Waits for messages, and before that for dispatchers that are far behind: what is not taken
    /// in stays with the broker, which holds it better than a delivery queue without end.
    async fn take(&self) -> Vec<Taken<PublishedEvents>> {
        while matches!(self.ingest.publisher.attempts_waiting().await, Ok(waiting) if waiting > self.ingest.max_waiting)
        {
            tokio::time::sleep(REST).await;
        }
        self.ingest.events.take(self.ingest.batch).await
    }

    /// What is no valid event goes to the rejected ones, and holds nobody up.
    async fn read(&self, taken: Vec<Taken<PublishedEvents>>) -> Batch {
        let mut batch = Vec::with_capacity(taken.len());
        for message in taken {
            match reading::events(&message.message) {
                Ok(events) => batch.push((message, events)),
                Err(why) => self.reject(message, &why.to_string()).await,
            }
        }
        batch
    }

    async fn reject(&self, message: Taken<PublishedEvents>, reason: &str) {
        tracing::info!(reason, "rejected a message that is no valid event");
        self.rejected.add(1, &[]);
        if let Err(why) = self.ingest.events.bury(message, reason).await {
            tracing::warn!(error = %why, "could not put a message to the rejected ones; it comes again");
        }
    }

    /// Takes a batch in, hands on what is owed, acks. A batch that the store refuses is halved
    /// until the one event stands alone that it refuses.
    async fn deal_with(&self, batch: Batch) -> Result<(), Stopped> {
        let mut batches = vec![batch];
        while let Some(mut batch) = batches.pop() {
            if batch.is_empty() {
                continue;
            }
            let events: Arc<[IncomingEvent]> = batch
                .iter()
                .flat_map(|(_, events)| events.iter().cloned())
                .collect();
            match self.take_in(events).await {
                Ended::Done(owed) => self.hand_on(batch, owed).await?,
                Ended::Stopped => {
                    batches.push(batch);
                    return self.give_back(batches).await;
                }
                Ended::Failed(why) if batch.len() == 1 => {
                    for (message, _) in batch {
                        self.reject(message, &why.to_string()).await;
                    }
                }
                Ended::Failed(_) => {
                    let rest = batch.split_off(batch.len() / 2);
                    batches.extend([rest, batch]);
                }
            }
        }
        Ok(())
    }

    async fn take_in(&self, events: Arc<[IncomingEvent]>) -> Ended<Vec<OwedAttempt>, StoreError> {
        let passes = |why: &StoreError| matches!(why, StoreError::Unavailable(_));
        let ended = keep_on(&self.shutdown, "take events in", passes, || {
            let now = Timestamp::from(SystemTime::now());
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

    async fn hand_on(&self, batch: Batch, owed: Vec<OwedAttempt>) -> Result<(), Stopped> {
        let attempts: Vec<Scheduled> = owed
            .into_iter()
            .map(|owed| Scheduled {
                owed,
                delay: Duration::ZERO,
            })
            .collect();
        let published = keep_on(
            &self.shutdown,
            "hand attempts on",
            |_| true,
            || self.ingest.publisher.publish_attempts(&attempts),
        )
        .await;
        let Ended::Done(()) = published else {
            return self.give_back(vec![batch]).await;
        };
        fault::point("ingest::published");
        let messages = batch.into_iter().map(|(message, _)| message).collect();
        self.ingest.events.ack(messages).await;
        fault::point("ingest::acked");
        Ok(())
    }

    async fn give_back(&self, batches: Vec<Batch>) -> Result<(), Stopped> {
        let messages = batches
            .into_iter()
            .flatten()
            .map(|(message, _)| message)
            .collect();
        self.ingest.events.release(messages).await;
        Err(Stopped)
    }
}
