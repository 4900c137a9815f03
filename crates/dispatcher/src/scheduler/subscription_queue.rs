//! One subscription's lane: what waits in it and what is known of its receiver.

use std::cmp::Reverse;
use std::collections::VecDeque;
use std::time::{Duration, Instant};

use hookline_store::BacklogClass;

use super::backlog::Backlog;
use super::bulkhead::{ShareGroups, Totals};
use super::circuit_breaker::{Admits, CircuitBreaker};
use super::message::Message;
use super::slow_start::SlowStart;

/// A lane is slow while a request of it takes longer, and until one has been faster.
pub(super) const SLOW: Duration = Duration::from_secs(1);

/// A lane this quick empties whatever waits in it before others notice.
const QUICK: Duration = Duration::from_millis(100);

/// So many others start between two of a replay, where both wait.
const BETWEEN_REPLAYED: u32 = 3;

pub(super) struct SubscriptionQueue<M> {
    pub(super) kin: ShareGroups,
    /// What somebody waits for, before all others.
    pub(super) first: VecDeque<M>,
    waiting: VecDeque<M>,
    /// Those of replays: nothing waits behind them.
    replayed: VecDeque<M>,
    /// How many of both were read from the backlog.
    from_backlog: usize,
    since_replayed: u32,
    pub(super) in_flight: usize,
    /// How many of these have been in flight for longer than [`SLOW`].
    pub(super) old: usize,
    pub(super) last_took: Option<Duration>,
    pub(super) unanswered: SlowStart,
    pub(super) breaker: CircuitBreaker,
    live: Option<Backlog>,
    replay: Option<Backlog>,
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

impl<M> SubscriptionQueue<M> {
    pub(super) fn new(kin: ShareGroups) -> Self {
        Self {
            kin,
            first: VecDeque::new(),
            waiting: VecDeque::new(),
            replayed: VecDeque::new(),
            from_backlog: 0,
            since_replayed: 0,
            in_flight: 0,
            old: 0,
            last_took: None,
            unanswered: SlowStart::default(),
            breaker: CircuitBreaker::NEW,
            live: None,
            replay: None,
        }
    }

    /// One with an open breaker is as good as slow: what it is given waits for nothing.
    pub(super) fn is_slow(&self) -> bool {
        self.old > 0 || self.last_took.is_some_and(|took| took > SLOW) || !self.breaker.is_closed()
    }

    pub(super) fn is_quick(&self) -> bool {
        !self.is_slow() && self.last_took.is_some_and(|took| took <= QUICK)
    }

    /// Whether it holds a slot or something that may start.
    pub(super) fn is_active(&self) -> bool {
        self.in_flight > 0 || self.startable() > 0
    }

    /// Whether there is nothing about it that is worth a place in memory.
    pub(super) fn is_forgettable(&self) -> bool {
        !self.is_slow() && self.breaker == CircuitBreaker::NEW && self.is_idle()
    }

    /// Whether nothing of it is here, in memory or in the backlog, and its breaker is closed.
    pub(super) fn is_idle(&self) -> bool {
        let is_empty = self.in_flight == 0 && self.waiting() == 0;
        is_empty && self.breaker.is_closed() && self.live.is_none() && self.replay.is_none()
    }

    /// How many wait, whether they may start or not.
    pub(super) fn waiting(&self) -> usize {
        self.first.len() + self.queued()
    }

    /// How many wait besides those that somebody waits for.
    pub(super) fn queued(&self) -> usize {
        self.waiting.len() + self.replayed.len()
    }

    /// How many of a replay wait.
    pub(super) fn replayed(&self) -> usize {
        self.replayed.len()
    }

    /// How many wait that the breaker may let start. An open one keeps the next probe, which takes nobody's room, and
    /// lets start before its time what somebody waits for.
    fn startable(&self) -> usize {
        match (self.breaker.admits(), self.breaker) {
            (Admits::All | Admits::One, _) => self.waiting(),
            (Admits::Nobody, CircuitBreaker::Open { .. }) => self.first.len(),
            (Admits::Nobody, _) => 0,
        }
    }

    /// None when nothing waits that may start.
    pub(super) fn turn(&self) -> Option<Pace> {
        (self.startable() > 0).then(|| match self.is_slow() {
            true => Pace::Slow,
            false => Pace::Fast,
        })
    }

    pub(super) fn totals(&self) -> Totals {
        let waiting = self.startable();
        let slow = usize::from(self.is_slow());
        Totals {
            waiting,
            slow_waiting: slow * waiting,
            from_backlog: self.from_backlog.min(waiting),
            in_flight: self.in_flight,
            slow_in_flight: slow * self.in_flight,
            active: usize::from(self.is_active()),
            slow,
            open: usize::from(!self.breaker.is_closed()),
        }
    }

    /// Whether new deliveries go behind its backlog.
    pub(super) fn has_live_backlog(&self) -> bool {
        self.live.is_some()
    }

    /// Whether a search of its backlog could begin.
    pub(super) fn may_read(&self) -> bool {
        let may = |backlog: Option<Backlog>| backlog.is_some_and(|one| !one.is_under_way());
        may(self.live) || may(self.replay)
    }

    pub(super) fn backlog(&mut self, class: BacklogClass) -> &mut Option<Backlog> {
        match class {
            BacklogClass::Live => &mut self.live,
            BacklogClass::Replay => &mut self.replay,
        }
    }

    /// It has backlog of this class.
    pub(super) fn note_backlog(&mut self, class: BacklogClass, now: Instant) -> &mut Backlog {
        self.backlog(class).get_or_insert_with(|| Backlog::new(now))
    }

    pub(super) fn forget_backlog(&mut self) {
        (self.live, self.replay) = (None, None);
    }
}

impl<M: Message> SubscriptionQueue<M> {
    pub(super) fn push(&mut self, message: M) {
        self.from_backlog += usize::from(message.backlog().is_some());
        match message.backlog() {
            Some(BacklogClass::Replay) => self.replayed.push_back(message),
            Some(BacklogClass::Live) | None => self.waiting.push_back(message),
        }
    }

    pub(super) fn pop(&mut self) -> Option<M> {
        if let Some(first) = self.first.pop_front() {
            return Some(first);
        }
        let is_replayed = self.waiting.is_empty() || self.since_replayed >= BETWEEN_REPLAYED;
        let message = match is_replayed.then(|| self.replayed.pop_front()).flatten() {
            Some(message) => {
                self.since_replayed = 0;
                message
            }
            None => {
                self.since_replayed = self.since_replayed.saturating_add(1);
                self.waiting.pop_front()?
            }
        };
        self.from_backlog -= usize::from(message.backlog().is_some());
        Some(message)
    }

    /// Takes out the newest, of replays first; with a breaker that is not closed, the one with the fewest attempts. So
    /// of a dead receiver's backlog one delivery at least gets to the end of its schedule, without which nobody would
    /// know that the subscription fails.
    pub(super) fn pop_last(&mut self) -> Option<M> {
        if !self.breaker.is_closed() {
            let waiting = self.waiting.make_contiguous();
            waiting.sort_by_key(|message| Reverse(message.attempt()));
        }
        let last = self.replayed.pop_back().or_else(|| self.waiting.pop_back());
        if let Some(message) = &last {
            self.from_backlog -= usize::from(message.backlog().is_some());
        }
        last
    }
}
