//! Whose turn it is: a receiver that hangs must not take everybody's slots.
//!
//! Messages wait in one lane for each subscription, and lanes start requests in turns. A lane may
//! hold as many slots as are free besides: one alone gets half of them, and the more lanes are
//! busy the less each gets, so there is always one for a lane that has none. What hangs shows only
//! after a while, so lanes whose requests take more than a second are *slow* and get much less:
//! all of them together at most half of the slots, which leaves the others for the rest however
//! many receivers hang.
//!
//! What waits is bounded for each lane. The excess is handed back, to be put off for a while:
//! behind it in the queue are messages of others.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::time::{Duration, Instant};

use hookline_core::ids::SubscriptionId;

/// A lane is slow while a request of it takes longer, and until one has been faster.
const SLOW: Duration = Duration::from_secs(1);

/// A lane this quick empties whatever waits in it before others notice.
const QUICK: Duration = Duration::from_millis(100);

/// The longest time for which a message is put off.
const LONGEST: u64 = 60;

/// At least this many messages of a lane are put off for equally long.
const ALIKE: usize = 32;

/// How many slow lanes are remembered while nothing of them is here.
const REMEMBERED: usize = 4_096;

/// A message that has to wait elsewhere.
#[derive(Debug)]
pub(crate) struct Excess<M> {
    pub(crate) message: M,
    /// For how long, in whole seconds; longer the more of its lane were put off.
    pub(crate) delay: Duration,
}

/// A request in flight. They are numbered in the order of their starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Ticket(u64);

/// All lanes of a dispatcher.
pub(crate) struct Lanes<M> {
    slots: usize,
    /// How many messages may wait here.
    room: usize,
    lanes: HashMap<SubscriptionId, Lane<M>>,
    in_flight: BTreeMap<Ticket, (SubscriptionId, Instant)>,
    next_ticket: Ticket,
    /// Requests before this one have been in flight for longer than [`SLOW`].
    first_young: Ticket,
    totals: Totals,
    /// Lanes in which something waits, by whose turn it is.
    fast_turns: VecDeque<SubscriptionId>,
    slow_turns: VecDeque<SubscriptionId>,
    /// Fast and slow lanes take turns, too.
    slow_next: bool,
    excess: Vec<Excess<M>>,
}

struct Lane<M> {
    waiting: VecDeque<M>,
    in_flight: usize,
    /// How many of these have been in flight for longer than [`SLOW`].
    old: usize,
    last_took: Option<Duration>,
    /// How many were put off since a request was last started.
    put_off: usize,
}

/// What is counted over all lanes, so that nobody has to go through them.
#[derive(Default)]
struct Totals {
    waiting: usize,
    slow_waiting: usize,
    slow_in_flight: usize,
    /// Lanes with something waiting or in flight.
    active: usize,
}

impl<M> Default for Lane<M> {
    fn default() -> Self {
        Self {
            waiting: VecDeque::new(),
            in_flight: 0,
            old: 0,
            last_took: None,
            put_off: 0,
        }
    }
}

impl<M> Lane<M> {
    fn is_slow(&self) -> bool {
        self.old > 0 || self.last_took.is_some_and(|took| took > SLOW)
    }

    fn is_quick(&self) -> bool {
        self.old == 0 && self.last_took.is_some_and(|took| took <= QUICK)
    }

    fn is_active(&self) -> bool {
        self.in_flight > 0 || !self.waiting.is_empty()
    }

    fn totals(&self) -> Totals {
        let (waiting, slow) = (self.waiting.len(), self.is_slow());
        Totals {
            waiting,
            slow_waiting: if slow { waiting } else { 0 },
            slow_in_flight: if slow { self.in_flight } else { 0 },
            active: usize::from(self.is_active()),
        }
    }
}

impl<M> Lanes<M> {
    pub(crate) fn new(slots: usize, room: usize) -> Self {
        Self {
            slots,
            room,
            lanes: HashMap::new(),
            in_flight: BTreeMap::new(),
            next_ticket: Ticket(0),
            first_young: Ticket(0),
            totals: Totals::default(),
            fast_turns: VecDeque::new(),
            slow_turns: VecDeque::new(),
            slow_next: false,
            excess: Vec::new(),
        }
    }

    /// How many more messages may come.
    pub(crate) fn room(&self) -> usize {
        self.room.saturating_sub(self.totals.waiting)
    }

    /// Puts a message at the end of its lane; it may come out as excess at once.
    pub(crate) fn push(&mut self, subscription: SubscriptionId, message: M) {
        self.change(subscription, |lane| lane.waiting.push_back(message));
        self.trim(subscription);
        if self.totals.waiting > self.room {
            self.put_off_last(subscription);
        }
    }

    /// The next message whose request may start, which holds a slot from now on.
    pub(crate) fn next(&mut self, now: Instant) -> Option<(Ticket, M)> {
        self.grow_older(now);
        let slow_next = self.slow_next;
        let found = self
            .next_of(slow_next)
            .map(|found| (slow_next, found))
            .or_else(|| Some((!slow_next, self.next_of(!slow_next)?)));
        let (slow, subscription) = found?;
        self.slow_next = !slow;
        let message = self.change(subscription, |lane| {
            let message = lane.waiting.pop_front()?;
            lane.in_flight += 1;
            lane.put_off = 0;
            Some(message)
        })?;
        let turns = self.turns(slow);
        if turns.front() == Some(&subscription) {
            turns.rotate_left(1);
        }
        let ticket = self.next_ticket;
        self.next_ticket = Ticket(ticket.0 + 1);
        self.in_flight.insert(ticket, (subscription, now));
        Some((ticket, message))
    }

    /// Gives the slot back. `took` is how long the receiver took, if there was a request at all.
    pub(crate) fn finished(&mut self, ticket: Ticket, took: Option<Duration>) {
        let Some((subscription, _)) = self.in_flight.remove(&ticket) else {
            return;
        };
        let old = ticket < self.first_young;
        self.change(subscription, |lane| {
            lane.in_flight -= 1;
            lane.old -= usize::from(old);
            lane.last_took = took.or(lane.last_took);
        });
        self.trim(subscription);
    }

    /// What has no place here any more.
    pub(crate) fn take_excess(&mut self) -> Vec<Excess<M>> {
        std::mem::take(&mut self.excess)
    }

    /// When a lane may become slow, if that matters to what waits.
    pub(crate) fn next_change(&self) -> Option<Instant> {
        let (_, (_, started)) = self.in_flight.range(self.first_young..).next()?;
        (self.totals.waiting > 0).then(|| *started + SLOW + Duration::from_millis(1))
    }

    /// All that waits, for the end.
    pub(crate) fn drain(&mut self) -> Vec<M> {
        let excess = self.excess.drain(..).map(|excess| excess.message);
        let waiting = self.lanes.drain().flat_map(|(_, lane)| lane.waiting);
        excess.chain(waiting).collect()
    }

    /// Notices the requests that take long, in the order of their starts.
    fn grow_older(&mut self, now: Instant) {
        while let Some((&ticket, &(subscription, started))) =
            self.in_flight.range(self.first_young..).next()
        {
            if now.saturating_duration_since(started) <= SLOW {
                break;
            }
            self.first_young = Ticket(ticket.0 + 1);
            self.change(subscription, |lane| lane.old += 1);
            self.trim(subscription);
        }
    }

    /// Brings the lane whose turn it is to the front. Those that may not start one have some in
    /// flight or are slow, so few are passed over.
    fn next_of(&mut self, slow: bool) -> Option<SubscriptionId> {
        if self.free() == 0 || slow && self.totals.slow_in_flight >= self.half() {
            return None;
        }
        for _ in 0..self.turns(slow).len() {
            let subscription = *self.turns(slow).front()?;
            if self.may_start(subscription) {
                return Some(subscription);
            }
            self.turns(slow).rotate_left(1);
        }
        None
    }

    fn may_start(&self, subscription: SubscriptionId) -> bool {
        let Some(lane) = self.lanes.get(&subscription) else {
            return false;
        };
        let spares_others = lane.in_flight == 0 || lane.in_flight < self.free();
        spares_others && (!lane.is_slow() || lane.in_flight < self.slow_share(lane))
    }

    fn free(&self) -> usize {
        self.slots - self.in_flight.len()
    }

    fn half(&self) -> usize {
        (self.slots / 2).max(1)
    }

    /// How many slots a slow lane may hold: few, unless nobody else wants any.
    fn slow_share(&self, lane: &Lane<M>) -> usize {
        match self.totals.active - usize::from(lane.is_active()) {
            0 => self.half(),
            _ => (self.slots / 16).max(1),
        }
    }

    /// How many messages may wait in a lane.
    fn limit(&self, lane: &Lane<M>) -> usize {
        if lane.is_slow() {
            4 * self.slow_share(lane)
        } else if lane.is_quick() {
            self.room
        } else {
            // Nobody knows yet, or it takes its time: some place is left for others.
            self.room.div_ceil(2)
        }
    }

    /// How many messages may wait in all slow lanes together: no more than come to their turn in a
    /// while, and never so many that the others have no place.
    fn slow_room(&self) -> usize {
        self.room.div_ceil(2).min(4 * self.half())
    }

    /// Takes out what a lane has too much of, the newest first.
    fn trim(&mut self, subscription: SubscriptionId) {
        while let Some(lane) = self.lanes.get(&subscription)
            && (lane.waiting.len() > self.limit(lane)
                || lane.is_slow()
                    && !lane.waiting.is_empty()
                    && self.totals.slow_waiting > self.slow_room())
        {
            self.put_off_last(subscription);
        }
    }

    fn put_off_last(&mut self, subscription: SubscriptionId) {
        let alike = match self.lanes.get(&subscription) {
            Some(lane) if lane.is_slow() => self.slow_share(lane),
            _ => self.half(),
        }
        .max(ALIKE);
        let last = self.change(subscription, |lane| {
            let message = lane.waiting.pop_back()?;
            let doublings = (lane.put_off / alike).min(6);
            lane.put_off += 1;
            let delay = Duration::from_secs((1 << doublings).min(LONGEST));
            Some(Excess { message, delay })
        });
        self.excess.extend(last);
    }

    /// Changes a lane and with it all that is said about lanes. One of which nothing is here and
    /// nothing is worth remembering takes no place.
    fn change<R>(
        &mut self,
        subscription: SubscriptionId,
        change: impl FnOnce(&mut Lane<M>) -> R,
    ) -> R {
        let lane = self.lanes.entry(subscription).or_default();
        let (before, had_turn) = (lane.totals(), turn(lane));
        let result = change(lane);
        let (after, has_turn) = (lane.totals(), turn(lane));
        let forget = !lane.is_active() && !lane.is_slow();
        let totals = &mut self.totals;
        totals.waiting = totals.waiting + after.waiting - before.waiting;
        totals.slow_waiting = totals.slow_waiting + after.slow_waiting - before.slow_waiting;
        totals.slow_in_flight =
            totals.slow_in_flight + after.slow_in_flight - before.slow_in_flight;
        totals.active = totals.active + after.active - before.active;
        if had_turn != has_turn {
            if let Some(slow) = had_turn {
                leave(self.turns(slow), subscription);
            }
            if let Some(slow) = has_turn {
                self.turns(slow).push_back(subscription);
            }
        }
        if forget {
            self.lanes.remove(&subscription);
        } else if self.lanes.len() > self.totals.active + REMEMBERED {
            self.lanes.retain(|_, lane| lane.is_active());
        }
        result
    }

    fn turns(&mut self, slow: bool) -> &mut VecDeque<SubscriptionId> {
        match slow {
            true => &mut self.slow_turns,
            false => &mut self.fast_turns,
        }
    }
}

/// Among the slow ones, the fast ones, or none because nothing waits.
fn turn<M>(lane: &Lane<M>) -> Option<bool> {
    (!lane.waiting.is_empty()).then(|| lane.is_slow())
}

/// Usually it is its turn; a lane that becomes slow or fast leaves from anywhere.
fn leave(turns: &mut VecDeque<SubscriptionId>, subscription: SubscriptionId) {
    if turns.front() == Some(&subscription) {
        turns.pop_front();
    } else {
        turns.retain(|other| *other != subscription);
    }
}

#[cfg(test)]
mod tests;
