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
mod share_groups;
mod slow_start;
mod speed;
mod subscription_queue;
mod turn_order;

use std::collections::{BTreeSet, HashMap};
use std::time::{Duration, Instant};

use hookline_core::ids::SubscriptionId;
use hookline_core::rate_limit::Rate;
use hookline_store::{BacklogClass, BreakerChange};

pub use backlog::{BacklogSearch, SearchResult};
use bulkhead::Bulkhead;
use circuit_breaker::CircuitBreaker;
pub use circuit_breaker::ReceiverHealth;
pub use in_flight::Permit;
use in_flight::{InFlightRequest, InFlightRequests};
pub use message::Message;
use round_robin::RoundRobin;
pub(crate) use share_groups::Totals;
pub use share_groups::{ShareGroup, ShareGroups};
use speed::{SLOW, Speed};
use subscription_queue::SubscriptionQueue;
pub(crate) use turn_order::TurnOrder;

/// The most subscription queues that stay in memory without a message or a request.
const MAX_IDLE_QUEUES: usize = 4_096;

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
    pub health: ReceiverHealth,
}

/// All subscription queues of a dispatcher.
pub struct Scheduler<M> {
    breaker_failures: u32,
    queues: HashMap<SubscriptionId, SubscriptionQueue<M>>,
    requests: InFlightRequests,
    bulkhead: Bulkhead,
    round_robin: RoundRobin,
    excess: Vec<M>,
    /// The times at which circuit breakers let a probe start.
    probes: BTreeSet<(Instant, SubscriptionId)>,
    breaker_changes: Vec<BreakerChange>,
    /// Subscription queues with backlog that may have room for more of it.
    backlog_candidates: BTreeSet<SubscriptionId>,
}

impl<M: Message> Scheduler<M> {
    /// A scheduler without messages and without knowledge of any receiver.
    pub fn new(limits: Limits) -> Self {
        Self {
            breaker_failures: limits.breaker_failures,
            queues: HashMap::new(),
            requests: InFlightRequests::default(),
            bulkhead: Bulkhead::new(limits.slots, limits.room, limits.origin_rate),
            round_robin: RoundRobin::default(),
            excess: Vec::new(),
            probes: BTreeSet::new(),
            breaker_changes: Vec::new(),
            backlog_candidates: BTreeSet::new(),
        }
    }

    /// How many more messages fit.
    pub fn room(&self) -> usize {
        self.bulkhead.room()
    }

    /// The totals over all subscription queues.
    pub(crate) fn totals(&self) -> Totals {
        self.bulkhead.all
    }

    /// Appends a message to its subscription queue; the message may become excess at once. A new message goes behind
    /// the backlog.
    pub fn push(&mut self, to: SubscriptionId, groups: ShareGroups, message: M, now: Instant) {
        let is_new = message.backlog().is_none();
        let goes_behind =
            |queue: &SubscriptionQueue<M>| queue.breaker.is_closed() && queue.has_live_backlog();
        if is_new && self.queues.get(&to).is_some_and(goes_behind) {
            return self.evict(to, message, now);
        }
        self.change(to, |queue| {
            queue.groups = groups;
            queue.push(message);
        });
        self.trim(to, now);
        if self.bulkhead.is_room_exceeded() {
            self.evict_last(to, now);
        }
    }

    /// Puts a test before all other messages of its queue, even if the circuit breaker is open. A caller of the API
    /// waits for the result.
    pub fn push_test(&mut self, to: SubscriptionId, groups: ShareGroups, message: M) {
        self.change(to, |queue| {
            queue.groups = groups;
            queue.tests.push_back(message);
        });
    }

    /// Starts nothing more of a subscription queue before `until`, for a reason that lies outside its receiver. The
    /// message goes to the backlog.
    pub fn suspend(&mut self, to: SubscriptionId, message: M, until: Instant, now: Instant) {
        self.change(to, |queue| {
            queue.breaker = CircuitBreaker::Suspended { until }
        });
        self.evict(to, message, now);
        self.trim(to, now);
    }

    /// Takes over a subscription that another dispatcher may have handled meanwhile. With waiting deliveries or with a
    /// circuit breaker that was not closed, the next request is a probe. A queue that exists has a say only where it
    /// knows of failures itself: it may have been made a moment before, by an answer of the store that came late.
    pub fn take_over(&mut self, to: SubscriptionId, wait: Option<Duration>) {
        self.change(to, |queue| {
            if queue.breaker.is_closed() {
                queue.breaker = CircuitBreaker::taken_over(wait);
            }
        });
    }

    /// Empties the queues of subscriptions that this dispatcher does not own any more. Requests in flight stay.
    pub fn retain(&mut self, is_owned: impl Fn(SubscriptionId) -> bool) {
        let lost = self
            .queues
            .keys()
            .copied()
            .filter(|queue| !is_owned(*queue));
        for subscription in lost.collect::<Vec<_>>() {
            self.change_known(subscription, |queue| {
                while queue.pop().is_some() {}
                queue.forget_backlog();
                queue.breaker = CircuitBreaker::NEW;
                queue.last_response_time = None;
            });
        }
    }

    /// The next message with permission to start its request. It holds a slot from now on.
    pub fn next(&mut self, now: Instant) -> Option<(Permit, M)> {
        self.note_slow_requests(now);
        self.allow_due_probes(now);
        self.bulkhead.clear_rate_limited();
        let (speed, subscription) = self.round_robin.speeds().into_iter().find_map(|speed| {
            if !self.bulkhead.may_any_start(speed) {
                return None;
            }
            let found = self
                .round_robin
                .find(speed, |one| self.may_start(one, now))?;
            Some((speed, found))
        })?;
        let (message, groups, role) = self.change_known(subscription, |queue| {
            let message = queue.pop()?;
            queue.in_flight += 1;
            queue.slow_start.start(now);
            let role = queue.breaker.started();
            Some((message, queue.groups, role))
        })??;
        self.bulkhead.started(groups, now);
        self.round_robin
            .started(speed, groups.organization, subscription);
        // A circuit breaker that admits one request admits no second one.
        self.trim(subscription, now);
        let permit = self.requests.start(InFlightRequest {
            subscription,
            groups,
            started: now,
            role,
        });
        Some((permit, message))
    }

    /// Gives the slot back. `finish` is none where no request was made.
    pub fn finished(&mut self, permit: Permit, finish: Option<Finish>, now: Instant) {
        let Some((request, speed)) = self.requests.end(permit) else {
            return;
        };
        let limit = self.breaker_failures;
        let took = finish.map(|finish| finish.took);
        self.bulkhead.finished(request.groups, took);
        let change = self.change_known(request.subscription, |queue| {
            queue.in_flight -= 1;
            queue.slow_requests -= usize::from(speed == Speed::Slow);
            let health = finish.map(|finish| finish.health);
            let before = queue.breaker.wait();
            queue.breaker.finished(request.role, health, limit, now);
            queue.slow_start.finished(took);
            queue.last_response_time = took.or(queue.last_response_time);
            let after = queue.breaker.wait();
            (before != after).then_some(after)
        });
        if let Some(Some(wait)) = change {
            self.breaker_changes.push(BreakerChange {
                subscription: request.subscription,
                wait,
            });
        }
        self.trim(request.subscription, now);
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
        self.change(subscription, |queue| {
            queue.note_backlog(class, now).rows_were_marked();
        });
    }

    /// Whether a subscription queue may have room for more of its backlog.
    pub fn may_read(&self) -> bool {
        !self.backlog_candidates.is_empty()
    }

    /// The searches to make now. [`Scheduler::read`] or [`Scheduler::read_failed`] ends each of them.
    pub fn take_reads(&mut self, now: Instant) -> Vec<BacklogSearch> {
        let mut reads = Vec::new();
        let mut planned = 0;
        for subscription in self.backlog_candidates.iter().copied().collect::<Vec<_>>() {
            if reads.len() >= READS {
                break;
            }
            let Some(queue) = self.queues.get_mut(&subscription) else {
                self.backlog_candidates.remove(&subscription);
                continue;
            };
            if !queue.may_read() || self.bulkhead.is_full(queue) {
                // The queue becomes hungry again when one of its messages starts.
                self.backlog_candidates.remove(&subscription);
                continue;
            }
            let room = self.bulkhead.backlog_room(queue, now);
            for class in [BacklogClass::Live, BacklogClass::Replay] {
                let limit = self.bulkhead.backlog_limit(queue, class);
                let limit = if queue.breaker.is_closed() {
                    limit.min(room.saturating_sub(planned)).min(MOST_READ)
                } else {
                    limit
                };
                if limit == 0 {
                    continue;
                }
                let Some(after) = queue.backlog(class).as_mut().and_then(|one| one.begin(now))
                else {
                    continue;
                };
                planned += limit;
                reads.push(BacklogSearch {
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
    pub fn read(&mut self, read: BacklogSearch, result: SearchResult) -> bool {
        let is_over = self.change_known(read.subscription, |queue| {
            let backlog = queue.backlog(read.class);
            let is_over = backlog.as_mut().is_some_and(|one| one.end(read, result));
            if is_over {
                *backlog = None;
            }
            is_over
        });
        is_over.unwrap_or(false) && read.class == BacklogClass::Live
    }

    /// Notes a failed search; another one follows.
    pub fn read_failed(&mut self, read: BacklogSearch, now: Instant) {
        self.change_known(read.subscription, |queue| {
            if let Some(backlog) = queue.backlog(read.class) {
                backlog.fail(now);
            }
        });
    }

    /// The next time at which more requests may start. The reason is a probe, the rate limit of an origin, or a queue
    /// that becomes slow.
    pub fn next_change(&self) -> Option<Instant> {
        let fast = self.requests.oldest_fast();
        let fast = fast.filter(|_| self.bulkhead.all.waiting > 0);
        let slow = fast.map(|(_, request)| request.started + SLOW + Duration::from_millis(1));
        let probe = self.probes.first().map(|(at, _)| *at);
        let rate_limited_until = self.bulkhead.rate_limited_until();
        [slow, probe, rate_limited_until]
            .into_iter()
            .flatten()
            .min()
    }

    fn allow_due_probes(&mut self, now: Instant) {
        while let Some((at, subscription)) = self.probes.first().copied()
            && at <= now
        {
            self.change_known(subscription, |queue| queue.breaker.allow_probe());
        }
    }

    /// Marks the requests that take long.
    fn note_slow_requests(&mut self, now: Instant) {
        while let Some(subscription) = self.requests.next_slow(now) {
            self.change_known(subscription, |queue| queue.slow_requests += 1);
            self.trim(subscription, now);
        }
    }

    fn may_start(&self, subscription: SubscriptionId, now: Instant) -> bool {
        let queue = self.queues.get(&subscription);
        queue.is_some_and(|queue| self.bulkhead.may_start(queue, now))
    }

    /// Removes the messages beyond the limit of a subscription queue.
    fn trim(&mut self, subscription: SubscriptionId, now: Instant) {
        while let Some(queue) = self.queues.get(&subscription)
            && queue.queued() > 0
            && (queue.queued() > self.bulkhead.limit(queue)
                || queue.breaker.is_closed()
                    && (queue.is_slow() && self.bulkhead.is_slow_room_exceeded()
                        || self.bulkhead.is_room_of_origin_exceeded(queue.groups, now)))
        {
            self.evict_last(subscription, now);
        }
    }

    fn evict_last(&mut self, subscription: SubscriptionId, now: Instant) {
        let last = self.change_known(subscription, SubscriptionQueue::pop_last);
        if let Some(last) = last.flatten() {
            self.evict(subscription, last, now);
        }
    }

    fn evict(&mut self, subscription: SubscriptionId, message: M, now: Instant) {
        let class = message.backlog();
        self.change(subscription, |queue| {
            let backlog = queue.note_backlog(class.unwrap_or(BacklogClass::Live), now);
            if class.is_some() {
                backlog.row_was_returned();
            }
        });
        self.excess.push(message);
    }

    fn change_known<R>(
        &mut self,
        subscription: SubscriptionId,
        change: impl FnOnce(&mut SubscriptionQueue<M>) -> R,
    ) -> Option<R> {
        let is_known = self.queues.contains_key(&subscription);
        is_known.then(|| self.change(subscription, change))
    }

    /// Changes a subscription queue, and with it all totals, turns and probes. A queue without messages and without
    /// knowledge to keep is removed.
    fn change<R>(
        &mut self,
        subscription: SubscriptionId,
        change: impl FnOnce(&mut SubscriptionQueue<M>) -> R,
    ) -> R {
        let queue = self
            .queues
            .entry(subscription)
            .or_insert_with(SubscriptionQueue::new);
        let (speed_before, probe_before) = (queue.waiting_speed(), queue.breaker.probe_at());
        let (groups_before, before) = (queue.groups, queue.totals());
        let result = change(queue);
        let (speed_after, probe) = (queue.waiting_speed(), queue.breaker.probe_at());
        let (groups, after) = (queue.groups, queue.totals());
        let (may_read, is_forgettable) = (queue.may_read(), queue.is_forgettable());
        self.bulkhead.add(groups, after);
        self.bulkhead.subtract(groups_before, before);
        if (speed_before, groups_before.organization) != (speed_after, groups.organization) {
            if let Some(speed) = speed_before {
                self.round_robin
                    .leave(speed, groups_before.organization, subscription);
            }
            if let Some(speed) = speed_after {
                self.round_robin
                    .join(speed, groups.organization, subscription);
            }
        }
        if probe_before != probe {
            probe_before.map(|at| self.probes.remove(&(at, subscription)));
            probe.map(|at| self.probes.insert((at, subscription)));
        }
        if may_read {
            self.backlog_candidates.insert(subscription);
        }
        if is_forgettable {
            self.queues.remove(&subscription);
        } else if self.queues.len() > self.bulkhead.all.active + MAX_IDLE_QUEUES {
            for (_, queue) in self.queues.extract_if(|_, queue| queue.is_idle()) {
                self.bulkhead.subtract(queue.groups, queue.totals());
            }
        }
        result
    }
}

#[cfg(test)]
mod tests;
