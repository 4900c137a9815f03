//! The queue of one subscription: its waiting messages and the observed health of its receiver.

use std::cmp::Reverse;
use std::collections::VecDeque;
use std::time::{Duration, Instant};

use hookline_store::BacklogClass;

use super::backlog::Backlog;
use super::circuit_breaker::CircuitBreaker;
use super::message::Message;
use super::share_groups::{ShareGroups, Totals};
use super::slow_start::SlowStart;
use super::speed::{SLOW, Speed};

/// A queue with responses this quick empties before other queues notice its messages.
const QUICK: Duration = Duration::from_millis(100);

/// The number of other messages between two of a replay, where both wait.
const BETWEEN_REPLAYED: u32 = 3;

pub(super) struct SubscriptionQueue<M> {
    pub(super) groups: ShareGroups,
    /// Tests, before all other messages: a caller of the API waits for each of them.
    pub(super) tests: VecDeque<M>,
    waiting: VecDeque<M>,
    /// Messages of replays: they are not urgent.
    replayed: VecDeque<M>,
    /// The number of messages in `waiting` and `replayed` that were read from the backlog.
    from_backlog: usize,
    since_replayed: u32,
    pub(super) in_flight: usize,
    /// The part of `in_flight` that has taken longer than [`SLOW`].
    pub(super) slow_requests: usize,
    pub(super) last_response_time: Option<Duration>,
    pub(super) slow_start: SlowStart,
    pub(super) breaker: CircuitBreaker,
    live: Option<Backlog>,
    replay: Option<Backlog>,
}

impl<M> SubscriptionQueue<M> {
    pub(super) fn new() -> Self {
        Self {
            groups: ShareGroups::default(),
            tests: VecDeque::new(),
            waiting: VecDeque::new(),
            replayed: VecDeque::new(),
            from_backlog: 0,
            since_replayed: 0,
            in_flight: 0,
            slow_requests: 0,
            last_response_time: None,
            slow_start: SlowStart::default(),
            breaker: CircuitBreaker::NEW,
            live: None,
            replay: None,
        }
    }

    /// A queue with an open circuit breaker counts as slow: a message in it would only wait.
    pub(super) fn is_slow(&self) -> bool {
        self.slow_requests > 0
            || self.last_response_time.is_some_and(|took| took > SLOW)
            || !self.breaker.is_closed()
    }

    pub(super) fn is_quick(&self) -> bool {
        !self.is_slow() && self.last_response_time.is_some_and(|took| took <= QUICK)
    }

    /// Whether the queue holds a slot or a message that may start.
    pub(super) fn is_active(&self) -> bool {
        self.in_flight > 0 || self.startable() > 0
    }

    /// Whether the queue has no state that is worth memory.
    pub(super) fn is_forgettable(&self) -> bool {
        !self.is_slow() && self.breaker == CircuitBreaker::NEW && self.is_idle()
    }

    /// Whether the queue has no message in memory or backlog, no request in flight and a closed circuit breaker.
    pub(super) fn is_idle(&self) -> bool {
        let is_empty = self.in_flight == 0 && self.waiting() == 0;
        is_empty && self.breaker.is_closed() && self.live.is_none() && self.replay.is_none()
    }

    /// The messages that wait, including those that may not start.
    pub(super) fn waiting(&self) -> usize {
        self.tests.len() + self.queued()
    }

    /// The messages that wait, without the tests.
    pub(super) fn queued(&self) -> usize {
        self.waiting.len() + self.replayed.len()
    }

    /// The messages of replays that wait.
    pub(super) fn replayed(&self) -> usize {
        self.replayed.len()
    }

    /// The messages that the circuit breaker may let start. An open breaker keeps the next probe, which takes no room
    /// of other queues. It lets a test start before its wait ends.
    fn startable(&self) -> usize {
        match self.breaker {
            CircuitBreaker::Closed { .. } | CircuitBreaker::Due { .. } => self.waiting(),
            CircuitBreaker::Open { .. } => self.tests.len(),
            CircuitBreaker::HalfOpen { .. } | CircuitBreaker::Suspended { .. } => 0,
        }
    }

    /// None without a message that may start.
    pub(super) fn waiting_speed(&self) -> Option<Speed> {
        (self.startable() > 0).then(|| {
            if self.is_slow() {
                Speed::Slow
            } else {
                Speed::Fast
            }
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

    /// Whether new deliveries go behind the backlog.
    pub(super) fn has_live_backlog(&self) -> bool {
        self.live.is_some()
    }

    /// Whether a search of the backlog could begin.
    pub(super) fn may_read(&self) -> bool {
        let may = |backlog: Option<Backlog>| backlog.is_some_and(|one| !one.is_searching());
        may(self.live) || may(self.replay)
    }

    pub(super) fn backlog(&mut self, class: BacklogClass) -> &mut Option<Backlog> {
        match class {
            BacklogClass::Live => &mut self.live,
            BacklogClass::Replay => &mut self.replay,
        }
    }

    /// Notes that the subscription has backlog of this class.
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
        if let Some(test) = self.tests.pop_front() {
            return Some(test);
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

    /// Removes the newest message, those of replays first. With a circuit breaker that is not closed, it removes the
    /// message with the fewest attempts. At least one delivery in the backlog of a dead receiver thus reaches the end
    /// of its schedule. Without such an end, no operator would learn that the subscription fails.
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
