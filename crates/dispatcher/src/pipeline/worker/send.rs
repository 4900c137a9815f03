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
use hookline_runtime::retry::RetryOutcome;
use hookline_runtime::telemetry::{continue_trace, trace_of};
use hookline_store::{
    AttemptRecord, Credentials, DecryptError, DueDelivery, EventPayload, NextStep,
};
use tracing::Instrument as _;

use super::Worker;
use super::slot::Slot;
use crate::context::Policy;
use crate::due::InHand;
use crate::http::attempt::{Request, Requester};
use crate::pipeline::record::{Disposition, Finished};
use crate::scheduler::{Finish, Health};

/// All parts of a request except its body.
pub(super) struct Ready {
    owed: Box<DueDelivery>,
    credentials: Credentials,
}

/// The reason why an owed request is not made.
pub(super) enum Unready {
    /// This process does not have the master key of the subscription.
    NoKey,
    /// The request can never be made, for this reason.
    Ever(String),
}

impl Worker {
    /// Prepares a request, or returns why it cannot be made now.
    pub(super) fn ready(&self, owed: Box<DueDelivery>) -> Result<Ready, Unready> {
        match self.dispatcher.store.open(&owed.sealed) {
            Ok(credentials) => Ok(Ready { owed, credentials }),
            // Another start of this service may have the key. The delivery uses up no attempt.
            Err(why @ DecryptError::UnknownKey(_)) => {
                tracing::error!(
                    subscription.id = %owed.subscription,
                    error = %why,
                    "put off a delivery whose secret or headers cannot be opened"
                );
                Err(Unready::NoKey)
            }
            Err(why @ DecryptError::Broken) => Err(Unready::Ever(format!(
                "its secret or a header cannot be opened: {why}"
            ))),
        }
    }

    /// Makes these attempts concurrently; each ends at the recorder. `at_hand` holds the bodies that are loaded
    /// already.
    pub(super) async fn attempt_all(
        &self,
        attempts: Vec<(InHand, Ready, Slot)>,
        at_hand: HashMap<EventKey, EventPayload>,
    ) {
        let keys = attempts
            .iter()
            .map(|(_, ready, _)| ready.owed.event)
            .collect();
        let bodies = match self.bodies(keys, at_hand).await {
            RetryOutcome::Done(bodies) => bodies,
            ended => {
                let deliveries = attempts.into_iter().map(|(in_hand, ..)| in_hand).collect();
                return self.loads.apart(deliveries, &ended);
            }
        };
        for (in_hand, ready, mut slot) in attempts {
            let Some(body) = bodies.get(&ready.owed.event).cloned() else {
                self.aside.begin(in_hand, "its event is gone".to_owned());
                continue;
            };
            let (requester, recorder) = (self.requester.clone(), self.recorder.clone());
            let policy = Arc::clone(&self.dispatcher.policy);
            let late = self.late.clone();
            in_hand.begin_request(hookline_clock::now().after(policy.deadline));
            self.in_flight.spawn(panics::fatal("attempt", async move {
                let asked = in_hand.owed;
                failpoint::point_of("dispatcher::attempt", asked.delivery);
                let record = tokio::select! {
                    record = attempt(&requester, &policy, asked, ready, body) => record,
                    () = late.cancelled() => return abandon(&in_hand),
                };
                failpoint::point("dispatcher::requested");
                // A slot is free once its request is over; the recorder has bounds of its own.
                slot.finish = Some(Finish {
                    took: record.took,
                    verdict: Health::from(&record.outcome),
                });
                drop(slot);
                let result = Disposition::Attempted(Box::new(record));
                recorder.send(Finished { in_hand, result }).await;
            }));
        }
    }
}

/// Abandons a request: the process ends before the receiver has responded. Whether the receiver got the request is not
/// known. The delivery stays due, and the next owner makes the request again.
fn abandon(in_hand: &InHand) {
    let asked = in_hand.owed;
    tracing::warn!(
        delivery.id = %asked.delivery,
        attempt.number = asked.attempt,
        subscription.id = %asked.subscription,
        "gave up a request whose receiver had not answered in time; it is made again"
    );
}

async fn attempt(
    requester: &Requester,
    policy: &Policy,
    owed: AttemptTask,
    ready: Ready,
    body: EventPayload,
) -> AttemptRecord {
    let Ready {
        owed: found,
        credentials,
    } = ready;
    let span = tracing::info_span!(
        "attempt",
        delivery.id = %owed.delivery,
        attempt.number = owed.attempt,
        subscription.id = %found.subscription,
    );
    if let Some(trace) = body.trace {
        continue_trace(&span, trace);
    }
    let started = hookline_clock::now();
    let clock = tokio::time::Instant::now();
    let outcome = requester
        .send(Request {
            delivery: owed.delivery,
            attempt: owed.attempt,
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
    let (origin, run) = (found.origin, found.run);
    let made = FinishedAttempt {
        outcome: &outcome,
        step: run.step(owed.attempt),
        origin,
    };
    let follow = match decide(made, &policy.schedule, rand::random_range(-1.0..=1.0)) {
        RetryDecision::Delivered => NextStep::Delivered,
        RetryDecision::Retry(wait) => NextStep::Retry {
            due: started.after(took).after(wait),
        },
        RetryDecision::Exhausted(why) => NextStep::Exhausted(why),
    };
    AttemptRecord {
        owed,
        origin,
        run,
        organization: found.organization,
        subscription: found.subscription,
        event: found.event,
        event_type: found.event_type,
        url: found.url,
        activation: found.activation,
        outcome,
        started,
        took,
        follow,
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
