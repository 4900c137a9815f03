//! Whose turn it is: a receiver that hangs must not take everybody's slots.
//!
//! Messages wait in one lane for each subscription, and lanes start requests in `turns`. How many
//! slots a lane may hold is a matter of `shares`: always so few that there is one for a lane that
//! has none. What hangs shows only after a while, so lanes whose requests take more than a second
//! are *slow* and get much less: all of them together at most half of the slots, which leaves the
//! others for the rest however many receivers hang. A receiver that fails again and again is left
//! alone by its `breaker`, but for one request now and then.
//!
//! What waits is bounded for each lane. The excess is handed back, to be put off for a while
//! (`parking`): behind it in the queue are messages of others.
//!
//! There is neither a clock nor a task in here: time is an argument.

mod breaker;
mod flights;
mod lane;
mod parking;
mod probe;
mod shares;
mod turns;
mod unanswered;

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

use hookline_core::ids::SubscriptionId;

pub use breaker::Verdict;
use breaker::{Admits, Role};
pub use flights::Ticket;
use flights::{Age, Flight, Flights};
use lane::{Lane, SLOW};
use parking::{ASKS_EVERY, Crowd};
pub use probe::Message;
use shares::Shares;
pub(crate) use shares::Totals;
pub use shares::{Group, Kin};
use turns::Turns;

/// How many lanes are remembered while nothing of them is here.
const REMEMBERED: usize = 4_096;

/// What a slow lane has too much of comes back no sooner than its turn could come, and no later
/// than this while there is little of it.
const SOON: Duration = Duration::from_secs(10);

/// How many slots there are, and for how many messages there is a place.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Requests in flight at once.
    pub slots: usize,
    /// Messages that may wait here.
    pub room: usize,
    /// Failures in a row that open a breaker.
    pub breaker_failures: u32,
}

/// A message that has to wait elsewhere.
#[derive(Debug)]
pub struct Excess<M> {
    /// What was to wait here.
    pub message: M,
    /// For how long, in whole seconds; longer the more of its lane were put off.
    pub delay: Duration,
}

/// What came of a request.
#[derive(Debug, Clone, Copy)]
pub struct Finish {
    /// How long the receiver took.
    pub took: Duration,
    /// What that says about it.
    pub verdict: Verdict,
    /// Whether it had been put off and came by itself, so that there may be more of its kind.
    pub was_parked: bool,
}

/// All lanes of a dispatcher.
pub struct Lanes<M> {
    breaker_failures: u32,
    lanes: HashMap<SubscriptionId, Lane<M>>,
    flights: Flights,
    shares: Shares,
    turns: Turns,
    excess: Vec<Excess<M>>,
    called_back: Vec<(SubscriptionId, u32)>,
    /// Which lanes are to ask for what was put off, and when; the first first.
    asking: VecDeque<(Instant, SubscriptionId)>,
}

impl<M: Message> Lanes<M> {
    /// Nothing is here and nothing is known of anybody.
    pub fn new(limits: Limits) -> Self {
        Self {
            breaker_failures: limits.breaker_failures,
            lanes: HashMap::new(),
            flights: Flights::new(),
            shares: Shares::new(limits.slots, limits.room),
            turns: Turns::new(),
            excess: Vec::new(),
            called_back: Vec::new(),
            asking: VecDeque::new(),
        }
    }

    /// How many more messages may come.
    pub fn room(&self) -> usize {
        self.shares.room()
    }

    /// How it stands, over all lanes.
    pub(crate) fn totals(&self) -> Totals {
        self.shares.all
    }

    /// Puts a message at the end of its lane; it may come out as excess at once.
    pub fn push(&mut self, to: SubscriptionId, kin: Kin, message: M, now: Instant) {
        self.change(to, kin, now, |lane| {
            lane.kin = kin;
            lane.waiting.push_back(message);
        });
        self.trim(to, now);
        if self.shares.is_room_exceeded() {
            self.put_off_last(to, now);
        }
    }

    /// Puts a message that somebody waits for before all others of its lane, even if its breaker is
    /// open.
    ///
    /// # Errors
    /// The message, if another one has this place.
    pub(crate) fn push_first(
        &mut self,
        to: SubscriptionId,
        kin: Kin,
        message: M,
        now: Instant,
    ) -> Result<(), M> {
        self.change(to, kin, now, |lane| match lane.first {
            Some(_) => Err(message),
            None => {
                lane.first = Some(message);
                Ok(())
            }
        })
    }

    /// The next message whose request may start, which holds a slot from now on.
    pub fn next(&mut self, now: Instant) -> Option<(Ticket, M)> {
        self.grow_older(now);
        self.ask(now);
        let (pace, subscription) = self.turns.paces().into_iter().find_map(|pace| {
            if !self.shares.may_any_start(pace) {
                return None;
            }
            let found = self.turns.find(pace, |one| self.may_start(one, now))?;
            Some((pace, found))
        })?;
        let (message, kin, role) = self.change_known(subscription, now, |lane| {
            let message = lane.pop()?;
            lane.in_flight += 1;
            lane.unanswered.start(now);
            let role = lane.breaker.started();
            if role == Role::Probe {
                lane.reservation = None;
            }
            Some((message, lane.kin, role))
        })??;
        self.shares.started(kin, now);
        self.turns.took(pace, kin.organization, subscription);
        // A breaker that lets one through lets no other follow.
        self.trim(subscription, now);
        let ticket = self.flights.start(Flight {
            subscription,
            kin,
            started: now,
            role,
        });
        Some((ticket, message))
    }

    /// Gives the slot back; none when no request was made.
    pub fn finished(&mut self, ticket: Ticket, finish: Option<Finish>, now: Instant) {
        let Some((flight, age)) = self.flights.end(ticket) else {
            return;
        };
        let limit = self.breaker_failures;
        let took = finish.map(|finish| finish.took);
        self.shares.over(flight.kin, took);
        let called_back = self.change_known(flight.subscription, now, |lane| {
            lane.in_flight -= 1;
            let was_well = !lane.is_slow();
            lane.old -= usize::from(age == Age::Old);
            let verdict = finish.map(|finish| finish.verdict);
            lane.breaker.over(flight.role, verdict, limit, now);
            lane.unanswered.over(took);
            lane.last_took = took.or(lane.last_took);
            if let Some(finish) = finish {
                if finish.was_parked {
                    lane.calendar.learn_of_more();
                }
                match finish.verdict {
                    Verdict::Well if was_well && !finish.was_parked => lane.calendar.delivered(),
                    Verdict::Well => lane.calendar.delivered_after_all(),
                    _ => lane.calendar.failed(),
                }
            }
            let has_place = lane.waiting.is_empty() && lane.breaker.is_closed();
            has_place.then(|| lane.calendar.call_back(now)).flatten()
        });
        if let Some(Some(count)) = called_back {
            self.called_back.push((flight.subscription, count));
        }
        self.plan_to_ask(flight.subscription, now);
        self.trim(flight.subscription, now);
    }

    /// Lanes that are well again, and how many of their messages that were put off may come now.
    pub fn take_called_back(&mut self) -> Vec<(SubscriptionId, u32)> {
        std::mem::take(&mut self.called_back)
    }

    /// Nothing of this lane was found that is put off.
    pub fn all_are_back(&mut self, subscription: SubscriptionId, now: Instant) {
        self.change_known(subscription, now, |lane| lane.calendar.close(now));
    }

    /// What has no place here any more.
    pub fn take_excess(&mut self) -> Vec<Excess<M>> {
        std::mem::take(&mut self.excess)
    }

    /// When a lane may become slow, if that matters to what waits, or asks for what was put off.
    pub fn next_change(&self) -> Option<Instant> {
        let young = self.flights.oldest_young();
        let young = young.filter(|_| self.shares.all.waiting > 0);
        let slow = young.map(|(_, flight)| flight.started + SLOW + Duration::from_millis(1));
        let asks = self.asking.front().map(|(at, _)| *at);
        slow.into_iter().chain(asks).min()
    }

    /// Notices the requests that take long.
    fn grow_older(&mut self, now: Instant) {
        while let Some(subscription) = self.flights.next_old(now) {
            self.change_known(subscription, now, |lane| lane.old += 1);
            self.trim(subscription, now);
        }
    }

    fn plan_to_ask(&mut self, subscription: SubscriptionId, now: Instant) {
        let lane = self.lanes.get_mut(&subscription);
        if lane.is_some_and(|lane| lane.begins_to_ask(now)) {
            self.asking.push_back((now + ASKS_EVERY, subscription));
        }
    }

    /// Calls back for lanes that have nothing to do.
    fn ask(&mut self, now: Instant) {
        while let Some((_, subscription)) = self.asking.pop_front_if(|(at, _)| *at <= now) {
            let asked = self.change_known(subscription, now, |lane| lane.ask(now));
            if let Some(Some(count)) = asked {
                self.called_back.push((subscription, count));
            }
            self.plan_to_ask(subscription, now);
        }
    }

    fn may_start(&self, subscription: SubscriptionId, now: Instant) -> bool {
        let lane = self.lanes.get(&subscription);
        lane.is_some_and(|lane| lane.is_admitted(now) && self.shares.may_start(lane))
    }

    /// Takes out what a lane has too much of, the newest first; if its breaker is open, those with
    /// the fewest attempts.
    fn trim(&mut self, subscription: SubscriptionId, now: Instant) {
        if let Some(lane) = self.lanes.get_mut(&subscription)
            && !lane.breaker.is_closed()
        {
            lane.sort_for_probe();
        }
        while let Some(lane) = self.lanes.get(&subscription)
            && !lane.waiting.is_empty()
            && (lane.waiting.len() > self.limit(lane, now)
                || lane.is_slow() && self.shares.is_slow_room_exceeded()
                || self.shares.is_room_of_origin_exceeded(lane.kin, now))
        {
            self.put_off_last(subscription, now);
        }
    }

    fn limit(&self, lane: &Lane<M>, now: Instant) -> usize {
        match lane.breaker.admits(now) {
            Admits::All => self.shares.limit(lane),
            Admits::One => usize::from(lane.has_probe(now)),
            Admits::Nobody => 0,
        }
    }

    fn put_off_last(&mut self, subscription: SubscriptionId, now: Instant) {
        let Some(lane) = self.lanes.get(&subscription) else {
            return;
        };
        let crowd = match lane.is_slow() || self.shares.hangs(lane.kin, now) {
            true => Crowd::Slow(self.shares.crowd(lane.kin)),
            false => Crowd::Fast,
        };
        let last = self.change_known(subscription, now, |lane| {
            let message = lane.waiting.pop_back()?;
            let delay = lane.reserve_probe(&message, now).unwrap_or_else(|| {
                let from = comes_back(lane, crowd, now);
                lane.calendar.put_off(from, crowd, now)
            });
            Some(Excess { message, delay })
        });
        self.excess.extend(last.flatten());
    }

    fn change_known<R>(
        &mut self,
        subscription: SubscriptionId,
        now: Instant,
        change: impl FnOnce(&mut Lane<M>) -> R,
    ) -> Option<R> {
        let kin = self.lanes.get(&subscription)?.kin;
        Some(self.change(subscription, kin, now, change))
    }

    /// Changes a lane and with it all that is said about lanes. One of which nothing is here and
    /// nothing is worth remembering takes no place.
    fn change<R>(
        &mut self,
        subscription: SubscriptionId,
        kin: Kin,
        now: Instant,
        change: impl FnOnce(&mut Lane<M>) -> R,
    ) -> R {
        let lane = self
            .lanes
            .entry(subscription)
            .or_insert_with(|| Lane::new(kin));
        let had_turn = lane.turn();
        let (kin_before, before) = (lane.kin, lane.totals());
        let result = change(lane);
        let has_turn = lane.turn();
        let (kin, after) = (lane.kin, lane.totals());
        let is_forgettable = lane.is_forgettable(now);
        self.shares.add(kin, after);
        self.shares.subtract(kin_before, before);
        if (had_turn, kin_before.organization) != (has_turn, kin.organization) {
            if let Some(pace) = had_turn {
                self.turns
                    .leave(pace, kin_before.organization, subscription);
            }
            if let Some(pace) = has_turn {
                self.turns.join(pace, kin.organization, subscription);
            }
        }
        if is_forgettable {
            self.lanes.remove(&subscription);
        } else if self.lanes.len() > self.shares.all.active + REMEMBERED {
            for (_, lane) in self.lanes.extract_if(|_, lane| !lane.is_active()) {
                self.shares.subtract(lane.kin, lane.totals());
            }
        }
        result
    }
}

/// Before when it is of no use that a message comes again.
fn comes_back<M>(lane: &Lane<M>, crowd: Crowd, now: Instant) -> Instant {
    if let Some(opens_again) = lane.breaker.opens_again(now) {
        return opens_again;
    }
    match crowd {
        Crowd::Slow(_) => now + (4 * lane.last_took.unwrap_or(SLOW).max(SLOW)).min(SOON),
        Crowd::Fast => now,
    }
}

#[cfg(test)]
mod tests;
