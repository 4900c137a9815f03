//! Chooses the next request: a receiver that hangs must not take all slots.
//!
//! Messages wait in one subscription queue for each subscription. The queues start requests in the order of
//! `round_robin`. A `bulkhead` limits the slots of each queue, so that a queue without a slot still finds one. A
//! hanging request shows only after a while. A queue with a request of more than a second is therefore *slow*. All slow
//! queues together hold at most half of the slots. The other half stays free for the rest, however many receivers hang.
//! A `circuit_breaker` stops the requests to a receiver after repeated failures, but for one probe at a time.
//!
//! Each subscription queue has a bound. The scheduler hands the excess back, and the store marks it as backlog. A queue
//! with room again asks for rows of its backlog (`backlog`).
//!
//! The scheduler has neither a clock nor a task: time is an argument.

mod backlog;
mod bulkhead;
mod circuit_breaker;
mod in_flight;
mod message;
mod round_robin;
mod slow_start;
mod subscription_queue;

use std::collections::{BTreeSet, HashMap};
use std::time::{Duration, Instant};

use hookline_core::ids::SubscriptionId;
use hookline_core::rate_limit::Rate;
use hookline_store::{BacklogClass, BreakerChange};

pub use backlog::{Read, ReadResult};
use bulkhead::Bulkhead;
pub(crate) use bulkhead::Totals;
pub use bulkhead::{ShareGroup, ShareGroups};
use circuit_breaker::CircuitBreaker;
pub use circuit_breaker::Health;
pub use in_flight::Permit;
use in_flight::{Age, InFlightRequest, InFlightRequests};
pub use message::Message;
use round_robin::RoundRobin;
use subscription_queue::{SLOW, SubscriptionQueue};

/// The most subscription queues that stay in memory without a message or a request.
const REMEMBERED: usize = 4_096;

/// The time between two releases of probes. Circuit breakers with a wait that ends within it release their probes
/// together. One query then serves them all.
const PROBES_EVERY: Duration = Duration::from_millis(250);

/// The most rows that one search of a backlog reads.
const MOST_READ: usize = 512;

/// The most backlogs that are searched at once.
const READS: usize = 256;

/// The bounds on requests, waiting messages, failures and rates.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Requests in flight at once.
    pub slots: usize,
    /// Messages that may wait in memory.
    pub room: usize,
    /// Consecutive failures that open a circuit breaker.
    pub breaker_failures: u32,
    /// The rate limit per origin.
    pub origin_rate: Option<Rate>,
}

/// The outcome of a request.
#[derive(Debug, Clone, Copy)]
pub struct Finish {
    /// The response time of the receiver.
    pub took: Duration,
    /// The health of the receiver that the outcome shows.
    pub verdict: Health,
}

/// All subscription queues of a dispatcher.
pub struct Scheduler<M> {
    breaker_failures: u32,
    lanes: HashMap<SubscriptionId, SubscriptionQueue<M>>,
    flights: InFlightRequests,
    shares: Bulkhead,
    turns: RoundRobin,
    excess: Vec<M>,
    /// The times at which circuit breakers let a probe start.
    probes: BTreeSet<(Instant, SubscriptionId)>,
    probes_started: Option<Instant>,
    breaker_changes: Vec<BreakerChange>,
    /// Subscription queues with backlog that may have room for more of it.
    hungry: BTreeSet<SubscriptionId>,
}

impl<M: Message> Scheduler<M> {
    /// A scheduler without messages and without knowledge of any receiver.
    pub fn new(limits: Limits) -> Self {
        Self {
            breaker_failures: limits.breaker_failures,
            lanes: HashMap::new(),
            flights: InFlightRequests::new(),
            shares: Bulkhead::new(limits.slots, limits.room, limits.origin_rate),
            turns: RoundRobin::new(),
            excess: Vec::new(),
            probes: BTreeSet::new(),
            probes_started: None,
            breaker_changes: Vec::new(),
            hungry: BTreeSet::new(),
        }
    }

    /// How many more messages fit.
    pub fn room(&self) -> usize {
        self.shares.room()
    }

    /// The totals over all subscription queues.
    pub(crate) fn totals(&self) -> Totals {
        self.shares.all
    }

    /// Appends a message to its subscription queue; the message may become excess at once. A new message goes behind
    /// the backlog.
    pub fn push(&mut self, to: SubscriptionId, kin: ShareGroups, message: M, now: Instant) {
        let is_new = message.backlog().is_none();
        let goes_behind =
            |lane: &SubscriptionQueue<M>| lane.breaker.is_closed() && lane.has_live_backlog();
        if is_new && self.lanes.get(&to).is_some_and(goes_behind) {
            return self.put_out(to, kin, message, now);
        }
        self.change(to, kin, |lane| {
            lane.kin = kin;
            lane.push(message);
        });
        self.trim(to, now);
        if self.shares.is_room_exceeded() {
            self.put_out_last(to, now);
        }
    }

    /// Puts a test before all other messages of its queue, even if the circuit breaker is open. A caller of the API
    /// waits for the result.
    pub fn push_first(&mut self, to: SubscriptionId, kin: ShareGroups, message: M) {
        self.change(to, kin, |lane| lane.first.push_back(message));
    }

    /// Starts nothing more of a subscription queue before `until`, for a reason that lies outside its receiver. The
    /// message goes to the backlog.
    pub fn hold(&mut self, to: SubscriptionId, message: M, until: Instant, now: Instant) {
        let kin = self.lanes.get(&to).map(|lane| lane.kin).unwrap_or_default();
        self.change(to, kin, |lane| {
            lane.breaker = CircuitBreaker::Held { until }
        });
        self.put_out(to, kin, message, now);
        self.trim(to, now);
    }

    /// Creates the queue of a subscription that another dispatcher handled before. With waiting deliveries or with a
    /// circuit breaker that was not closed, the next request is a probe.
    pub fn take_over(&mut self, to: SubscriptionId, wait: Option<Duration>) {
        if !self.lanes.contains_key(&to) {
            let breaker = CircuitBreaker::taken_over(wait);
            self.change(to, ShareGroups::default(), |lane| lane.breaker = breaker);
        }
    }

    /// Empties the queues of subscriptions that this dispatcher does not own any more. Requests in flight stay.
    pub fn retain(&mut self, is_owned: impl Fn(SubscriptionId) -> bool) {
        let lost = self.lanes.keys().copied().filter(|lane| !is_owned(*lane));
        for subscription in lost.collect::<Vec<_>>() {
            self.change_known(subscription, |lane| {
                while lane.pop().is_some() {}
                lane.forget_backlog();
                lane.breaker = CircuitBreaker::NEW;
                lane.last_took = None;
            });
        }
    }

    /// The next message with permission to start its request. It holds a slot from now on.
    pub fn next(&mut self, now: Instant) -> Option<(Permit, M)> {
        self.grow_older(now);
        self.let_probes_start(now);
        self.shares.forget_passed_over();
        let (pace, subscription) = self.turns.paces().into_iter().find_map(|pace| {
            if !self.shares.may_any_start(pace) {
                return None;
            }
            let found = self.turns.find(pace, |one| self.may_start(one, now))?;
            Some((pace, found))
        })?;
        let (message, kin, role) = self.change_known(subscription, |lane| {
            let message = lane.pop()?;
            lane.in_flight += 1;
            lane.unanswered.start(now);
            let role = lane.breaker.started();
            Some((message, lane.kin, role))
        })??;
        self.shares.started(kin, now);
        self.turns.took(pace, kin.organization, subscription);
        // A circuit breaker that admits one request admits no second one.
        self.trim(subscription, now);
        let ticket = self.flights.start(InFlightRequest {
            subscription,
            kin,
            started: now,
            role,
        });
        Some((ticket, message))
    }

    /// Gives the slot back. `finish` is none where no request was made.
    pub fn finished(&mut self, ticket: Permit, finish: Option<Finish>, now: Instant) {
        let Some((flight, age)) = self.flights.end(ticket) else {
            return;
        };
        let limit = self.breaker_failures;
        let took = finish.map(|finish| finish.took);
        self.shares.over(flight.kin, took);
        let change = self.change_known(flight.subscription, |lane| {
            lane.in_flight -= 1;
            lane.old -= usize::from(age == Age::Old);
            let verdict = finish.map(|finish| finish.verdict);
            let before = lane.breaker.wait();
            lane.breaker.over(flight.role, verdict, limit, now);
            lane.unanswered.over(took);
            lane.last_took = took.or(lane.last_took);
            let after = lane.breaker.wait();
            (before != after).then_some(after)
        });
        if let Some(Some(wait)) = change {
            self.breaker_changes.push(BreakerChange {
                subscription: flight.subscription,
                wait,
            });
        }
        self.trim(flight.subscription, now);
    }

    /// Circuit breakers that have opened, closed or got a longer wait since the last call, in this order.
    pub fn take_breaker_changes(&mut self) -> Vec<BreakerChange> {
        std::mem::take(&mut self.breaker_changes)
    }

    /// Messages without room. The rows that were read from the backlog are still in it; the store is to mark the
    /// others.
    pub fn take_excess(&mut self) -> Vec<M> {
        std::mem::take(&mut self.excess)
    }

    /// Notes that the subscription has backlog of this class.
    pub fn note_backlog(
        &mut self,
        subscription: SubscriptionId,
        class: BacklogClass,
        now: Instant,
    ) {
        let kin = self.lanes.get(&subscription).map(|lane| lane.kin);
        self.change(subscription, kin.unwrap_or_default(), |lane| {
            lane.note_backlog(class, now).grew();
        });
    }

    /// Whether a subscription queue may have room for more of its backlog.
    pub fn may_read(&self) -> bool {
        !self.hungry.is_empty()
    }

    /// The searches to make now. [`Scheduler::read`] or [`Scheduler::read_failed`] ends each of them.
    pub fn take_reads(&mut self, now: Instant) -> Vec<Read> {
        let mut reads = Vec::new();
        let mut planned = 0;
        for subscription in self.hungry.iter().copied().collect::<Vec<_>>() {
            if reads.len() >= READS {
                break;
            }
            let Some(lane) = self.lanes.get_mut(&subscription) else {
                self.hungry.remove(&subscription);
                continue;
            };
            if !lane.may_read() || self.shares.is_full(lane) {
                // The queue becomes hungry again when one of its messages starts.
                self.hungry.remove(&subscription);
                continue;
            }
            let room = self.shares.backlog_room(lane, now);
            for class in [BacklogClass::Live, BacklogClass::Replay] {
                let limit = self.shares.backlog_limit(lane, class);
                let limit = match lane.breaker.is_closed() {
                    true => limit.min(room.saturating_sub(planned)).min(MOST_READ),
                    false => limit,
                };
                if limit == 0 {
                    continue;
                }
                let Some(after) = lane.backlog(class).as_mut().and_then(|one| one.begin(now))
                else {
                    continue;
                };
                planned += limit;
                reads.push(Read {
                    subscription,
                    class,
                    after,
                    limit,
                });
            }
        }
        reads
    }

    /// Ends a search after its rows were pushed. Returns whether the subscription has no live backlog any more.
    pub fn read(&mut self, read: Read, result: ReadResult) -> bool {
        let is_over = self.change_known(read.subscription, |lane| {
            let backlog = lane.backlog(read.class);
            let is_over = backlog.as_mut().is_some_and(|one| one.end(read, result));
            if is_over {
                *backlog = None;
            }
            is_over
        });
        is_over.unwrap_or(false) && read.class == BacklogClass::Live
    }

    /// Notes a failed search; another one follows.
    pub fn read_failed(&mut self, read: Read, now: Instant) {
        self.change_known(read.subscription, |lane| {
            if let Some(backlog) = lane.backlog(read.class) {
                backlog.fail(now);
            }
        });
    }

    /// The next time at which more requests may start. The reason is a probe, the rate limit of an origin, or a queue
    /// that becomes slow.
    pub fn next_change(&self) -> Option<Instant> {
        let young = self.flights.oldest_young();
        let young = young.filter(|_| self.shares.all.waiting > 0);
        let slow = young.map(|(_, flight)| flight.started + SLOW + Duration::from_millis(1));
        let probe = self.probes.first().map(|(at, _)| *at);
        let probe = probe.map(|at| self.probes_start_from().map_or(at, |from| at.max(from)));
        let passed_over = self.shares.passed_over();
        [slow, probe, passed_over].into_iter().flatten().min()
    }

    fn probes_start_from(&self) -> Option<Instant> {
        self.probes_started.map(|at| at + PROBES_EVERY)
    }

    fn let_probes_start(&mut self, now: Instant) {
        let is_early = self.probes_start_from().is_some_and(|from| now < from);
        if is_early || self.probes.first().is_none_or(|(at, _)| *at > now) {
            return;
        }
        self.probes_started = Some(now);
        while let Some((at, subscription)) = self.probes.first().copied()
            && at <= now
        {
            self.change_known(subscription, |lane| lane.breaker.let_one_start());
        }
    }

    /// Marks the requests that take long.
    fn grow_older(&mut self, now: Instant) {
        while let Some(subscription) = self.flights.next_old(now) {
            self.change_known(subscription, |lane| lane.old += 1);
            self.trim(subscription, now);
        }
    }

    fn may_start(&self, subscription: SubscriptionId, now: Instant) -> bool {
        let lane = self.lanes.get(&subscription);
        lane.is_some_and(|lane| self.shares.may_start(lane, now))
    }

    /// Removes the messages beyond the limit of a subscription queue.
    fn trim(&mut self, subscription: SubscriptionId, now: Instant) {
        while let Some(lane) = self.lanes.get(&subscription)
            && lane.queued() > 0
            && (lane.queued() > self.shares.limit(lane)
                || lane.breaker.is_closed()
                    && (lane.is_slow() && self.shares.is_slow_room_exceeded()
                        || self.shares.is_room_of_origin_exceeded(lane.kin, now)))
        {
            self.put_out_last(subscription, now);
        }
    }

    fn put_out_last(&mut self, subscription: SubscriptionId, now: Instant) {
        let last = self.change_known(subscription, |lane| Some((lane.kin, lane.pop_last()?)));
        if let Some((kin, last)) = last.flatten() {
            self.put_out(subscription, kin, last, now);
        }
    }

    fn put_out(
        &mut self,
        subscription: SubscriptionId,
        kin: ShareGroups,
        message: M,
        now: Instant,
    ) {
        let class = message.backlog();
        self.change(subscription, kin, |lane| {
            let backlog = lane.note_backlog(class.unwrap_or(BacklogClass::Live), now);
            if class.is_some() {
                backlog.gave_back();
            }
        });
        self.excess.push(message);
    }

    fn change_known<R>(
        &mut self,
        subscription: SubscriptionId,
        change: impl FnOnce(&mut SubscriptionQueue<M>) -> R,
    ) -> Option<R> {
        let kin = self.lanes.get(&subscription)?.kin;
        Some(self.change(subscription, kin, change))
    }

    /// Changes a subscription queue, and with it all totals, turns and probes. A queue without messages and without
    /// knowledge to keep is removed.
    fn change<R>(
        &mut self,
        subscription: SubscriptionId,
        kin: ShareGroups,
        change: impl FnOnce(&mut SubscriptionQueue<M>) -> R,
    ) -> R {
        let lane = self
            .lanes
            .entry(subscription)
            .or_insert_with(|| SubscriptionQueue::new(kin));
        let (had_turn, probe_before) = (lane.turn(), lane.breaker.lets_one_start_at());
        let (kin_before, before) = (lane.kin, lane.totals());
        let result = change(lane);
        let (has_turn, probe) = (lane.turn(), lane.breaker.lets_one_start_at());
        let (kin, after) = (lane.kin, lane.totals());
        let (may_read, is_forgettable) = (lane.may_read(), lane.is_forgettable());
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
        if probe_before != probe {
            probe_before.map(|at| self.probes.remove(&(at, subscription)));
            probe.map(|at| self.probes.insert((at, subscription)));
        }
        if may_read {
            self.hungry.insert(subscription);
        }
        if is_forgettable {
            self.lanes.remove(&subscription);
        } else if self.lanes.len() > self.shares.all.active + REMEMBERED {
            for (_, lane) in self.lanes.extract_if(|_, lane| lane.is_idle()) {
                self.shares.subtract(lane.kin, lane.totals());
            }
        }
        result
    }
}

#[cfg(test)]
mod tests;
