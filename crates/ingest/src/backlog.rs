//! Events that are read and wait to be taken in, by organization.
//!
//! Organizations take turns (round robin), and a turn is a slice: bounded by the deliveries and bytes that
//! its transaction writes, not by the number of messages. An organization whose events make many deliveries
//! is *broad* while they wait. It has its slices to itself, so that an event of another organization shares
//! neither a transaction nor a confirmation with them. An organization that is failing (`failing`) has its
//! slices to itself, too.

mod failing;

use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet, VecDeque};
use std::time::{Duration, Instant};

use hookline_core::ids::OrganizationId;
use hookline_core::quarantine::{LoneFailures, Verdict};
use hookline_store::IncomingEvent;

pub(crate) use self::failing::PUT_OFF;
use self::failing::{Failing, backoff};

/// How many deliveries a transaction makes, unless a single event makes more.
pub(crate) const DELIVERIES: usize = 1_000;

/// How many bytes of events a transaction writes, unless a single event has more.
const BYTES: usize = 4 * 1024 * 1024;

/// With more deliveries waiting than this an organization is broad.
const BROAD: usize = 256;

/// How many slices of one organization are under way: one is committed while the other is handed on.
const UNDER_WAY: usize = 2;

/// How many of a broad organization while others have events, too. A small transaction waits for fewer
/// large ones then.
const UNDER_WAY_BESIDE_OTHERS: usize = 1;

/// For how long another organization that had events counts as present: the next of its events may come
/// at any moment.
const PRESENT: Duration = Duration::from_secs(10);

/// Beyond this an organization's further messages wait elsewhere: what is in hand keeps the broker from
/// giving out the messages behind it, which may be other organizations'.
const CROWDED_DELIVERIES: usize = 20_000;
const CROWDED_BYTES: usize = 8 * 1024 * 1024;

/// About how many deliveries of a crowded organization are handed on in a second.
const DRAINED_PER_SECOND: usize = 5_000;

/// The longest wait while nothing is written. Work goes on soon after the store is back.
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// After so long a failure is the rows' even if no others are written, where the store can be written: each
/// slice may have an event at fault in it.
const OF_THE_ROWS_AFTER: Duration = Duration::from_secs(2);

/// How many held events of one organization stay in hand. The others are put off, and so is what waits of an
/// organization that is stuck, but for one event.
const HELD_OF_ONE: usize = 4;

/// An event that waits.
#[derive(Debug, Clone)]
pub(crate) struct Waiting {
    /// The message that it came in, as `hand` counts them.
    pub(crate) message: u64,
    pub(crate) event: IncomingEvent,
    /// How many deliveries it makes, as far as is known.
    pub(crate) deliveries: usize,
    /// Its failures in transactions of its own.
    pub(crate) alone: LoneFailures,
    pub(crate) tries_alone: u32,
}

impl Waiting {
    pub(crate) fn new(message: u64, event: IncomingEvent, deliveries: usize) -> Self {
        Self {
            message,
            event,
            deliveries,
            alone: LoneFailures::default(),
            tries_alone: 0,
        }
    }

    fn organization(&self) -> &OrganizationId {
        &self.event.event.organization
    }

    /// An event without deliveries is work, too.
    fn weight(&self) -> usize {
        self.deliveries.max(1)
    }

    fn bytes(&self) -> usize {
        self.event.event.body.len()
    }

    fn kind(&self) -> Kind {
        match self.deliveries {
            0 => Kind::EventsAlone,
            _ => Kind::WithDeliveries,
        }
    }
}

/// What a transaction writes: the rows of deliveries may fail where those of events do not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    EventsAlone,
    WithDeliveries,
}

/// How large the fan-out of a slice's organizations is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Size {
    Small,
    Broad,
}

/// What one transaction takes in.
#[derive(Debug)]
pub(crate) struct Slice {
    pub(crate) events: Vec<Waiting>,
    pub(crate) organizations: Vec<OrganizationId>,
    pub(crate) size: Size,
    /// It may hold up the store: see [`Backlog::is_held_up`].
    pub(crate) is_slow: bool,
}

/// A transaction that failed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Failure {
    pub(crate) began: Instant,
    pub(crate) ended: Instant,
    pub(crate) is_transient: bool,
    /// What the store's write probe says.
    pub(crate) can_be_written: bool,
    /// Its slice was.
    pub(crate) is_slow: bool,
}

/// What becomes of the events of a transaction that failed: they wait again, but for these.
#[derive(Debug, Default)]
pub(crate) struct Refusal {
    /// For how long, at least.
    pub(crate) wait: Duration,
    /// The event that is put aside.
    pub(crate) at_fault: Option<Waiting>,
    /// Messages that are put off.
    pub(crate) put_off: HashSet<u64>,
    /// The organization of which nothing is taken, once.
    pub(crate) stuck: Option<OrganizationId>,
}

/// All that waits.
#[derive(Debug)]
pub(crate) struct Backlog {
    organizations: HashMap<OrganizationId, Queue>,
    /// Those with events waiting, the one whose turn is next first.
    order: VecDeque<OrganizationId>,
    /// When two organizations last had events at the same time.
    shared: Option<Instant>,
    /// When events were last written.
    written: Option<Instant>,
    /// When a failure last showed that the store could not be written.
    unwritable: Option<Instant>,
    /// Nothing is begun before.
    pause: Option<Instant>,
    /// How many slices have failed since one succeeded.
    failures: u32,
    /// A slice of an organization that has failed by itself is in the store. Those of others like it wait, for
    /// each may take as long as the store takes to give up.
    is_held_up: bool,
    /// How many held events stay in hand at most.
    most_held: usize,
    /// What is known of failing organizations of which nothing is in hand, because all of it was put off.
    away: HashMap<OrganizationId, Failing>,
}

#[derive(Debug, Default)]
struct Queue {
    events: VecDeque<Waiting>,
    weight: usize,
    bytes: usize,
    under_way: usize,
    failing: Option<Failing>,
}

/// What a slice may still take.
struct Room {
    events: usize,
    weight: usize,
    bytes: usize,
}

impl Backlog {
    /// With so many messages in hand at most.
    pub(crate) fn new(in_hand: usize) -> Self {
        Self {
            organizations: HashMap::new(),
            order: VecDeque::new(),
            shared: None,
            written: None,
            unwritable: None,
            pause: None,
            failures: 0,
            is_held_up: false,
            most_held: in_hand / 4,
            away: HashMap::new(),
        }
    }

    pub(crate) fn push(&mut self, waiting: Waiting, now: Instant) {
        let owner = waiting.organization();
        if !self.organizations.contains_key(owner) {
            let queue = Queue {
                failing: self.away.remove(owner).filter(|one| one.lasts(now)),
                ..Queue::default()
            };
            self.organizations.insert(owner.clone(), queue);
        }
        if self.organizations.len() > 1 {
            self.shared = Some(now);
        }
        let is_under_way = |one| matches!(self.organizations.get(one), Some(q) if q.under_way > 0);
        // Ahead of the organizations that have a slice under way already.
        let place = self.order.iter().position(is_under_way);
        if let Some(queue) = self.organizations.get_mut(owner) {
            if !queue.waits() {
                let place = place.filter(|_| queue.under_way == 0);
                self.order
                    .insert(place.unwrap_or(self.order.len()), owner.clone());
            }
            queue.push(waiting);
        }
    }

    /// How long further messages of an organization wait elsewhere, if too much of it waits here.
    pub(crate) fn crowded_for(&self, owner: &OrganizationId) -> Option<Duration> {
        let queue = self.organizations.get(owner)?;
        if let Some(failing) = &queue.failing
            && failing.is_stuck()
            && !queue.events.is_empty()
        {
            return Some(PUT_OFF);
        }
        let is_crowded = queue.weight >= CROWDED_DELIVERIES || queue.bytes >= CROWDED_BYTES;
        let seconds = (queue.weight / DRAINED_PER_SECOND).clamp(1, 60);
        is_crowded.then(|| Duration::from_secs(seconds as u64))
    }

    /// Whether a slice can be begun.
    pub(crate) fn has_turn(&self, now: Instant) -> bool {
        !self.is_paused(now) && self.order.iter().any(|owner| self.is_admitted(owner, now))
    }

    /// When to ask again whether a slice can be begun, where that may change by itself.
    pub(crate) fn due(&self, now: Instant) -> Option<Instant> {
        let of_organizations = self.order.iter().filter_map(|owner| {
            let queue = self.organizations.get(owner)?;
            queue.failing.as_ref()?.due(!queue.events.is_empty())
        });
        of_organizations
            .chain(self.pause)
            .filter(|at| *at > now)
            .min()
    }

    /// The next slice, of at most so many events. Its organizations have one more under way until
    /// [`Backlog::over`].
    pub(crate) fn next(&mut self, events: usize, now: Instant) -> Option<Slice> {
        if self.is_paused(now) {
            return None;
        }
        let mut room = Room {
            events,
            weight: DELIVERIES,
            bytes: BYTES,
        };
        let mut slice = Slice {
            events: Vec::new(),
            organizations: Vec::new(),
            size: Size::Small,
            is_slow: false,
        };
        let mut is_apart = false;
        for owner in std::mem::take(&mut self.order) {
            let admitted = self.is_admitted(&owner, now);
            let is_first = slice.events.is_empty();
            let Some(queue) = self.organizations.get_mut(&owner) else {
                continue;
            };
            let has_company = !is_apart && slice.size == Size::Small;
            if admitted && has_company && (is_first || queue.shares_slices()) {
                if queue.is_broad() {
                    slice.size = Size::Broad;
                }
                is_apart = queue.is_apart();
                slice.is_slow = queue.is_slow();
                let taken = queue.take(&mut room, &mut slice.events, now);
                if taken > 0 {
                    queue.under_way += 1;
                    slice.organizations.push(owner.clone());
                }
            }
            if queue.waits() {
                self.order.push_back(owner);
            }
        }
        self.is_held_up |= slice.is_slow;
        // An organization that had its turn waits for the turns of all others.
        let had_turn = |owner: &OrganizationId| slice.organizations.contains(owner);
        let (last, first): (Vec<_>, Vec<_>) = self.order.drain(..).partition(had_turn);
        self.order.extend(first.into_iter().chain(last));
        (!slice.events.is_empty()).then_some(slice)
    }

    /// A transaction of a slice was committed. `written` says what it has written that was new.
    pub(crate) fn taken_in(
        &mut self,
        organizations: &[OrganizationId],
        is_slow: bool,
        written: Option<Kind>,
        now: Instant,
    ) {
        self.is_held_up &= !is_slow;
        (self.pause, self.failures) = (None, 0);
        if written.is_some() {
            self.written = Some(now);
        }
        for owner in organizations {
            if let Some(queue) = self.organizations.get_mut(owner)
                && let Some(failing) = &mut queue.failing
            {
                failing.succeeded(written, now);
                if !failing.is_slow() {
                    queue.failing = None;
                }
            }
        }
    }

    /// A transaction failed. Where that says nothing about its rows, nothing is begun for a moment. Else
    /// events of several organizations are parted, those of one are tried one at a time first, and an event
    /// that was alone in it is held.
    pub(crate) fn not_taken(&mut self, events: Vec<Waiting>, failure: Failure) -> Refusal {
        self.is_held_up &= !failure.is_slow;
        if events.is_empty() {
            return Refusal::default();
        }
        let owners: HashSet<OrganizationId> = events
            .iter()
            .map(|one| one.organization().clone())
            .collect();
        if !failure.can_be_written {
            self.unwritable = Some(failure.ended);
        }
        if !self.is_of_the_rows(&owners, failure) {
            let wait = backoff(self.failures, LONGEST_PAUSE);
            self.failures += 1;
            self.pause = Some(failure.ended + wait);
            self.give_back(events);
            return Refusal {
                wait,
                ..Refusal::default()
            };
        }
        self.away.retain(|_, failing| failing.lasts(failure.ended));
        let is_retry = events.iter().any(|one| one.tries_alone > 0);
        let unwritable = self.unwritable;
        for owner in &owners {
            if let Some(failing) = self.failing(owner) {
                let lasts = failing.lasts_for(failure, unwritable);
                failing.failed(owners.len() == 1, is_retry, lasts, failure.ended);
            }
        }
        let mut refusal = match <[Waiting; 1]>::try_from(events) {
            Ok([one]) => self.failed_alone(one, failure),
            Err(events) => {
                self.give_back(events);
                Refusal::default()
            }
        };
        for owner in owners {
            self.put_off(owner, failure.ended, &mut refusal);
        }
        refusal
    }

    /// Whether others are written where these are not.
    fn is_of_the_rows(&mut self, owners: &HashSet<OrganizationId>, failure: Failure) -> bool {
        let (written, unwritable) = (self.written, self.unwritable);
        let mut is_of_the_rows = !failure.is_transient;
        for owner in owners {
            if let Some(failing) = self.failing(owner) {
                let first = failing.first_failure.get_or_insert(failure).ended;
                let lasts = failing.lasts_for(failure, unwritable) >= OF_THE_ROWS_AFTER;
                is_of_the_rows |= written > Some(first)
                    || (failure.can_be_written && (lasts || failing.is_apart));
            }
        }
        is_of_the_rows
    }

    fn failed_alone(&mut self, mut one: Waiting, failure: Failure) -> Refusal {
        let now = failure.ended;
        let held: usize = self.organizations.values().map(Queue::held).sum();
        let has_place = held < self.most_held.max(1);
        let most_of_one = HELD_OF_ONE.min(self.most_held / 4).max(1);
        let owner = one.organization().clone();
        let mut refusal = Refusal::default();
        let Some(failing) = self.failing(&owner) else {
            return refusal;
        };
        let verdict = one.alone.failed(now, failing.written(one.kind()));
        if !failure.is_transient || verdict == Verdict::PutAside {
            refusal.at_fault = Some(one);
            return refusal;
        }
        refusal.wait = backoff(one.tries_alone, failing::LONGEST_WAIT);
        one.tries_alone += 1;
        if has_place && failing.held.len() < most_of_one {
            failing.held.push((now + refusal.wait, one));
            if !self.order.contains(&owner) {
                self.order.push_back(owner);
            }
        } else {
            refusal.put_off.insert(one.message);
        }
        refusal
    }

    /// What waits of an organization that is stuck leaves, but for one event.
    fn put_off(&mut self, owner: OrganizationId, now: Instant, refusal: &mut Refusal) {
        let Some(queue) = self.organizations.get_mut(&owner) else {
            return;
        };
        if let Some(failing) = &mut queue.failing
            && failing.is_stuck()
        {
            let excess = queue.events.iter().skip(1);
            refusal.put_off.extend(excess.map(|one| one.message));
            refusal.stuck = failing.tells(now).then_some(owner);
        }
    }

    /// They wait again, in front of the others of their organizations.
    fn give_back(&mut self, events: Vec<Waiting>) {
        for one in events.into_iter().rev() {
            let owner = one.organization();
            if !self.order.contains(owner) {
                self.order.push_back(owner.clone());
            }
            let queue = self.organizations.entry(owner.clone()).or_default();
            queue.put_in_front(one);
        }
    }

    fn failing(&mut self, owner: &OrganizationId) -> Option<&mut Failing> {
        let queue = self.organizations.get_mut(owner)?;
        Some(queue.failing.get_or_insert_default())
    }

    /// A slice of these organizations is over.
    pub(crate) fn over(&mut self, organizations: &[OrganizationId]) {
        for owner in organizations {
            if let Some(queue) = self.organizations.get_mut(owner) {
                queue.under_way = queue.under_way.saturating_sub(1);
            }
        }
        self.leave_if_empty(organizations);
    }

    /// Forgets what waits of these messages.
    pub(crate) fn forget(&mut self, messages: &HashSet<u64>) {
        for queue in self.organizations.values_mut() {
            queue.forget(messages);
        }
        let all: Vec<OrganizationId> = self.organizations.keys().cloned().collect();
        self.leave_if_empty(&all);
        let organizations = &self.organizations;
        self.order
            .retain(|owner| organizations.get(owner).is_some_and(Queue::waits));
    }

    fn leave_if_empty(&mut self, organizations: &[OrganizationId]) {
        for owner in organizations {
            let is_empty = |queue: &mut Queue| !queue.waits() && queue.under_way == 0;
            let Entry::Occupied(mut entry) = self.organizations.entry(owner.clone()) else {
                continue;
            };
            if is_empty(entry.get_mut())
                && let Some(failing) = entry.remove().failing
                && failing.is_stuck()
            {
                self.away.insert(owner.clone(), failing);
            }
        }
    }

    /// Forgets all that waits.
    pub(crate) fn clear(&mut self) {
        self.order.clear();
        for queue in self.organizations.values_mut() {
            *queue = Queue {
                under_way: queue.under_way,
                ..Queue::default()
            };
        }
    }

    fn is_paused(&self, now: Instant) -> bool {
        self.pause.is_some_and(|until| until > now)
    }

    fn is_admitted(&self, owner: &OrganizationId, now: Instant) -> bool {
        let Some(queue) = self.organizations.get(owner) else {
            return false;
        };
        if let Some(failing) = &queue.failing
            && failing.is_apart
        {
            let is_due = failing.is_due(!queue.events.is_empty(), now);
            let is_held_up = self.is_held_up && queue.is_slow();
            return is_due && queue.under_way == 0 && !is_held_up;
        }
        let is_shared = self
            .shared
            .is_some_and(|at| now.duration_since(at) < PRESENT);
        let most = match queue.is_broad() && is_shared {
            true => UNDER_WAY_BESIDE_OTHERS,
            false => UNDER_WAY,
        };
        queue.under_way < most
    }
}

impl Queue {
    fn push(&mut self, waiting: Waiting) {
        self.weight += waiting.weight();
        self.bytes += waiting.bytes();
        self.events.push_back(waiting);
    }

    fn put_in_front(&mut self, waiting: Waiting) {
        self.weight += waiting.weight();
        self.bytes += waiting.bytes();
        self.events.push_front(waiting);
    }

    fn waits(&self) -> bool {
        !self.events.is_empty() || self.held() > 0
    }

    fn held(&self) -> usize {
        self.failing
            .as_ref()
            .map_or(0, |failing| failing.held.len())
    }

    fn is_apart(&self) -> bool {
        self.failing.as_ref().is_some_and(|one| one.is_apart)
    }

    fn is_slow(&self) -> bool {
        self.failing.as_ref().is_some_and(Failing::is_slow)
    }

    fn is_broad(&self) -> bool {
        self.weight > BROAD
    }

    fn shares_slices(&self) -> bool {
        !self.is_broad() && !self.is_apart()
    }

    /// Takes what there is room for, and says how many. The first event of a slice needs no room.
    fn take(&mut self, room: &mut Room, slice: &mut Vec<Waiting>, now: Instant) -> usize {
        let before = slice.len();
        if let Some(failing) = &mut self.failing {
            if let Some(held) = failing.next_held(!self.events.is_empty(), now) {
                slice.push(held);
                return 1;
            }
            room.events = room.events.min(failing.limit);
        }
        while let Some(next) = self.events.pop_front_if(|next| {
            slice.is_empty()
                || (room.events > 0 && next.weight() <= room.weight && next.bytes() <= room.bytes)
        }) {
            self.weight -= next.weight();
            self.bytes -= next.bytes();
            room.events = room.events.saturating_sub(1);
            room.weight = room.weight.saturating_sub(next.weight());
            room.bytes = room.bytes.saturating_sub(next.bytes());
            slice.push(next);
        }
        slice.len() - before
    }

    fn forget(&mut self, messages: &HashSet<u64>) {
        self.events.retain(|one| !messages.contains(&one.message));
        self.weight = self.events.iter().map(Waiting::weight).sum();
        self.bytes = self.events.iter().map(Waiting::bytes).sum();
        if let Some(failing) = &mut self.failing {
            failing.forget(messages);
        }
    }
}

#[cfg(test)]
mod tests;
