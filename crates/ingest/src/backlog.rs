//! Events that are read and wait to be taken in, by organization.
//!
//! Organizations take turns (round robin), and a turn is a slice: bounded by the deliveries and bytes that
//! its transaction writes, not by the number of messages. An organization whose events make many deliveries
//! is *broad* while they wait. It has its slices to itself, so that an event of another organization shares
//! neither a transaction nor a confirmation with them.

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

use hookline_core::ids::OrganizationId;
use hookline_store::IncomingEvent;

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

/// An event that waits.
#[derive(Debug, Clone)]
pub(crate) struct Waiting {
    /// The message that it came in, as `hand` counts them.
    pub(crate) message: u64,
    pub(crate) event: IncomingEvent,
    /// How many deliveries it makes, as far as is known.
    pub(crate) deliveries: usize,
}

impl Waiting {
    /// An event without deliveries is work, too.
    fn weight(&self) -> usize {
        self.deliveries.max(1)
    }

    fn bytes(&self) -> usize {
        self.event.event.body.len()
    }
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
}

/// All that waits.
#[derive(Debug, Default)]
pub(crate) struct Backlog {
    organizations: HashMap<OrganizationId, Queue>,
    /// Those with events waiting, the one whose turn is next first.
    order: VecDeque<OrganizationId>,
    /// When two organizations last had events at the same time.
    shared: Option<Instant>,
}

#[derive(Debug, Default)]
struct Queue {
    events: VecDeque<Waiting>,
    weight: usize,
    bytes: usize,
    under_way: usize,
}

/// What a slice may still take.
struct Room {
    events: usize,
    weight: usize,
    bytes: usize,
}

impl Backlog {
    pub(crate) fn push(&mut self, waiting: Waiting) {
        let owner = &waiting.event.event.organization;
        if !self.organizations.contains_key(owner) {
            self.organizations.insert(owner.clone(), Queue::default());
        }
        if self.organizations.len() > 1 {
            self.shared = Some(Instant::now());
        }
        let is_under_way = |one| matches!(self.organizations.get(one), Some(q) if q.under_way > 0);
        // Ahead of the organizations that have a slice under way already.
        let place = self.order.iter().position(is_under_way);
        if let Some(queue) = self.organizations.get_mut(owner) {
            if queue.events.is_empty() {
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
        let is_crowded = queue.weight >= CROWDED_DELIVERIES || queue.bytes >= CROWDED_BYTES;
        let seconds = (queue.weight / DRAINED_PER_SECOND).clamp(1, 60);
        is_crowded.then(|| Duration::from_secs(seconds as u64))
    }

    /// Whether a slice can be begun.
    pub(crate) fn has_turn(&self) -> bool {
        self.order.iter().any(|owner| self.is_admitted(owner))
    }

    /// The next slice, of at most so many events. Its organizations have one more under way until
    /// [`Backlog::over`].
    pub(crate) fn next(&mut self, events: usize) -> Option<Slice> {
        let mut room = Room {
            events,
            weight: DELIVERIES,
            bytes: BYTES,
        };
        let mut slice = Slice {
            events: Vec::new(),
            organizations: Vec::new(),
            size: Size::Small,
        };
        for owner in std::mem::take(&mut self.order) {
            let admitted = self.is_admitted(&owner);
            let is_first = slice.events.is_empty();
            let Some(queue) = self.organizations.get_mut(&owner) else {
                continue;
            };
            let goes = admitted && slice.size == Size::Small && (is_first || !queue.is_broad());
            if goes {
                if is_first && queue.is_broad() {
                    slice.size = Size::Broad;
                }
                let taken = queue.take(&mut room, &mut slice.events);
                if taken > 0 {
                    queue.under_way += 1;
                    slice.organizations.push(owner.clone());
                }
            }
            if !queue.events.is_empty() {
                self.order.push_back(owner);
            }
        }
        // An organization that had its turn waits for the turns of all others.
        let had_turn = |owner: &OrganizationId| slice.organizations.contains(owner);
        let (last, first): (Vec<_>, Vec<_>) = self.order.drain(..).partition(had_turn);
        self.order.extend(first.into_iter().chain(last));
        (!slice.events.is_empty()).then_some(slice)
    }

    /// A slice of these organizations is over, or holds none of them up any more.
    pub(crate) fn over(&mut self, organizations: &[OrganizationId]) {
        for owner in organizations {
            if let Some(queue) = self.organizations.get_mut(owner) {
                queue.under_way = queue.under_way.saturating_sub(1);
                if queue.under_way == 0 && queue.events.is_empty() {
                    self.organizations.remove(owner);
                }
            }
        }
    }

    /// Forgets what waits of a message.
    pub(crate) fn forget(&mut self, message: u64) {
        for queue in self.organizations.values_mut() {
            let Queue {
                events,
                weight,
                bytes,
                ..
            } = queue;
            events.retain(|one| {
                let stays = one.message != message;
                if !stays {
                    *weight -= one.weight();
                    *bytes -= one.bytes();
                }
                stays
            });
        }
        let organizations = &mut self.organizations;
        organizations.retain(|_, queue| !queue.events.is_empty() || queue.under_way > 0);
        self.order.retain(|owner| {
            let queue = organizations.get(owner);
            queue.is_some_and(|queue| !queue.events.is_empty())
        });
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

    fn is_admitted(&self, owner: &OrganizationId) -> bool {
        let is_shared = self.shared.is_some_and(|at| at.elapsed() < PRESENT);
        self.organizations.get(owner).is_some_and(|queue| {
            let most = match queue.is_broad() && is_shared {
                true => UNDER_WAY_BESIDE_OTHERS,
                false => UNDER_WAY,
            };
            queue.under_way < most
        })
    }
}

impl Queue {
    fn push(&mut self, waiting: Waiting) {
        self.weight += waiting.weight();
        self.bytes += waiting.bytes();
        self.events.push_back(waiting);
    }

    fn is_broad(&self) -> bool {
        self.weight > BROAD
    }

    /// Takes what there is room for, and says how many. The first event of a slice needs no room.
    fn take(&mut self, room: &mut Room, slice: &mut Vec<Waiting>) -> usize {
        let before = slice.len();
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
}

#[cfg(test)]
mod tests;
