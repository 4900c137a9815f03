//! Bulkheads: how many slots a subscription, an origin and an organization may hold.
//!
//! Each holder leaves some slots free for others. A subscription queue may hold half of the slots. All queues to one
//! origin (scheme, host and port) may hold two thirds. All queues of one organization may hold seven eighths. Each
//! share is larger than the one before. A queue therefore leaves slots to the other queues of its origin. An origin
//! leaves some to the others of its organization. A queue without a slot gets one while one is free.
//!
//! A hanging receiver would hold these shares until its requests time out. While other queues are active, slow start
//! (`slow_start`) limits the requests without a timely response. A queue may start a sixteenth of the slots, and all
//! queues to one origin an eighth. This does not delay a receiver that responds, whatever its rate. A receiver that
//! begins to hang gets few slots before it counts as slow. All slow queues together hold at most half of the slots, and
//! share that half in the same way.
//!
//! An origin may have a rate limit, too. A customer does not prove that a target is theirs. No customer may therefore
//! point the full throughput at one, with one subscription or with a thousand.

use std::cell::Cell;
use std::collections::HashMap;
use std::time::{Duration, Instant};

use hookline_core::rate_limit::{Rate, RateLimiter};
use hookline_store::BacklogClass;

use super::slow_start::SlowStart;
use super::subscription_queue::{Pace, SubscriptionQueue};

/// A group of subscription queues, as a hash. Two groups with the same hash share as if they were one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct ShareGroup(pub u64);

/// The groups in which a subscription queue shares slots.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ShareGroups {
    /// The queues to the same scheme, host and port.
    pub origin: ShareGroup,
    /// The queues of the same organization.
    pub organization: ShareGroup,
}

/// The weights of the free slots: a holder may hold up to this multiple of them.
const OF_LANE: usize = 1;
const OF_ORIGIN: usize = 2;
const OF_ORGANIZATION: usize = 7;

/// Sums over subscription queues, so that no caller iterates over the queues.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Totals {
    /// Messages that wait.
    pub(crate) waiting: usize,
    /// The part of `waiting` in slow queues.
    pub(crate) slow_waiting: usize,
    /// The part of `waiting` that was read from the backlog.
    pub(crate) from_backlog: usize,
    /// Requests in flight.
    pub(crate) in_flight: usize,
    /// The part of `in_flight` that belongs to slow queues.
    pub(crate) slow_in_flight: usize,
    /// Queues with a message that waits or a request in flight.
    pub(crate) active: usize,
    /// Slow queues.
    pub(crate) slow: usize,
    /// Slow queues with a circuit breaker that is not closed.
    pub(crate) open: usize,
}

/// The totals of all subscription queues, and of each origin and organization that has a queue.
pub(super) struct Bulkhead {
    slots: usize,
    room: usize,
    pub(super) all: Totals,
    origins: HashMap<ShareGroup, Totals>,
    organizations: HashMap<ShareGroup, Totals>,
    /// The unanswered requests of each origin that has any.
    unanswered: HashMap<ShareGroup, SlowStart>,
    /// The rate limits of the origins.
    rates: Option<RateLimiter<ShareGroup>>,
    /// When the rate limit admits the next request of a queue that was passed over.
    passed_over_until: Cell<Option<Instant>>,
}

impl Bulkhead {
    pub(super) fn new(slots: usize, room: usize, origin_rate: Option<Rate>) -> Self {
        Self {
            slots,
            room,
            all: Totals::default(),
            origins: HashMap::new(),
            organizations: HashMap::new(),
            unanswered: HashMap::new(),
            rates: origin_rate.map(RateLimiter::new),
            passed_over_until: Cell::new(None),
        }
    }

    /// Counts a request that starts in these groups.
    pub(super) fn started(&mut self, kin: ShareGroups, now: Instant) {
        self.unanswered.entry(kin.origin).or_default().start(now);
        if let Some(rates) = &mut self.rates {
            // The caller has asked before whether the rate limit has room for this request.
            let _ = rates.try_acquire(kin.origin, now);
        }
    }

    /// The wait until the rate limit of the origin admits one more request.
    fn rate_wait(&self, kin: ShareGroups, now: Instant) -> Duration {
        let rates = self.rates.as_ref();
        rates.map_or(Duration::ZERO, |rates| rates.peek(&kin.origin, now))
    }

    /// When a queue may start that was passed over because of its origin's rate limit.
    pub(super) fn passed_over(&self) -> Option<Instant> {
        self.passed_over_until.get()
    }

    pub(super) fn forget_passed_over(&self) {
        self.passed_over_until.set(None);
    }

    /// Counts the end of a request. `took` is none where no request was made.
    pub(super) fn over(&mut self, kin: ShareGroups, took: Option<Duration>) {
        if let Some(unanswered) = self.unanswered.get_mut(&kin.origin) {
            unanswered.over(took);
            if unanswered.count == 0 {
                self.unanswered.remove(&kin.origin);
            }
        }
    }

    /// Adds the totals of a subscription queue.
    pub(super) fn add(&mut self, kin: ShareGroups, of: Totals) {
        self.each(kin, |sum| sum.add(of));
    }

    /// Subtracts the totals of a subscription queue.
    pub(super) fn subtract(&mut self, kin: ShareGroups, of: Totals) {
        self.each(kin, |sum| sum.subtract(of));
        remove_if_empty(&mut self.origins, kin.origin);
        remove_if_empty(&mut self.organizations, kin.organization);
    }

    fn each(&mut self, kin: ShareGroups, change: impl Fn(&mut Totals)) {
        change(&mut self.all);
        change(self.origins.entry(kin.origin).or_default());
        change(self.organizations.entry(kin.organization).or_default());
    }

    pub(super) fn free(&self) -> usize {
        self.slots.saturating_sub(self.all.in_flight)
    }

    /// How many more messages fit.
    pub(super) fn room(&self) -> usize {
        self.room.saturating_sub(self.all.waiting)
    }

    /// Whether any subscription queue of this pace may start a request.
    pub(super) fn may_any_start(&self, pace: Pace) -> bool {
        self.free() > 0 && (pace == Pace::Fast || self.slow_free() > 0)
    }

    pub(super) fn may_start<M>(&self, lane: &SubscriptionQueue<M>, now: Instant) -> bool {
        if !self.has_slots_for(lane) {
            return false;
        }
        let wait = self.rate_wait(lane.kin, now);
        if wait > Duration::ZERO {
            let until = self.passed_over_until.get();
            let until = until.map_or(now + wait, |until| until.min(now + wait));
            self.passed_over_until.set(Some(until));
        }
        wait.is_zero()
    }

    fn has_slots_for<M>(&self, lane: &SubscriptionQueue<M>) -> bool {
        let (origin, organization) = self.groups(lane.kin);
        let free = self.free();
        let spares_others = leaves(lane.in_flight, free * OF_LANE)
            && leaves(origin.in_flight, free * OF_ORIGIN)
            && leaves(organization.in_flight, free * OF_ORGANIZATION);
        let is_alone = |group: Totals| group.active == self.all.active;
        let is_answered = (self.is_only(lane) || lane.unanswered.count < self.leap())
            && (is_alone(origin) || !self.waits_for_answer(lane.kin));
        if !lane.is_slow() || !is_answered {
            return spares_others && is_answered;
        }
        let free = self.slow_free();
        spares_others
            && free > 0
            && lane.in_flight < self.slow_share(lane)
            && (is_alone(origin) || leaves(origin.slow_in_flight, free * OF_ORIGIN))
            && (is_alone(organization)
                || leaves(organization.slow_in_flight, free * OF_ORGANIZATION))
    }

    /// How many slots a slow queue may hold: few, unless no other queue is active.
    pub(super) fn slow_share<M>(&self, lane: &SubscriptionQueue<M>) -> usize {
        match self.is_only(lane) {
            true => self.half(),
            false => self.leap(),
        }
    }

    fn is_only<M>(&self, lane: &SubscriptionQueue<M>) -> bool {
        self.all.active == usize::from(lane.is_active())
    }

    /// How many requests a subscription queue may start without a response.
    fn leap(&self) -> usize {
        (self.slots / 16).max(1)
    }

    fn waits_for_answer(&self, kin: ShareGroups) -> bool {
        let unanswered = self.unanswered.get(&kin.origin);
        unanswered.is_some_and(|unanswered| unanswered.count >= 2 * self.leap())
    }

    fn has_company(&self, kin: ShareGroups) -> bool {
        self.groups(kin).0.active < self.all.active
    }

    fn is_silent(&self, kin: ShareGroups, now: Instant) -> bool {
        let unanswered = self.unanswered.get(&kin.origin);
        self.waits_for_answer(kin) && unanswered.is_some_and(|unanswered| unanswered.is_old(now))
    }

    /// Whether too many messages wait for an origin that is silent or has reached its rate limit. The bound is the
    /// number that gets slots within a short time. An origin without others beside it may take half of the room. If it
    /// took all of it, messages of others would find none.
    pub(super) fn is_room_of_origin_exceeded(&self, kin: ShareGroups, now: Instant) -> bool {
        let most = match self.has_company(kin) {
            true => 8 * self.leap(),
            false => self.room.div_ceil(2),
        };
        let is_held_up = || self.is_silent(kin, now) || !self.rate_wait(kin, now).is_zero();
        self.groups(kin).0.waiting > most && is_held_up()
    }

    /// How many messages may wait in a subscription queue. With a circuit breaker that is not closed, the queue keeps
    /// the next probe.
    pub(super) fn limit<M>(&self, lane: &SubscriptionQueue<M>) -> usize {
        if !lane.breaker.is_closed() {
            1
        } else if lane.is_slow() {
            4 * self.slow_share(lane)
        } else if lane.is_quick() {
            self.room
        } else if !self.is_only(lane) {
            // The receiver is unknown or takes its time: part of the room stays free for others.
            self.room.div_ceil(2)
        } else if lane.last_took.is_none() {
            // Its first response is known within a second. Until then no message is marked to make room for others.
            self.room
        } else {
            // With all of the room taken, messages for others could not come.
            self.room - self.room / 8
        }
    }

    /// Whether a subscription queue needs no more of its backlog before half of its waiting messages have started.
    pub(super) fn is_full<M>(&self, lane: &SubscriptionQueue<M>) -> bool {
        2 * lane.queued() > self.limit(lane)
    }

    /// How many more messages of its backlog a subscription queue can use. Replays get a quarter of the queue's limit.
    pub(super) fn backlog_limit<M>(
        &self,
        lane: &SubscriptionQueue<M>,
        class: BacklogClass,
    ) -> usize {
        let limit = self.limit(lane);
        match class {
            BacklogClass::Live => limit.saturating_sub(lane.queued()),
            BacklogClass::Replay => limit.div_ceil(4).saturating_sub(lane.replayed()),
        }
    }

    /// The room for backlog of a subscription queue with a closed circuit breaker. All backlogs share half of the room:
    /// the other half is for deliveries that have just become due.
    pub(super) fn backlog_room<M>(&self, lane: &SubscriptionQueue<M>, now: Instant) -> usize {
        if self.is_room_of_origin_exceeded(lane.kin, now) {
            return 0;
        }
        let slow_room = match lane.is_slow() {
            true => self.slow_room().saturating_sub(self.all.slow_waiting),
            false => usize::MAX,
        };
        let half = self.room.div_ceil(2).saturating_sub(self.all.from_backlog);
        self.room().min(half).min(slow_room)
    }

    /// Whether too many messages wait in slow queues. The bound is the number that gets slots within a short time. It
    /// is at most half of the room, so that fast queues have a place.
    pub(super) fn is_slow_room_exceeded(&self) -> bool {
        self.all.slow_waiting > self.slow_room()
    }

    fn slow_room(&self) -> usize {
        self.room.div_ceil(2).min(4 * self.half())
    }

    pub(super) fn is_room_exceeded(&self) -> bool {
        self.all.waiting > self.room
    }

    pub(super) fn half(&self) -> usize {
        (self.slots / 2).max(1)
    }

    /// The free slots of the slow half.
    fn slow_free(&self) -> usize {
        self.half().saturating_sub(self.all.slow_in_flight)
    }

    fn groups(&self, kin: ShareGroups) -> (Totals, Totals) {
        let of = |groups: &HashMap<ShareGroup, Totals>, group| groups.get(&group).copied();
        (
            of(&self.origins, kin.origin).unwrap_or_default(),
            of(&self.organizations, kin.organization).unwrap_or_default(),
        )
    }

    #[cfg(test)]
    pub(super) fn groups_known(&self) -> usize {
        self.origins.len() + self.organizations.len() + self.unanswered.len()
    }
}

/// Whether a holder of `held` slots may take one more. `free` is the number of free slots times the weight of the
/// holder. The first slot is always allowed.
fn leaves(held: usize, free: usize) -> bool {
    held == 0 || held < free
}

fn remove_if_empty(groups: &mut HashMap<ShareGroup, Totals>, group: ShareGroup) {
    if groups.get(&group) == Some(&Totals::default()) {
        groups.remove(&group);
    }
}

impl Totals {
    fn add(&mut self, other: Self) {
        self.each(other, |sum, one| *sum += one);
    }

    fn subtract(&mut self, other: Self) {
        self.each(other, |sum, one| *sum -= one);
    }

    fn each(&mut self, other: Self, change: impl Fn(&mut usize, usize)) {
        let Self {
            waiting,
            slow_waiting,
            from_backlog,
            in_flight,
            slow_in_flight,
            active,
            slow,
            open,
        } = other;
        change(&mut self.waiting, waiting);
        change(&mut self.slow_waiting, slow_waiting);
        change(&mut self.from_backlog, from_backlog);
        change(&mut self.in_flight, in_flight);
        change(&mut self.slow_in_flight, slow_in_flight);
        change(&mut self.active, active);
        change(&mut self.slow, slow);
        change(&mut self.open, open);
    }
}
