//! What the store says of deliveries, and what follows from it. What a message means when its turn
//! comes is decided as `hookline_dispatcher` does: it is attempted if it is owed and due, put off
//! for what is left of its delay if it is early, and dropped if another one has done it.

use std::time::Duration;

use hookline_core::delivery::Origin;
use hookline_core::ids::SubscriptionId;
use hookline_core::outcome::{self, Failure, FailureKind, Outcome};
use hookline_core::retry::{Made, Next, after};
use rand::RngExt as _;

use super::{State, World, millis, number};
use crate::simulation::agenda::{Answer, Event, Owed, rest};
use crate::simulation::desk::Held;
use crate::simulation::scene::{DEADLINE, Kind};

/// From where on a message is early, in milliseconds.
const EARLY: u32 = 1_000;

impl World<'_> {
    /// How long it is still to wait, if it is owed; none if another message has done it.
    fn early(&self, owed: Owed) -> Option<u32> {
        let delivery = &self.deliveries[owed.delivery as usize];
        let is_owed = delivery.state != State::Ended && delivery.attempts + 1 == owed.attempt;
        is_owed.then(|| delivery.due.saturating_sub(self.now))
    }

    /// A message has a slot: its request starts, or the slot is given back.
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
            _ => (Answer::Well, endpoint.takes),
        }
    }

    /// Writes down what came of a request, and hands on what follows.
    pub(super) fn record(&mut self, owed: Owed, outcome: &Outcome) {
        if self.early(owed).is_none() {
            self.tally.twice();
            return;
        }
        let made = Made {
            outcome,
            step: owed.attempt.into(),
            origin: Origin::Event,
        };
        let jitter = self.chance.random_range(-1.0..=1.0);
        let delivery = &mut self.deliveries[owed.delivery as usize];
        delivery.attempts += 1;
        delivery.is_parked = false;
        match after(made, &self.schedule, jitter) {
            Next::Again(wait) => {
                delivery.due = self.now + millis(wait);
                let attempt = owed.attempt + 1;
                self.back_in(Owed { attempt, ..owed }, wait);
            }
            next => {
                delivery.state = State::Ended;
                self.tally.ended(delivery.endpoint.into(), next);
            }
        }
    }

    pub(super) fn put_off(&mut self, dispatcher: usize, owed: Owed, delay: Duration) {
        match self.early(owed) {
            None => {}
            Some(early) if early >= EARLY => {
                self.back_in(owed, Duration::from_millis(early.into()));
            }
            Some(_) => {
                let due = self.now + millis(delay);
                let delivery = &mut self.deliveries[owed.delivery as usize];
                delivery.due = due;
                delivery.is_parked = true;
                let rest = self.resting.entry(owed.subscription()).or_default();
                rest.insert((due, owed.delivery), owed);
                self.tally.put_off(dispatcher);
                self.back_in(owed, delay);
            }
        }
    }

    fn back_in(&mut self, owed: Owed, delay: Duration) {
        let at = self.now + rest(delay).max(1);
        self.agenda.enter(at, Event::Back(owed));
    }

    /// What is called back leaves its message in the delays, which finds nothing to do.
    pub(super) fn call_back(
        &mut self,
        dispatcher: usize,
        subscription: SubscriptionId,
        count: u32,
    ) {
        let mut found = Vec::new();
        if let Some(mut resting) = self.resting.remove(&subscription) {
            // What is due by now comes by itself, or has come.
            resting = resting.split_off(&(self.now + 1, 0));
            while found.len() < count as usize
                && let Some((_, owed)) = resting.pop_first()
            {
                // What was put off again since stands there once more, and what was attempted waits
                // for its schedule.
                let is_parked = self.deliveries[owed.delivery as usize].is_parked;
                if is_parked && self.early(owed).is_some_and(|early| early > 0) {
                    found.push(owed);
                }
            }
            self.resting.insert(subscription, resting);
        }
        self.tally.called_back(found.len());
        if found.is_empty() {
            let now = self.instant();
            self.desks[dispatcher].all_are_back(subscription, now);
        }
        for owed in found {
            let delivery = &mut self.deliveries[owed.delivery as usize];
            delivery.due = self.now;
            delivery.is_parked = false;
            self.queue.push_back(owed);
        }
    }
}

pub(super) fn outcome_of(answer: Answer) -> Outcome {
    let kind = match answer {
        Answer::Well => {
            return Outcome::Answered(outcome::Answer {
                status: 204,
                body: String::new(),
                retry_after: None,
                location: None,
            });
        }
        Answer::TimedOut => FailureKind::Timeout,
        Answer::Refused => FailureKind::Connect,
    };
    Outcome::Failed(Failure {
        kind,
        message: String::new(),
        status: None,
    })
}
