//! One subscription's lane: what waits in it and what is known of its receiver.

use std::cmp::Reverse;
use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::breaker::{Admits, Breaker};
use super::parking::{Calendar, whole_seconds};
use super::probe::{Message, Reservation};
use super::shares::{Kin, Totals};
use super::unanswered::Unanswered;

/// A lane is slow while a request of it takes longer, and until one has been faster.
pub(super) const SLOW: Duration = Duration::from_secs(1);

/// A lane this quick empties whatever waits in it before others notice.
const QUICK: Duration = Duration::from_millis(100);

pub(super) struct Lane<M> {
    pub(super) kin: Kin,
    /// What somebody waits for, before all others; one at most.
    pub(super) first: Option<M>,
    pub(super) waiting: VecDeque<M>,
    pub(super) in_flight: usize,
    /// How many of these have been in flight for longer than [`SLOW`].
    pub(super) old: usize,
    pub(super) last_took: Option<Duration>,
    pub(super) unanswered: Unanswered,
    pub(super) breaker: Breaker,
    /// Who is to be the next probe.
    pub(super) reservation: Option<Reservation>,
    /// When what was put off comes back.
    pub(super) calendar: Calendar,
    /// Whether a time is planned at which it asks for that.
    is_asking: bool,
}

/// Which of the two sorts of turns a lane takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pace {
    Fast,
    Slow,
}

impl Pace {
    pub(super) fn other(self) -> Self {
        match self {
            Pace::Fast => Pace::Slow,
            Pace::Slow => Pace::Fast,
        }
    }
}

impl<M> Lane<M> {
    pub(super) fn new(kin: Kin) -> Self {
        Self {
            kin,
            first: None,
            waiting: VecDeque::new(),
            in_flight: 0,
            old: 0,
            last_took: None,
            unanswered: Unanswered::default(),
            breaker: Breaker::NEW,
            reservation: None,
            calendar: Calendar::default(),
            is_asking: false,
        }
    }

    /// One with an open breaker is as good as slow: what it is given waits for nothing.
    pub(super) fn is_slow(&self) -> bool {
        self.old > 0 || self.last_took.is_some_and(|took| took > SLOW) || !self.breaker.is_closed()
    }

    pub(super) fn is_quick(&self) -> bool {
        !self.is_slow() && self.last_took.is_some_and(|took| took <= QUICK)
    }

    /// Whether nothing is known against its receiver.
    fn is_well(&self) -> bool {
        !self.is_slow() && self.breaker == Breaker::NEW
    }

    /// Whether a time is to be planned at which it asks for what was put off. It is remembered then.
    pub(super) fn begins_to_ask(&mut self, now: Instant) -> bool {
        let begins = !self.is_asking && self.is_well() && self.calendar.may_have_more(now);
        self.is_asking |= begins;
        begins
    }

    /// How many to call back now that this time has come, if it has nothing else to do.
    pub(super) fn ask(&mut self, now: Instant) -> Option<u32> {
        self.is_asking = false;
        let has_nothing_to_do = self.is_well() && !self.is_active();
        has_nothing_to_do.then(|| self.calendar.ask(now)).flatten()
    }

    pub(super) fn is_active(&self) -> bool {
        self.in_flight > 0 || self.has_waiting()
    }

    /// Whether there is nothing about it that is worth a place in memory.
    pub(super) fn is_forgettable(&self, now: Instant) -> bool {
        !self.is_active()
            && self.is_well()
            && !self.calendar.reaches_beyond(now)
            && !self.calendar.may_have_more(now)
    }

    fn has_waiting(&self) -> bool {
        self.first.is_some() || !self.waiting.is_empty()
    }

    /// None when nothing waits.
    pub(super) fn turn(&self) -> Option<Pace> {
        self.has_waiting().then(|| match self.is_slow() {
            true => Pace::Slow,
            false => Pace::Fast,
        })
    }

    /// Whether its breaker lets the next message start. What somebody waits for may be the probe
    /// before its time.
    pub(super) fn is_admitted(&self, now: Instant) -> bool {
        let early_probe = self.first.is_some() && matches!(self.breaker, Breaker::Open { .. });
        early_probe || self.breaker.admits(now) != Admits::Nobody
    }

    pub(super) fn pop(&mut self) -> Option<M> {
        self.first.take().or_else(|| self.waiting.pop_front())
    }

    pub(super) fn totals(&self) -> Totals {
        let waiting = self.waiting.len() + usize::from(self.first.is_some());
        let slow = usize::from(self.is_slow());
        Totals {
            waiting,
            slow_waiting: slow * waiting,
            in_flight: self.in_flight,
            slow_in_flight: slow * self.in_flight,
            active: usize::from(self.is_active()),
            slow,
            open: usize::from(!self.breaker.is_closed()),
        }
    }
}

impl<M: Message> Lane<M> {
    /// The last is put off first, so this leaves the one that is to be the probe.
    pub(super) fn sort_for_probe(&mut self) {
        let waiting = self.waiting.make_contiguous();
        waiting.sort_by_key(|message| Reverse(message.attempt()));
    }

    pub(super) fn has_probe(&self, now: Instant) -> bool {
        let admits = |first: &M| {
            let reservation = self.reservation.as_ref();
            reservation.is_none_or(|reservation| reservation.admits(first.attempt(), now))
        };
        self.waiting.front().is_some_and(admits)
    }

    /// Keeps the place of the next probe for a message that is put off, if it has most attempts;
    /// answers with its delay then.
    pub(super) fn reserve_probe(&mut self, message: &M, now: Instant) -> Option<Duration> {
        let opens_again = self.breaker.opens_again(now).filter(|at| *at > now)?;
        let attempt = message.attempt();
        if let Some(reservation) = self.reservation
            && !reservation.yields_to(attempt, now)
        {
            return None;
        }
        let delay = whole_seconds(opens_again, now);
        self.reservation = Some(Reservation::new(attempt, now + delay));
        Some(delay)
    }
}
