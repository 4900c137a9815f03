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

use super::share_groups::{ShareGroup, ShareGroups, Totals};
use super::slow_start::SlowStart;
use super::speed::Speed;
use super::subscription_queue::SubscriptionQueue;

/// The weights of the free slots: a holder may hold up to this multiple of them.
const OF_QUEUE: usize = 1;
const OF_ORIGIN: usize = 2;
const OF_ORGANIZATION: usize = 7;

/// The totals of all subscription queues, and of each origin and organization that has a queue.
pub(super) struct Bulkhead {
    slots: usize,
    room: usize,
    pub(super) all: Totals,
    origins: HashMap<ShareGroup, Totals>,
    organizations: HashMap<ShareGroup, Totals>,
    /// The unanswered requests of each origin that has any.
    slow_start: HashMap<ShareGroup, SlowStart>,
    /// The rate limits of the origins.
    rates: Option<RateLimiter<ShareGroup>>,
    /// When the rate limit admits the next request of a queue that was passed over.
    rate_limited_until: Cell<Option<Instant>>,
}

impl Bulkhead {
    pub(super) fn new(slots: usize, room: usize, origin_rate: Option<Rate>) -> Self {
        Self {
            slots,
            room,
            all: Totals::default(),
            origins: HashMap::new(),
            organizations: HashMap::new(),
            slow_start: HashMap::new(),
            rates: origin_rate.map(RateLimiter::new),
            rate_limited_until: Cell::new(None),
        }
    }

    /// Counts a request that starts in these groups.
    pub(super) fn started(&mut self, groups: ShareGroups, now: Instant) {
        self.slow_start.entry(groups.origin).or_default().start(now);
        if let Some(rates) = &mut self.rates {
            // The caller has asked before whether the rate limit has room for this request.
            let _ = rates.try_acquire(groups.origin, now);
        }
    }

    /// The wait until the rate limit of the origin admits one more request.
    fn rate_wait(&self, groups: ShareGroups, now: Instant) -> Duration {
        let rates = self.rates.as_ref();
        rates.map_or(Duration::ZERO, |rates| rates.peek(&groups.origin, now))
    }

    /// When a queue may start that was passed over because of its origin's rate limit.
    pub(super) fn rate_limited_until(&self) -> Option<Instant> {
        self.rate_limited_until.get()
    }

    pub(super) fn clear_rate_limited(&self) {
        self.rate_limited_until.set(None);
    }

    /// Counts the end of a request. `took` is none where no request was made.
    pub(super) fn finished(&mut self, groups: ShareGroups, took: Option<Duration>) {
        if let Some(slow_start) = self.slow_start.get_mut(&groups.origin) {
            slow_start.finished(took);
            if slow_start.count == 0 {
                self.slow_start.remove(&groups.origin);
            }
        }
    }

    /// Adds the totals of a subscription queue.
    pub(super) fn add(&mut self, groups: ShareGroups, of: Totals) {
        self.each(groups, |sum| sum.add(of));
    }

    /// Subtracts the totals of a subscription queue.
    pub(super) fn subtract(&mut self, groups: ShareGroups, of: Totals) {
        self.each(groups, |sum| sum.subtract(of));
        remove_if_empty(&mut self.origins, groups.origin);
        remove_if_empty(&mut self.organizations, groups.organization);
    }

    fn each(&mut self, groups: ShareGroups, change: impl Fn(&mut Totals)) {
        change(&mut self.all);
        change(self.origins.entry(groups.origin).or_default());
        change(self.organizations.entry(groups.organization).or_default());
    }

    pub(super) fn free(&self) -> usize {
        self.slots.saturating_sub(self.all.in_flight)
    }

    /// How many more messages fit.
    pub(super) fn room(&self) -> usize {
        self.room.saturating_sub(self.all.waiting)
    }

    /// Whether any subscription queue of this pace may start a request.
    pub(super) fn may_any_start(&self, speed: Speed) -> bool {
        self.free() > 0 && (speed == Speed::Fast || self.slow_free() > 0)
    }

    pub(super) fn may_start<M>(&self, queue: &SubscriptionQueue<M>, now: Instant) -> bool {
        if !self.has_slots_for(queue) {
            return false;
        }
        let wait = self.rate_wait(queue.groups, now);
        if wait > Duration::ZERO {
            let until = self.rate_limited_until.get();
            let until = until.map_or(now + wait, |until| until.min(now + wait));
            self.rate_limited_until.set(Some(until));
        }
        wait.is_zero()
    }

    fn has_slots_for<M>(&self, queue: &SubscriptionQueue<M>) -> bool {
        let (origin, organization) = self.groups(queue.groups);
        let free = self.free();
        let spares_others = leaves_slots_free(queue.in_flight, free * OF_QUEUE)
            && leaves_slots_free(origin.in_flight, free * OF_ORIGIN)
            && leaves_slots_free(organization.in_flight, free * OF_ORGANIZATION);
        let is_answered = (self.is_only_active(queue)
            || queue.slow_start.count < self.slow_start_limit())
            && (self.is_alone(origin) || !self.is_unanswered(queue.groups));
        if !queue.is_slow() || !is_answered {
            return spares_others && is_answered;
        }
        let free = self.slow_free();
        spares_others
            && free > 0
            && queue.in_flight < self.slow_share(queue)
            && (self.is_alone(origin) || leaves_slots_free(origin.slow_in_flight, free * OF_ORIGIN))
            && (self.is_alone(organization)
                || leaves_slots_free(organization.slow_in_flight, free * OF_ORGANIZATION))
    }

    /// How many slots a slow queue may hold: few, unless no other queue is active.
    pub(super) fn slow_share<M>(&self, queue: &SubscriptionQueue<M>) -> usize {
        if self.is_only_active(queue) {
            self.slow_slots()
        } else {
            self.slow_start_limit()
        }
    }

    fn is_only_active<M>(&self, queue: &SubscriptionQueue<M>) -> bool {
        self.all.active == usize::from(queue.is_active())
    }

    /// How many requests a subscription queue may start without a response.
    fn slow_start_limit(&self) -> usize {
        (self.slots / 16).max(1)
    }

    fn is_unanswered(&self, groups: ShareGroups) -> bool {
        let slow_start = self.slow_start.get(&groups.origin);
        slow_start.is_some_and(|slow_start| slow_start.count >= 2 * self.slow_start_limit())
    }

    /// Whether no queue outside the group is active.
    fn is_alone(&self, group: Totals) -> bool {
        group.active == self.all.active
    }

    fn is_unresponsive(&self, groups: ShareGroups, now: Instant) -> bool {
        let slow_start = self.slow_start.get(&groups.origin);
        self.is_unanswered(groups)
            && slow_start.is_some_and(|slow_start| slow_start.is_overdue(now))
    }

    /// Whether too many messages wait for an origin that is silent or has reached its rate limit. The bound is the
    /// number that gets slots within a short time. An origin without others beside it may take half of the room. If it
    /// took all of it, messages of others would find none.
    pub(super) fn is_room_of_origin_exceeded(&self, groups: ShareGroups, now: Instant) -> bool {
        let (origin, _) = self.groups(groups);
        let most = if self.is_alone(origin) {
            self.room.div_ceil(2)
        } else {
            8 * self.slow_start_limit()
        };
        let is_held_up =
            || self.is_unresponsive(groups, now) || !self.rate_wait(groups, now).is_zero();
        origin.waiting > most && is_held_up()
    }

    /// How many messages may wait in a subscription queue. With a circuit breaker that is not closed, the queue keeps
    /// the next probe.
    pub(super) fn limit<M>(&self, queue: &SubscriptionQueue<M>) -> usize {
        if !queue.breaker.is_closed() {
            1
        } else if queue.is_slow() {
            4 * self.slow_share(queue)
        } else if queue.is_quick() {
            self.room
        } else if !self.is_only_active(queue) {
            // The receiver is unknown or takes its time: part of the room stays free for others.
            self.room.div_ceil(2)
        } else if queue.last_response_time.is_none() {
            // Its first response is known within a second. Until then no message is marked to make room for others.
            self.room
        } else {
            // With all of the room taken, messages for others could not come.
            self.room - self.room / 8
        }
    }

    /// Whether a subscription queue needs no more of its backlog before half of its waiting messages have started.
    pub(super) fn is_full<M>(&self, queue: &SubscriptionQueue<M>) -> bool {
        2 * queue.queued() > self.limit(queue)
    }

    /// How many more messages of its backlog a subscription queue can use. Replays get a quarter of the queue's limit.
    pub(super) fn backlog_limit<M>(
        &self,
        queue: &SubscriptionQueue<M>,
        class: BacklogClass,
    ) -> usize {
        let limit = self.limit(queue);
        match class {
            BacklogClass::Live => limit.saturating_sub(queue.queued()),
            BacklogClass::Replay => limit.div_ceil(4).saturating_sub(queue.replayed()),
        }
    }

    /// The room for backlog of a subscription queue with a closed circuit breaker. All backlogs share half of the room:
    /// the other half is for deliveries that have just become due.
    pub(super) fn backlog_room<M>(&self, queue: &SubscriptionQueue<M>, now: Instant) -> usize {
        if self.is_room_of_origin_exceeded(queue.groups, now) {
            return 0;
        }
        let slow_room = if queue.is_slow() {
            self.slow_room().saturating_sub(self.all.slow_waiting)
        } else {
            usize::MAX
        };
        let half_of_room = self.room.div_ceil(2).saturating_sub(self.all.from_backlog);
        self.room().min(half_of_room).min(slow_room)
    }

    /// Whether too many messages wait in slow queues. The bound is the number that gets slots within a short time. It
    /// is at most half of the room, so that fast queues have a place.
    pub(super) fn is_slow_room_exceeded(&self) -> bool {
        self.all.slow_waiting > self.slow_room()
    }

    fn slow_room(&self) -> usize {
        self.room.div_ceil(2).min(4 * self.slow_slots())
    }

    pub(super) fn is_room_exceeded(&self) -> bool {
        self.all.waiting > self.room
    }

    pub(super) fn slow_slots(&self) -> usize {
        (self.slots / 2).max(1)
    }

    /// The free slots of the slow half.
    fn slow_free(&self) -> usize {
        self.slow_slots().saturating_sub(self.all.slow_in_flight)
    }

    fn groups(&self, groups: ShareGroups) -> (Totals, Totals) {
        let of = |groups: &HashMap<ShareGroup, Totals>, group| groups.get(&group).copied();
        (
            of(&self.origins, groups.origin).unwrap_or_default(),
            of(&self.organizations, groups.organization).unwrap_or_default(),
        )
    }

    #[cfg(test)]
    pub(super) fn groups_known(&self) -> usize {
        self.origins.len() + self.organizations.len() + self.slow_start.len()
    }
}

/// Whether a holder of `held` slots may take one more. `free` is the number of free slots times the weight of the
/// holder. The first slot is always allowed.
fn leaves_slots_free(held: usize, free: usize) -> bool {
    held == 0 || held < free
}

fn remove_if_empty(groups: &mut HashMap<ShareGroup, Totals>, group: ShareGroup) {
    if groups.get(&group) == Some(&Totals::default()) {
        groups.remove(&group);
    }
}
