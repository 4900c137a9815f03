//! The waiting events of one organization.

use std::collections::{HashSet, VecDeque};
use std::time::Instant;

use super::failing_organization::FailingOrganization;
use super::slice::WaitingEvent;

/// An organization with more waiting deliveries than this is broad.
const BROAD_ABOVE: usize = 256;

#[derive(Debug, Default)]
pub(crate) struct OrganizationQueue {
    pub(crate) events: VecDeque<WaitingEvent>,
    pub(crate) weight: usize,
    pub(crate) bytes: usize,
    pub(crate) in_flight: usize,
    pub(crate) failing: Option<FailingOrganization>,
}

/// The remaining limits of a slice.
pub(crate) struct SliceRoom {
    pub(crate) events: usize,
    pub(crate) weight: usize,
    pub(crate) bytes: usize,
}

impl OrganizationQueue {
    pub(crate) fn push(&mut self, waiting: WaitingEvent) {
        self.weight += waiting.weight();
        self.bytes += waiting.bytes();
        self.events.push_back(waiting);
    }

    pub(crate) fn push_front(&mut self, waiting: WaitingEvent) {
        self.weight += waiting.weight();
        self.bytes += waiting.bytes();
        self.events.push_front(waiting);
    }

    pub(crate) fn waits(&self) -> bool {
        !self.events.is_empty() || self.held() > 0
    }

    pub(crate) fn held(&self) -> usize {
        self.failing
            .as_ref()
            .map_or(0, |failing| failing.held.len())
    }

    pub(crate) fn is_apart(&self) -> bool {
        self.failing.as_ref().is_some_and(|one| one.is_apart)
    }

    pub(crate) fn is_slow(&self) -> bool {
        self.failing
            .as_ref()
            .is_some_and(FailingOrganization::is_slow)
    }

    pub(crate) fn is_broad(&self) -> bool {
        self.weight > BROAD_ABOVE
    }

    pub(crate) fn shares_slices(&self) -> bool {
        !self.is_broad() && !self.is_apart()
    }

    /// Moves the events that fit into the slice, and returns how many. The first event of a slice always fits.
    pub(crate) fn take(
        &mut self,
        room: &mut SliceRoom,
        slice: &mut Vec<WaitingEvent>,
        now: Instant,
    ) -> usize {
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

    pub(crate) fn forget(&mut self, messages: &HashSet<u64>) {
        self.events.retain(|one| !messages.contains(&one.message));
        self.weight = self.events.iter().map(WaitingEvent::weight).sum();
        self.bytes = self.events.iter().map(WaitingEvent::bytes).sum();
        if let Some(failing) = &mut self.failing {
            failing.forget(messages);
        }
    }
}
