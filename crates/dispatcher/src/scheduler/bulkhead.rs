//! Who may hold how many slots.
//!
//! Everybody leaves something free for those beside it: a lane may hold half of the slots, all
//! lanes to one origin (scheme, host and port) two thirds, all lanes of one organization seven
//! eighths. Each is more than the one before, so a lane leaves some to the others of its host,
//! and a host some to the others of its organization. Who has none gets one while one is free.
//!
//! What hangs would hold these shares until it times out. So while others are there, a lane may not
//! start more than a sixteenth of the slots, and all lanes to one origin an eighth, without any
//! answer in time (`unanswered`): a receiver that answers is not held up by that, whatever its rate,
//! and one that begins to hang gets few slots before it is known as slow. All slow lanes together hold half of the slots at most, and share that half in the same way.
//! An origin may have a rate, too: nobody proves that a target is theirs, so nobody may point our whole strength at it,
//! with one subscription or with a thousand.

use std::cell::Cell;
use std::collections::HashMap;
use std::time::{Duration, Instant};

use hookline_core::rate_limit::{Rate, RateLimiter};
use hookline_store::BacklogClass;

use super::slow_start::SlowStart;
use super::subscription_queue::{Pace, SubscriptionQueue};

/// Lanes that have something in common. It is a hash: two that collide share as if they were one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct ShareGroup(pub u64);

/// With whom a lane shares.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ShareGroups {
    /// Those to the same scheme, host and port.
    pub origin: ShareGroup,
    /// Those of the same organization.
    pub organization: ShareGroup,
}

/// How often what it leaves free a lane, an origin and an organization may hold.
const OF_LANE: usize = 1;
const OF_ORIGIN: usize = 2;
const OF_ORGANIZATION: usize = 7;

/// What is counted over lanes, so that nobody has to go through them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Totals {
    /// Messages that wait.
    pub(crate) waiting: usize,
    /// Of these, those in slow lanes.
    pub(crate) slow_waiting: usize,
    /// Messages that wait and were read from the backlog.
    pub(crate) from_backlog: usize,
    /// Requests in flight.
    pub(crate) in_flight: usize,
    /// Of these, those of slow lanes.
    pub(crate) slow_in_flight: usize,
    /// Lanes with something waiting or in flight.
    pub(crate) active: usize,
    /// Lanes that are slow.
    pub(crate) slow: usize,
    /// Of these, those whose breaker is not closed.
    pub(crate) open: usize,
}

/// The totals of all lanes, of each origin and of each organization that has a lane.
pub(super) struct Bulkhead {
    slots: usize,
    room: usize,
    pub(super) all: Totals,
    origins: HashMap<ShareGroup, Totals>,
    organizations: HashMap<ShareGroup, Totals>,
    /// Of each origin, where there are any.
    unanswered: HashMap<ShareGroup, SlowStart>,
    /// How often each origin may be called.
    rates: Option<RateLimiter<ShareGroup>>,
    /// When an origin may be called again for which a lane was passed over.
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

    /// A request of a lane among these starts.
    pub(super) fn started(&mut self, kin: ShareGroups, now: Instant) {
        self.unanswered.entry(kin.origin).or_default().start(now);
        if let Some(rates) = &mut self.rates {
            // It was asked whether there is room for it.
            let _ = rates.try_acquire(kin.origin, now);
        }
    }

    /// How long until the origin may be called once more.
    fn rate_wait(&self, kin: ShareGroups, now: Instant) -> Duration {
        let rates = self.rates.as_ref();
        rates.map_or(Duration::ZERO, |rates| rates.peek(&kin.origin, now))
    }

    /// When a lane may start that was passed over because of its origin's rate.
    pub(super) fn passed_over(&self) -> Option<Instant> {
        self.passed_over_until.get()
    }

    pub(super) fn forget_passed_over(&self) {
        self.passed_over_until.set(None);
    }

    /// It is over.
    pub(super) fn over(&mut self, kin: ShareGroups, took: Option<Duration>) {
        if let Some(unanswered) = self.unanswered.get_mut(&kin.origin) {
            unanswered.over(took);
            if unanswered.count == 0 {
                self.unanswered.remove(&kin.origin);
            }
        }
    }

    /// A lane with these totals is there from now on.
    pub(super) fn add(&mut self, kin: ShareGroups, of: Totals) {
        self.each(kin, |sum| sum.add(of));
    }

    /// It is not there any more.
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

    /// How many messages may come.
    pub(super) fn room(&self) -> usize {
        self.room.saturating_sub(self.all.waiting)
    }

    /// Whether any lane of this pace may start one.
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

    /// How many slots a slow lane may hold: few, unless nobody else wants any.
    pub(super) fn slow_share<M>(&self, lane: &SubscriptionQueue<M>) -> usize {
        match self.is_only(lane) {
            true => self.half(),
            false => self.leap(),
        }
    }

    fn is_only<M>(&self, lane: &SubscriptionQueue<M>) -> bool {
        self.all.active == usize::from(lane.is_active())
    }

    /// How many requests are started without an answer.
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

    /// Whether more waits for an origin that is silent, or has had its rate, than comes to its turn in a while. One
    /// that nobody is beside keeps half of the room: with all of it taken, nobody could come.
    pub(super) fn is_room_of_origin_exceeded(&self, kin: ShareGroups, now: Instant) -> bool {
        let most = match self.has_company(kin) {
            true => 8 * self.leap(),
            false => self.room.div_ceil(2),
        };
        let is_held_up = || self.is_silent(kin, now) || !self.rate_wait(kin, now).is_zero();
        self.groups(kin).0.waiting > most && is_held_up()
    }

    /// How many messages may wait in a lane. One whose breaker is not closed keeps the next probe.
    pub(super) fn limit<M>(&self, lane: &SubscriptionQueue<M>) -> usize {
        if !lane.breaker.is_closed() {
            1
        } else if lane.is_slow() {
            4 * self.slow_share(lane)
        } else if lane.is_quick() {
            self.room
        } else if !self.is_only(lane) {
            // Its receiver is unknown or takes its time: some place is left for others.
            self.room.div_ceil(2)
        } else if lane.last_took.is_none() {
            // Within a second it is known. Until then nothing is marked for others that may come.
            self.room
        } else {
            // With all of the room taken, messages for others could not come.
            self.room - self.room / 8
        }
    }

    /// Whether a lane has no use for more of its backlog before half of what waits has started.
    pub(super) fn is_full<M>(&self, lane: &SubscriptionQueue<M>) -> bool {
        2 * lane.queued() > self.limit(lane)
    }

    /// How many messages of its backlog a lane has a use for. Those of replays take a quarter of what waits.
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

    /// How many messages of the backlog a lane with a closed breaker has room for. All backlogs have half of the room:
    /// the other half is for what has just become due.
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

    /// Whether less is to wait in slow lanes: no more than come to their turn in a while, and never
    /// so many that the others have no place.
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

    /// What slow lanes may still take.
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

/// Whether one who holds `held` may take one more of what is free, weighed.
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
