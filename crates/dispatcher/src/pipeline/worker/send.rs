//! One attempt, from its credentials to its outcome.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::SystemTime;

use hookline_core::delivery::AttemptTask;
use hookline_core::ids::EventKey;
use hookline_core::retry::{FinishedAttempt, RetryDecision, decide};
use hookline_core::timestamp::Timestamp;
use hookline_core::trace::TraceParent;
use hookline_runtime::failpoint;
use hookline_runtime::panics;
use hookline_runtime::telemetry::{continue_trace, trace_of};
use hookline_store::{
    AttemptRecord, Credentials, DecryptError, DueDelivery, EventPayload, NextStep,
};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::Instrument as _;

use super::slot::Slot;
use crate::context::{Dispatcher, Policy};
use crate::due::InHand;
use crate::http::attempt::{FinishedRequest, Requester, WebhookRequest};
use crate::pipeline::dead_letter::DeadLettering;
use crate::pipeline::record::{DeliveryOutcome, Recorder};
use crate::scheduler::{Finish, ReceiverHealth};

/// All parts of a request except its body.
pub(super) struct PreparedRequest {
    delivery: Box<DueDelivery>,
    credentials: Credentials,
}

/// The reason why an owed request is not made.
pub(super) enum NotPrepared {
    /// This process does not have the master key of the subscription.
    NoKey,
    /// The request can never be made, for this reason.
    Never(String),
}

/// Makes the requests of one dispatcher.
pub(super) struct RequestSender {
    pub(super) dispatcher: Dispatcher,
    pub(super) dead_letters: DeadLettering,
    pub(super) requester: Requester,
    pub(super) recorder: Recorder,
    pub(super) in_flight: TaskTracker,
    pub(super) late: CancellationToken,
}

impl PreparedRequest {
    pub(super) fn event(&self) -> EventKey {
        self.delivery.event
    }
}

impl RequestSender {
    /// Prepares a request, or returns why it cannot be made now.
    pub(super) fn prepare(
        &self,
        delivery: Box<DueDelivery>,
    ) -> Result<PreparedRequest, NotPrepared> {
        match self.dispatcher.store.open(&delivery.sealed) {
            Ok(credentials) => Ok(PreparedRequest {
                delivery,
                credentials,
            }),
            // Another start of this service may have the key. The delivery uses up no attempt.
            Err(why @ DecryptError::UnknownKey(_)) => {
                tracing::error!(
                    subscription.id = %delivery.subscription,
                    error = %why,
                    "deferred delivery: its secret or headers cannot be decrypted"
                );
                Err(NotPrepared::NoKey)
            }
            Err(why @ DecryptError::Broken) => Err(NotPrepared::Never(format!(
                "its secret or a header cannot be opened: {why}"
            ))),
        }
    }

    /// Makes these attempts concurrently; each ends at the recorder.
    pub(super) fn send_all(
        &self,
        attempts: Vec<(InHand, PreparedRequest, Slot)>,
        bodies: &HashMap<EventKey, EventPayload>,
    ) {
        for (in_hand, request, mut slot) in attempts {
            let Some(body) = bodies.get(&request.event()).cloned() else {
                self.dead_letters
                    .begin(in_hand, "its event is gone".to_owned());
                continue;
            };
            let (requester, recorder) = (self.requester.clone(), self.recorder.clone());
            let policy = Arc::clone(&self.dispatcher.policy);
            let late = self.late.clone();
            in_hand.begin_request(hookline_clock::now().after(policy.deadline));
            self.in_flight.spawn(panics::fatal("attempt", async move {
                let task = in_hand.task;
                failpoint::point_of("dispatcher::attempt", task.delivery);
                let record = tokio::select! {
                    record = attempt(&requester, &policy, task, request, body) => record,
                    () = late.cancelled() => return abandon(&in_hand),
                };
                failpoint::point("dispatcher::requested");
                slot.finish = Some(Finish {
                    took: record.took,
                    health: ReceiverHealth::from(&record.outcome),
                });
                let outcome = DeliveryOutcome::Attempted(Box::new(record));
                // The slot is free once the recorder has room for the outcome: a store that records less than the
                // receivers answer slows the requests down.
                let room = recorder.reserve().await;
                drop(slot);
                room.send(in_hand, outcome);
            }));
        }
    }
}

/// Abandons a request: the process ends before the receiver has responded. Whether the receiver got the request is not
/// known. The delivery stays due, and the next owner makes the request again.
fn abandon(in_hand: &InHand) {
    let task = in_hand.task;
    tracing::warn!(
        delivery.id = %task.delivery,
        attempt.number = task.attempt,
        subscription.id = %task.subscription,
        "abandoned request at shutdown; the next owner repeats it"
    );
}

async fn attempt(
    requester: &Requester,
    policy: &Policy,
    task: AttemptTask,
    request: PreparedRequest,
    body: EventPayload,
) -> AttemptRecord {
    let PreparedRequest {
        delivery: found,
        credentials,
    } = request;
    let span = tracing::info_span!(
        "attempt",
        delivery.id = %task.delivery,
        attempt.number = task.attempt,
        subscription.id = %found.subscription,
    );
    if let Some(trace) = body.trace {
        continue_trace(&span, trace);
    }
    let started = hookline_clock::now();
    let clock = tokio::time::Instant::now();
    let FinishedRequest { outcome, log } = requester
        .send(WebhookRequest {
            delivery: task.delivery,
            attempt: task.attempt,
            event_type: found.event_type,
            url: &found.url,
            credentials: &credentials,
            trace: trace_of(&span).unwrap_or_else(|| uncollected(body.trace)),
            // Receivers compare the timestamp with the true time, whatever the store's clock says.
            now: Timestamp::from(SystemTime::now()),
            body: body.bytes,
        })
        .instrument(span.clone())
        .await;
    let took = clock.elapsed();
    let (kind, run) = (found.kind, found.run);
    let made = FinishedAttempt {
        outcome: &outcome,
        step: run.step(task.attempt),
        kind,
    };
    let next_step = match decide(made, &policy.schedule, rand::random_range(-1.0..=1.0)) {
        RetryDecision::Delivered => NextStep::Delivered,
        RetryDecision::Retry(wait) => NextStep::Retry {
            due: started.after(outcome.shown_duration(took)).after(wait),
        },
        RetryDecision::Exhausted(why) => NextStep::Exhausted(why),
    };
    AttemptRecord {
        task,
        kind,
        run,
        organization: found.organization,
        subscription: found.subscription,
        event: found.event,
        event_type: found.event_type,
        url: found.url,
        activation: found.activation,
        outcome,
        http: log,
        started,
        took,
        next_step,
    }
}

/// The trace without a collector: the publisher's trace in a new span, or a new trace.
fn uncollected(trace: Option<TraceParent>) -> TraceParent {
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
