//! Decoded events that wait to be stored, by organization.
//!
//! Organizations take turns (round robin), and a turn is a slice: bounded by the deliveries and bytes that its
//! transaction writes, not by the number of messages. An organization with many waiting deliveries is *broad*. It has
//! its slices to itself, so that no event of another organization shares a transaction with them. An organization that
//! is failing (`failing_organization`) has its slices to itself, too.

mod failing_organization;
mod organization_queue;
pub(crate) mod slice;

use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet, VecDeque};
use std::time::{Duration, Instant};

use hookline_core::ids::OrganizationId;
use hookline_core::row_failures::RowVerdict;

pub(crate) use self::failing_organization::DEFER_FOR;
use self::failing_organization::{FailingOrganization, MAX_WAIT, RowFailure, backoff};
use self::organization_queue::{OrganizationQueue, SliceRoom};
use self::slice::{
    FailureConsequence, FanOutSize, MAX_BYTES, MAX_DELIVERIES, Slice, SliceFailure, WaitingEvent,
    WriteKind,
};

/// Slices of one organization in flight: one is committed while the next is prepared.
const MAX_IN_FLIGHT: usize = 2;

/// Slices of a broad organization in flight while others have events. The small transactions of the others then wait
/// for fewer large ones.
const MAX_IN_FLIGHT_BESIDE_OTHERS: usize = 1;

/// How long another organization that had events counts as present, because its next event may come at any moment.
const PRESENT_FOR: Duration = Duration::from_secs(10);

/// Above this, further messages of an organization are deferred: unsettled messages keep the broker from delivering the
/// messages behind them, which may belong to other organizations.
const CROWDED_DELIVERIES: usize = 20_000;
const CROWDED_BYTES: usize = 8 * 1024 * 1024;

/// Approximate deliveries of a crowded organization that are stored per second.
const DRAINED_PER_SECOND: usize = 5_000;

/// The longest pause while nothing can be written, so that work goes on soon after the store is back.
const MAX_PAUSE: Duration = Duration::from_secs(1);

/// After this time a failure is the fault of the rows if the store can be written. No other rows need to succeed,
/// because each slice may contain a faulty event.
const BLAME_ROWS_AFTER: Duration = Duration::from_secs(2);

/// Held events of one organization. Further ones are deferred, and so are the waiting events of a stuck organization,
/// except one.
const MAX_HELD_OF_ONE: usize = 4;

#[derive(Debug)]
pub(crate) struct EventBacklog {
    organizations: HashMap<OrganizationId, OrganizationQueue>,
    /// Organizations with waiting events, in the order of their turns.
    order: VecDeque<OrganizationId>,
    /// When two organizations last had events at the same time.
    shared: Option<Instant>,
    /// When events were last written.
    written: Option<Instant>,
    /// When a failure last showed that the store could not be written.
    unwritable: Option<Instant>,
    /// No slice is begun before.
    pause: Option<Instant>,
    /// Slices that failed since one succeeded.
    failures: u32,
    /// A slow slice is in the store. Other slow slices wait, because each may take as long as the store's timeout.
    is_held_up: bool,
    /// Held events of all organizations.
    max_held: usize,
    /// Stuck organizations without unsettled messages, because all were deferred.
    away: HashMap<OrganizationId, FailingOrganization>,
}

impl EventBacklog {
    /// A backlog for at most this many unsettled messages.
    pub(crate) fn new(max_unacked: usize) -> Self {
        Self {
            organizations: HashMap::new(),
            order: VecDeque::new(),
            shared: None,
            written: None,
            unwritable: None,
            pause: None,
            failures: 0,
            is_held_up: false,
            max_held: max_unacked / 4,
            away: HashMap::new(),
        }
    }

    pub(crate) fn push(&mut self, waiting: WaitingEvent, now: Instant) {
        let owner = waiting.organization();
        if !self.organizations.contains_key(owner) {
            let queue = OrganizationQueue {
                failing: self.away.remove(owner).filter(|one| one.is_remembered(now)),
                ..OrganizationQueue::default()
            };
            self.organizations.insert(owner.clone(), queue);
        }
        if self.organizations.len() > 1 {
            self.shared = Some(now);
        }
        let is_in_flight = |one| matches!(self.organizations.get(one), Some(q) if q.in_flight > 0);
        // The organization goes in front of those that have a slice in flight.
        let place = self.order.iter().position(is_in_flight);
        if let Some(queue) = self.organizations.get_mut(owner) {
            if !queue.waits() {
                let place = place.filter(|_| queue.in_flight == 0);
                self.order
                    .insert(place.unwrap_or(self.order.len()), owner.clone());
            }
            queue.push(waiting);
        }
    }

    /// How long further messages of an organization are deferred, if too many of its events wait here.
    pub(crate) fn delay_if_crowded(&self, owner: &OrganizationId) -> Option<Duration> {
        let queue = self.organizations.get(owner)?;
        if let Some(failing) = &queue.failing
            && failing.is_stuck()
            && !queue.events.is_empty()
        {
            return Some(DEFER_FOR);
        }
        let is_crowded = queue.weight >= CROWDED_DELIVERIES || queue.bytes >= CROWDED_BYTES;
        let seconds = (queue.weight / DRAINED_PER_SECOND).clamp(1, 60);
        is_crowded.then(|| Duration::from_secs(seconds as u64))
    }

    /// Whether a slice can be begun.
    pub(crate) fn has_turn(&self, now: Instant) -> bool {
        !self.is_paused(now) && self.order.iter().any(|owner| self.is_admitted(owner, now))
    }

    /// The time when [`EventBacklog::has_turn`] may change without an event.
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

    /// The next slice, of at most this many events. It counts as in flight until [`EventBacklog::slice_ended`].
    pub(crate) fn next(&mut self, events: usize, now: Instant) -> Option<Slice> {
        if self.is_paused(now) {
            return None;
        }
        let mut room = SliceRoom {
            events,
            weight: MAX_DELIVERIES,
            bytes: MAX_BYTES,
        };
        let mut slice = Slice {
            events: Vec::new(),
            organizations: Vec::new(),
            size: FanOutSize::Small,
            is_slow: false,
        };
        let mut is_apart = false;
        for owner in std::mem::take(&mut self.order) {
            let admitted = self.is_admitted(&owner, now);
            let is_first = slice.events.is_empty();
            let Some(queue) = self.organizations.get_mut(&owner) else {
                continue;
            };
            let has_company = !is_apart && slice.size == FanOutSize::Small;
            if admitted && has_company && (is_first || queue.shares_slices()) {
                if queue.is_broad() {
                    slice.size = FanOutSize::Broad;
                }
                is_apart = queue.is_apart();
                slice.is_slow = queue.is_slow();
                let taken = queue.take(&mut room, &mut slice.events, now);
                if taken > 0 {
                    queue.in_flight += 1;
                    slice.organizations.push(owner.clone());
                }
            }
            if queue.waits() {
                self.order.push_back(owner);
            }
        }
        self.is_held_up |= slice.is_slow;
        // An organization that had its turn goes behind all others.
        let had_turn = |owner: &OrganizationId| slice.organizations.contains(owner);
        let (last, first): (Vec<_>, Vec<_>) = self.order.drain(..).partition(had_turn);
        self.order.extend(first.into_iter().chain(last));
        (!slice.events.is_empty()).then_some(slice)
    }

    /// A transaction of a slice was committed. `written` is none if all of its events were stored before.
    pub(crate) fn committed(
        &mut self,
        organizations: &[OrganizationId],
        is_slow: bool,
        written: Option<WriteKind>,
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

    /// A transaction failed. If that is not the fault of its rows, no slice is begun for a moment. Else each
    /// organization gets separate slices. The slices of a single organization begin with one event. An event that was
    /// alone is held.
    pub(crate) fn failed(
        &mut self,
        events: Vec<WaitingEvent>,
        failure: SliceFailure,
    ) -> FailureConsequence {
        self.is_held_up &= !failure.is_slow;
        if events.is_empty() {
            return FailureConsequence::default();
        }
        let owners: HashSet<OrganizationId> = events
            .iter()
            .map(|one| one.organization().clone())
            .collect();
        if !failure.can_be_written {
            self.unwritable = Some(failure.ended);
        }
        if !self.is_fault_of_rows(&owners, failure) {
            let wait = backoff(self.failures, MAX_PAUSE);
            self.failures += 1;
            self.pause = Some(failure.ended + wait);
            self.return_events(events);
            return FailureConsequence {
                wait,
                ..FailureConsequence::default()
            };
        }
        self.away
            .retain(|_, failing| failing.is_remembered(failure.ended));
        let is_retry = events.iter().any(|one| one.attempts_alone > 0);
        let unwritable = self.unwritable;
        for owner in &owners {
            if let Some(failing) = self.failing(owner) {
                let row_failure = RowFailure {
                    is_of_one_organization: owners.len() == 1,
                    is_retry,
                    duration: failing.duration_until(failure, unwritable),
                };
                failing.failed(row_failure, failure.ended);
            }
        }
        let mut consequence = match <[WaitingEvent; 1]>::try_from(events) {
            Ok([one]) => self.failed_alone(one, failure),
            Err(events) => {
                self.return_events(events);
                FailureConsequence::default()
            }
        };
        for owner in owners {
            self.defer_if_stuck(owner, failure.ended, &mut consequence);
        }
        consequence
    }

    /// Whether other rows are written while these are not.
    fn is_fault_of_rows(
        &mut self,
        owners: &HashSet<OrganizationId>,
        failure: SliceFailure,
    ) -> bool {
        let (written, unwritable) = (self.written, self.unwritable);
        let mut is_fault_of_rows = !failure.is_transient;
        for owner in owners {
            if let Some(failing) = self.failing(owner) {
                let first = failing.first_failure.get_or_insert(failure).ended;
                let fails_long = failing.duration_until(failure, unwritable) >= BLAME_ROWS_AFTER;
                is_fault_of_rows |= written > Some(first)
                    || (failure.can_be_written && (fails_long || failing.is_apart));
            }
        }
        is_fault_of_rows
    }

    fn failed_alone(&mut self, mut one: WaitingEvent, failure: SliceFailure) -> FailureConsequence {
        let now = failure.ended;
        let held: usize = self
            .organizations
            .values()
            .map(OrganizationQueue::held)
            .sum();
        let has_place = held < self.max_held.max(1);
        let max_held_of_one = MAX_HELD_OF_ONE.min(self.max_held / 4).max(1);
        let owner = one.organization().clone();
        let mut consequence = FailureConsequence::default();
        let Some(failing) = self.failing(&owner) else {
            return consequence;
        };
        let verdict = one.alone.failed(now, failing.written(one.kind()));
        if !failure.is_transient || verdict == RowVerdict::DeadLetter {
            consequence.faulty = Some(one);
            return consequence;
        }
        consequence.wait = backoff(one.attempts_alone, MAX_WAIT);
        one.attempts_alone += 1;
        if has_place && failing.held.len() < max_held_of_one {
            failing.held.push((now + consequence.wait, one));
            if !self.order.contains(&owner) {
                self.order.push_back(owner);
            }
        } else {
            consequence.deferred.insert(one.message);
        }
        consequence
    }

    /// Defers the waiting events of a stuck organization, except one.
    fn defer_if_stuck(
        &mut self,
        owner: OrganizationId,
        now: Instant,
        consequence: &mut FailureConsequence,
    ) {
        let Some(queue) = self.organizations.get_mut(&owner) else {
            return;
        };
        if let Some(failing) = &mut queue.failing
            && failing.is_stuck()
        {
            let excess = queue.events.iter().skip(1);
            consequence.deferred.extend(excess.map(|one| one.message));
            consequence.stuck = failing.should_log(now).then_some(owner);
        }
    }

    /// Puts events back, in front of the other events of their organizations.
    fn return_events(&mut self, events: Vec<WaitingEvent>) {
        for one in events.into_iter().rev() {
            let owner = one.organization();
            if !self.order.contains(owner) {
                self.order.push_back(owner.clone());
            }
            let queue = self.organizations.entry(owner.clone()).or_default();
            queue.push_front(one);
        }
    }

    fn failing(&mut self, owner: &OrganizationId) -> Option<&mut FailingOrganization> {
        let queue = self.organizations.get_mut(owner)?;
        Some(queue.failing.get_or_insert_default())
    }

    /// A slice of these organizations is no longer in flight.
    pub(crate) fn slice_ended(&mut self, organizations: &[OrganizationId]) {
        for owner in organizations {
            if let Some(queue) = self.organizations.get_mut(owner) {
                queue.in_flight = queue.in_flight.saturating_sub(1);
            }
        }
        self.remove_if_empty(organizations);
    }

    /// Removes the waiting events of these messages.
    pub(crate) fn forget(&mut self, messages: &HashSet<u64>) {
        for queue in self.organizations.values_mut() {
            queue.forget(messages);
        }
        let all: Vec<OrganizationId> = self.organizations.keys().cloned().collect();
        self.remove_if_empty(&all);
        let organizations = &self.organizations;
        self.order.retain(|owner| {
            organizations
                .get(owner)
                .is_some_and(OrganizationQueue::waits)
        });
    }

    fn remove_if_empty(&mut self, organizations: &[OrganizationId]) {
        for owner in organizations {
            let is_empty = |queue: &mut OrganizationQueue| !queue.waits() && queue.in_flight == 0;
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

    pub(crate) fn clear(&mut self) {
        self.order.clear();
        for queue in self.organizations.values_mut() {
            *queue = OrganizationQueue {
                in_flight: queue.in_flight,
                ..OrganizationQueue::default()
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
            return is_due && queue.in_flight == 0 && !is_held_up;
        }
        let is_shared = self
            .shared
            .is_some_and(|at| now.duration_since(at) < PRESENT_FOR);
        let most = match queue.is_broad() && is_shared {
            true => MAX_IN_FLIGHT_BESIDE_OTHERS,
            false => MAX_IN_FLIGHT,
        };
        queue.in_flight < most
    }
}

#[cfg(test)]
mod tests;
