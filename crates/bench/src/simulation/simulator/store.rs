//! The simulated store: deliveries and their backlogs.
//!
//! A message with a slot is treated as in `hookline_dispatcher`. An owed and due message is attempted. An early message
//! is delayed for the rest of its wait. A message is dropped if another one has made the attempt.

use std::ops::Bound;
use std::time::Duration;

use hookline_core::delivery::DeliveryKind;
use hookline_core::ids::DeliveryId;
use hookline_core::outcome::{self, AttemptOutcome, FailureKind, RequestFailure};
use hookline_core::retry::{FinishedAttempt, RetryDecision, decide};
use hookline_core::timestamp::Timestamp;
use hookline_dispatcher::scheduler::SearchResult;
use hookline_store::BacklogPosition;
use rand::RngExt as _;
use uuid::Uuid;

use super::{DeliveryProgress, Simulator, millis, number};
use crate::simulation::dispatcher_model::RequestPermit;
use crate::simulation::event_queue::{EndpointAnswer, SimulationEvent, rest};
use crate::simulation::message::DueMessage;
use crate::simulation::scenario::{DEADLINE, EndpointKind};

/// A message is early if its delivery is due in this many milliseconds or later.
const EARLY: u32 = 1_000;

/// The pause between two searches of backlogs by a dispatcher, in milliseconds.
const PAUSE: u32 = 50;

impl Simulator<'_> {
    /// Milliseconds until an owed attempt is due. None if another message has made the attempt.
    fn early(&self, message: DueMessage) -> Option<u32> {
        let delivery = &self.deliveries[message.delivery as usize];
        let is_owed =
            delivery.state != DeliveryProgress::Ended && delivery.attempts + 1 == message.attempt;
        is_owed.then(|| delivery.due.saturating_sub(self.now))
    }

    /// Starts the request of a message that got a slot, or releases the slot.
    pub(super) fn take_turn(
        &mut self,
        dispatcher: usize,
        permit: RequestPermit,
        message: DueMessage,
    ) {
        let early = self.early(message);
        if early.is_none_or(|early| early >= EARLY) {
            let now = self.instant();
            self.dispatchers[dispatcher].finished(permit, None, now);
            self.stats.left();
            if let Some(early) = early {
                self.back_in(message, Duration::from_millis(early.into()));
            }
            return;
        }
        let delivery = &mut self.deliveries[message.delivery as usize];
        if delivery.state == DeliveryProgress::Untried {
            delivery.state = DeliveryProgress::Tried;
            self.stats
                .waited(message.endpoint.into(), delivery.published, self.now);
        }
        self.stats.started(message.endpoint.into());
        let (answer, took) = self.ask(message.endpoint.into());
        let over = SimulationEvent::Over {
            dispatcher: number(dispatcher),
            permit,
            message,
            answer,
            took: u16::try_from(took.as_millis()).unwrap_or(u16::MAX),
        };
        self.event_queue.enter(self.now + millis(took), over);
    }

    fn ask(&self, endpoint: usize) -> (EndpointAnswer, Duration) {
        let endpoint = self.endpoints[endpoint];
        let is_ill = (millis(self.scenario.outage.start)..millis(self.scenario.outage.end))
            .contains(&self.now);
        match endpoint.kind {
            EndpointKind::Hanging | EndpointKind::Tenant if is_ill => {
                (EndpointAnswer::TimedOut, DEADLINE)
            }
            EndpointKind::Dead if is_ill => (EndpointAnswer::Refused, endpoint.takes),
            _ => (EndpointAnswer::Healthy, endpoint.takes),
        }
    }

    /// Records the outcome of a request, and schedules the retry if there is one.
    pub(super) fn record(&mut self, message: DueMessage, outcome: &AttemptOutcome) {
        if self.early(message).is_none() {
            self.stats.twice();
            return;
        }
        let made = FinishedAttempt {
            outcome,
            step: message.attempt.into(),
            kind: DeliveryKind::Event,
        };
        let jitter = self.rng.random_range(-1.0..=1.0);
        self.unmark(message);
        let delivery = &mut self.deliveries[message.delivery as usize];
        delivery.attempts += 1;
        match decide(made, &self.schedule, jitter) {
            RetryDecision::Retry(wait) => {
                delivery.due = self.now + millis(wait);
                let attempt = message.attempt + 1;
                let is_marked = false;
                self.back_in(
                    DueMessage {
                        attempt,
                        is_marked,
                        ..message
                    },
                    wait,
                );
            }
            next => {
                delivery.state = DeliveryProgress::Ended;
                self.stats.ended(delivery.endpoint.into(), next);
            }
        }
    }

    /// Marks an owed and due message as backlog. A message that was read from the backlog is still there. An early
    /// message is delayed.
    pub(super) fn mark(&mut self, dispatcher: usize, message: DueMessage) {
        self.in_hand.remove(&message.delivery);
        match self.early(message) {
            Some(early) if early >= EARLY => {
                self.back_in(message, Duration::from_millis(early.into()));
            }
            Some(_) if !message.is_marked => {
                let due = self.deliveries[message.delivery as usize].due;
                let backlog = self.backlog.entry(message.subscription()).or_default();
                backlog.insert((due, message.delivery), message);
                self.stats.marked(dispatcher);
            }
            _ => {}
        }
    }

    fn unmark(&mut self, message: DueMessage) {
        self.in_hand.remove(&message.delivery);
        let due = self.deliveries[message.delivery as usize].due;
        if let Some(backlog) = self.backlog.get_mut(&message.subscription()) {
            backlog.remove(&(due, message.delivery));
        }
    }

    /// Answers the backlog searches of a dispatcher, and returns whether there were any.
    pub(super) fn read(&mut self, dispatcher: usize) -> bool {
        let now = self.instant();
        let reads = self.dispatchers[dispatcher].take_reads(now);
        if !reads.is_empty() {
            self.reads_from[dispatcher] = self.now + PAUSE;
        }
        for read in &reads {
            let after = read.after.map_or((0, 0), key_of);
            let from = match read.after {
                Some(_) => Bound::Excluded(after),
                None => Bound::Unbounded,
            };
            let backlog = self.backlog.get(&read.subscription);
            let rows: Vec<_> = backlog
                .map(|rows| rows.range((from, Bound::Unbounded)).take(read.limit))
                .into_iter()
                .flatten()
                .map(|(key, message)| (*key, *message))
                .collect();
            let mut result = SearchResult {
                found: rows.len(),
                new: 0,
                last: rows.last().map(|(key, _)| position(*key)),
            };
            for (_, message) in rows {
                if !self.in_hand.insert(message.delivery) {
                    continue;
                }
                result.new += 1;
                let is_marked = true;
                let share_groups = self.endpoints[usize::from(message.endpoint)].share_groups;
                self.dispatchers[dispatcher].push(
                    share_groups,
                    DueMessage {
                        is_marked,
                        ..message
                    },
                    now,
                );
                self.stats.count_arrival();
            }
            self.stats.searched(result.new);
            self.dispatchers[dispatcher].read(*read, result);
        }
        !reads.is_empty()
    }

    fn back_in(&mut self, message: DueMessage, delay: Duration) {
        let at = self.now + rest(delay).max(1);
        self.event_queue.enter(at, SimulationEvent::Back(message));
    }
}

fn position((due, delivery): (u32, u32)) -> BacklogPosition {
    BacklogPosition {
        due: Timestamp::from_unix_micros(due.into()),
        delivery: DeliveryId(Uuid::from_u128(delivery.into())),
    }
}

fn key_of(position: BacklogPosition) -> (u32, u32) {
    let number = |wide: u128| u32::try_from(wide).unwrap_or(u32::MAX);
    let due = u128::try_from(position.due.unix_micros()).unwrap_or_default();
    (number(due), number(position.delivery.0.as_u128()))
}

pub(super) fn outcome_of(answer: EndpointAnswer) -> AttemptOutcome {
    let kind = match answer {
        EndpointAnswer::Healthy => {
            return AttemptOutcome::Answered(outcome::ReceiverResponse {
                status: 204,
                body: String::new(),
                retry_after: None,
                location: None,
            });
        }
        EndpointAnswer::TimedOut => FailureKind::Timeout,
        EndpointAnswer::Refused => FailureKind::Connect,
    };
    AttemptOutcome::Failed(RequestFailure {
        kind,
        message: String::new(),
        status: None,
    })
}
