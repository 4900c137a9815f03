//! The simulated store: deliveries and their backlogs.
//!
//! A message with a slot is treated as in `hookline_dispatcher`. An owed and due message is attempted. An early message
//! is delayed for the rest of its wait. A message is dropped if another one has made the attempt.

use std::ops::Bound;
use std::time::Duration;

use hookline_core::delivery::Origin;
use hookline_core::ids::DeliveryId;
use hookline_core::outcome::{self, AttemptOutcome, FailureKind, RequestFailure};
use hookline_core::retry::{FinishedAttempt, RetryDecision, decide};
use hookline_core::timestamp::Timestamp;
use hookline_dispatcher::scheduler::SearchResult;
use hookline_store::BacklogPosition;
use rand::RngExt as _;
use uuid::Uuid;

use super::{State, World, millis, number};
use crate::simulation::agenda::{Answer, Event, Owed, rest};
use crate::simulation::desk::Held;
use crate::simulation::scene::{DEADLINE, Kind};

/// A message is early if its delivery is due in this many milliseconds or later.
const EARLY: u32 = 1_000;

/// The pause between two searches of backlogs by a dispatcher, in milliseconds.
const PAUSE: u32 = 50;

impl World<'_> {
    /// Milliseconds until an owed attempt is due. None if another message has made the attempt.
    fn early(&self, owed: Owed) -> Option<u32> {
        let delivery = &self.deliveries[owed.delivery as usize];
        let is_owed = delivery.state != State::Ended && delivery.attempts + 1 == owed.attempt;
        is_owed.then(|| delivery.due.saturating_sub(self.now))
    }

    /// Starts the request of a message that got a slot, or releases the slot.
    pub(super) fn take_turn(&mut self, dispatcher: usize, held: Held, owed: Owed) {
        let early = self.early(owed);
        if early.is_none_or(|early| early >= EARLY) {
            let now = self.instant();
            self.desks[dispatcher].finished(held, None, now);
            self.tally.left();
            if let Some(early) = early {
                self.back_in(owed, Duration::from_millis(early.into()));
            }
            return;
        }
        let delivery = &mut self.deliveries[owed.delivery as usize];
        if delivery.state == State::Untried {
            delivery.state = State::Tried;
            self.tally
                .waited(owed.endpoint.into(), delivery.published, self.now);
        }
        self.tally.started(owed.endpoint.into());
        let (answer, took) = self.ask(owed.endpoint.into());
        let over = Event::Over {
            dispatcher: number(dispatcher),
            held,
            owed,
            answer,
            took: u16::try_from(took.as_millis()).unwrap_or(u16::MAX),
        };
        self.agenda.enter(self.now + millis(took), over);
    }

    fn ask(&self, endpoint: usize) -> (Answer, Duration) {
        let endpoint = self.endpoints[endpoint];
        let is_ill = (millis(self.scene.ill.start)..millis(self.scene.ill.end)).contains(&self.now);
        match endpoint.kind {
            Kind::Hanging | Kind::Tenant if is_ill => (Answer::TimedOut, DEADLINE),
            Kind::Dead if is_ill => (Answer::Refused, endpoint.takes),
            _ => (Answer::Healthy, endpoint.takes),
        }
    }

    /// Records the outcome of a request, and schedules the retry if there is one.
    pub(super) fn record(&mut self, owed: Owed, outcome: &AttemptOutcome) {
        if self.early(owed).is_none() {
            self.tally.twice();
            return;
        }
        let made = FinishedAttempt {
            outcome,
            step: owed.attempt.into(),
            origin: Origin::Event,
        };
        let jitter = self.chance.random_range(-1.0..=1.0);
        self.unmark(owed);
        let delivery = &mut self.deliveries[owed.delivery as usize];
        delivery.attempts += 1;
        match decide(made, &self.schedule, jitter) {
            RetryDecision::Retry(wait) => {
                delivery.due = self.now + millis(wait);
                let attempt = owed.attempt + 1;
                let is_marked = false;
                self.back_in(
                    Owed {
                        attempt,
                        is_marked,
                        ..owed
                    },
                    wait,
                );
            }
            next => {
                delivery.state = State::Ended;
                self.tally.ended(delivery.endpoint.into(), next);
            }
        }
    }

    /// Marks an owed and due message as backlog. A message that was read from the backlog is still there. An early
    /// message is delayed.
    pub(super) fn mark(&mut self, dispatcher: usize, owed: Owed) {
        self.in_hand.remove(&owed.delivery);
        match self.early(owed) {
            Some(early) if early >= EARLY => {
                self.back_in(owed, Duration::from_millis(early.into()));
            }
            Some(_) if !owed.is_marked => {
                let due = self.deliveries[owed.delivery as usize].due;
                let backlog = self.backlog.entry(owed.subscription()).or_default();
                backlog.insert((due, owed.delivery), owed);
                self.tally.marked(dispatcher);
            }
            _ => {}
        }
    }

    fn unmark(&mut self, owed: Owed) {
        self.in_hand.remove(&owed.delivery);
        let due = self.deliveries[owed.delivery as usize].due;
        if let Some(backlog) = self.backlog.get_mut(&owed.subscription()) {
            backlog.remove(&(due, owed.delivery));
        }
    }

    /// Answers the backlog searches of a dispatcher, and returns whether there were any.
    pub(super) fn read(&mut self, dispatcher: usize) -> bool {
        let now = self.instant();
        let reads = self.desks[dispatcher].take_reads(now);
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
                .map(|(key, owed)| (*key, *owed))
                .collect();
            let mut result = SearchResult {
                found: rows.len(),
                new: 0,
                last: rows.last().map(|(key, _)| position(*key)),
            };
            for (_, owed) in rows {
                if !self.in_hand.insert(owed.delivery) {
                    continue;
                }
                result.new += 1;
                let is_marked = true;
                let kin = self.endpoints[usize::from(owed.endpoint)].kin;
                self.desks[dispatcher].push(kin, Owed { is_marked, ..owed }, now);
                self.tally.came();
            }
            self.tally.searched(result.new);
            self.desks[dispatcher].read(*read, result);
        }
        !reads.is_empty()
    }

    fn back_in(&mut self, owed: Owed, delay: Duration) {
        let at = self.now + rest(delay).max(1);
        self.agenda.enter(at, Event::Back(owed));
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

pub(super) fn outcome_of(answer: Answer) -> AttemptOutcome {
    let kind = match answer {
        Answer::Healthy => {
            return AttemptOutcome::Answered(outcome::ReceiverResponse {
                status: 204,
                body: String::new(),
                retry_after: None,
                location: None,
            });
        }
        Answer::TimedOut => FailureKind::Timeout,
        Answer::Refused => FailureKind::Connect,
    };
    AttemptOutcome::Failed(RequestFailure {
        kind,
        message: String::new(),
        status: None,
    })
}
