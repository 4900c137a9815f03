//! Takes messages, asks the store what they mean now, and starts an attempt for each that is owed.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::SystemTime;

use hookline_broker::contract::Taken;
use hookline_core::delivery::OwedAttempt;
use hookline_core::ids::{DeliveryId, EventKey};
use hookline_core::retry::{Made, Next, after};
use hookline_core::timestamp::Timestamp;
use hookline_core::trace::TraceParent;
use hookline_runtime::fault;
use hookline_runtime::patience::{Ended, keep_on};
use hookline_runtime::telemetry::{continue_trace, trace_of};
use hookline_store::{AttemptRecord, Body, Follow, Owed, StoreError};
use moka::future::Cache;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::Instrument as _;

use crate::attempt::{Request, Requester};
use crate::busy::{Busy, Engaged};
use crate::decision::{Task, decide};
use crate::recorder::{Finished, Recorder, Result, unavailable};
use crate::{Dispatcher, Policy};

/// How many messages are asked about at once.
const BATCH: usize = 256;

pub(crate) struct Worker {
    dispatcher: Dispatcher,
    requester: Requester,
    recorder: Recorder,
    bodies: Cache<EventKey, Body>,
    slots: Arc<Semaphore>,
    in_flight: TaskTracker,
}

impl Worker {
    pub(crate) fn new(dispatcher: Dispatcher, requester: Requester, recorder: Recorder) -> Self {
        let Policy {
            slots,
            body_cache_bytes,
            ..
        } = dispatcher.policy;
        let bodies = Cache::builder()
            .max_capacity(body_cache_bytes)
            .weigher(|_, body: &Body| u32::try_from(body.bytes.len()).unwrap_or(u32::MAX))
            .build();
        Self {
            dispatcher,
            requester,
            recorder,
            bodies,
            slots: Arc::new(Semaphore::new(slots)),
            in_flight: TaskTracker::new(),
        }
    }

    pub(crate) async fn run(self, shutdown: CancellationToken) {
        let (busy, mut waited) = Busy::new();
        while !shutdown.is_cancelled() {
            let taken = tokio::select! {
                taken = self.take() => taken,
                Some(waited) = waited.recv() => waited,
                () = shutdown.cancelled() => break,
            };
            // Before the store is asked: what it says of a busy delivery will not be true for long.
            let engaged = taken
                .into_iter()
                .filter_map(|message| busy.engage(message))
                .collect();
            self.start(engaged, &shutdown).await;
        }
        self.in_flight.close();
        self.in_flight.wait().await;
    }

    /// Waits for a free slot first: what cannot be started stays with the broker, for others.
    async fn take(&self) -> Vec<Taken<OwedAttempt>> {
        let free = match self.slots.acquire().await {
            Ok(_free) => self.slots.available_permits() + 1,
            Err(_) => return Vec::new(),
        };
        self.dispatcher.attempts.take(free.min(BATCH)).await
    }

    async fn start(&self, messages: Vec<Engaged>, shutdown: &CancellationToken) {
        let ids: Vec<DeliveryId> = messages
            .iter()
            .map(|engaged| engaged.message.message.delivery)
            .collect();
        let store = &self.dispatcher.store;
        let loaded = keep_on(shutdown, "load deliveries", unavailable, || {
            store.owed(ids.clone())
        })
        .await;
        let mut loaded = match loaded {
            Ended::Done(loaded) => loaded,
            ended => return self.give_up(messages, ended).await,
        };
        let now = Timestamp::from(SystemTime::now());
        let mut attempts = Vec::new();
        for engaged in messages {
            let found = loaded.remove(&engaged.message.message.delivery);
            let result = match decide(&engaged.message, found, now) {
                Task::Attempt(owed) => {
                    attempts.push((engaged, owed));
                    continue;
                }
                Task::End(end) => Result::Ended(end),
                Task::HandOn(next) => Result::Repeat(Some(next)),
                Task::Drop => Result::Repeat(None),
            };
            self.recorder.send(Finished { engaged, result }).await;
        }
        self.attempt_all(attempts, shutdown).await;
    }

    async fn attempt_all(&self, attempts: Vec<(Engaged, Box<Owed>)>, shutdown: &CancellationToken) {
        let keys = attempts.iter().map(|(_, owed)| owed.event).collect();
        let bodies = match self.bodies(keys, shutdown).await {
            Ended::Done(bodies) => bodies,
            ended => {
                let messages = attempts.into_iter().map(|(engaged, _)| engaged).collect();
                return self.give_up(messages, ended).await;
            }
        };
        for (engaged, owed) in attempts {
            let Some(body) = bodies.get(&owed.event).cloned() else {
                self.dispatcher
                    .bury(engaged.message, "its event is gone")
                    .await;
                continue;
            };
            let Ok(slot) = Arc::clone(&self.slots).acquire_owned().await else {
                return;
            };
            let (requester, recorder) = (self.requester.clone(), self.recorder.clone());
            let policy = self.dispatcher.policy.clone();
            self.in_flight.spawn(async move {
                let asked = engaged.message.message;
                let record = attempt(&requester, &policy, asked, *owed, body).await;
                fault::point("dispatcher::requested");
                // A slot is free once its request is over; recording has bounds of its own.
                drop(slot);
                let result = Result::Attempted(Box::new(record));
                recorder.send(Finished { engaged, result }).await;
            });
        }
    }

    /// Gives messages back when the process stops; what the store holds of them and cannot be read
    /// ends as a dead letter.
    async fn give_up<T>(&self, messages: Vec<Engaged>, ended: Ended<T, StoreError>) {
        let Ended::Failed(why) = ended else {
            let messages = messages
                .into_iter()
                .map(|engaged| engaged.message)
                .collect();
            return self.dispatcher.attempts.release(messages).await;
        };
        for engaged in messages {
            self.dispatcher
                .bury(engaged.message, &why.to_string())
                .await;
        }
    }

    async fn bodies(
        &self,
        mut keys: Vec<EventKey>,
        shutdown: &CancellationToken,
    ) -> Ended<HashMap<EventKey, Body>, StoreError> {
        let mut bodies = HashMap::with_capacity(keys.len());
        keys.sort_unstable();
        keys.dedup();
        let mut missing = Vec::new();
        for key in keys {
            match self.bodies.get(&key).await {
                Some(body) => drop(bodies.insert(key, body)),
                None => missing.push(key),
            }
        }
        if missing.is_empty() {
            return Ended::Done(bodies);
        }
        let store = &self.dispatcher.store;
        let found = keep_on(shutdown, "load bodies", unavailable, || {
            store.bodies(missing.clone())
        });
        match found.await {
            Ended::Done(found) => {
                for (key, body) in &found {
                    self.bodies.insert(*key, body.clone()).await;
                }
                bodies.extend(found);
                Ended::Done(bodies)
            }
            ended => ended,
        }
    }
}

async fn attempt(
    requester: &Requester,
    policy: &Policy,
    owed: OwedAttempt,
    found: Owed,
    body: Body,
) -> AttemptRecord {
    let span = tracing::info_span!(
        "attempt",
        delivery.id = %owed.delivery,
        attempt.number = owed.attempt,
        subscription.id = %found.subscription,
    );
    let parent = span_of(body.trace);
    continue_trace(&span, parent);
    let started = Timestamp::from(SystemTime::now());
    let clock = tokio::time::Instant::now();
    let outcome = requester
        .send(Request {
            delivery: owed.delivery,
            attempt: owed.attempt,
            event_type: found.event_type,
            url: &found.url,
            secret: found.secret.as_ref(),
            headers: &found.headers,
            trace: trace_of(&span).unwrap_or(parent),
            now: started,
            body: body.bytes,
        })
        .instrument(span.clone())
        .await;
    let took = clock.elapsed();
    let origin = found.origin;
    let made = Made {
        outcome: &outcome,
        attempt: owed.attempt,
        origin,
    };
    let follow = match after(made, &policy.schedule, rand::random_range(-1.0..=1.0)) {
        Next::Delivered => Follow::Delivered,
        Next::Again(wait) => Follow::Again {
            due: started.after(took).after(wait),
        },
        Next::Exhausted(why) => Follow::Exhausted(why),
    };
    AttemptRecord {
        owed,
        origin,
        organization: found.organization,
        subscription: found.subscription,
        event: found.event,
        event_type: found.event_type,
        url: found.url,
        outcome,
        started,
        took,
        follow,
    }
}

/// The publisher's trace in a span of our own, or a trace of our own.
fn span_of(trace: Option<TraceParent>) -> TraceParent {
    let span_id = rand::random();
    match trace {
        Some(trace) => trace.child(span_id),
        None => TraceParent {
            trace_id: rand::random::<u128>().max(1),
            span_id: span_id.max(1),
            flags: 0,
        },
    }
}
