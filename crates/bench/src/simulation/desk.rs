//! The waiting messages of one dispatcher: in its scheduler, or in one queue for comparison.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use hookline_dispatcher::scheduler::{
    BacklogSearch, Finish, Limits, Permit, Scheduler, SearchResult, ShareGroups,
};

use super::agenda::Owed;
use super::scene::{Order, Scene};

/// Consecutive failures that open a circuit breaker: the default of the settings.
const BREAKER_FAILURES: u32 = 10;

/// The permit of one request.
pub(super) enum Held {
    Lane(Permit),
    Slot,
}

pub(super) enum Desk {
    Scheduler(Box<Scheduler<Owed>>),
    OneQueue {
        waiting: VecDeque<Owed>,
        room: usize,
        free: usize,
    },
}

impl Desk {
    pub(super) fn new(scene: &Scene) -> Self {
        let (slots, room) = (scene.slots, scene.room);
        match scene.order {
            Order::Scheduler => Desk::Scheduler(Box::new(Scheduler::new(Limits {
                slots,
                room,
                breaker_failures: BREAKER_FAILURES,
                origin_rate: None,
            }))),
            Order::OneQueue => Desk::OneQueue {
                waiting: VecDeque::new(),
                room,
                free: slots,
            },
        }
    }

    pub(super) fn has_room(&self) -> bool {
        match self {
            Desk::Scheduler(lanes) => lanes.room() > 0,
            Desk::OneQueue { waiting, room, .. } => waiting.len() < *room,
        }
    }

    pub(super) fn push(&mut self, kin: ShareGroups, owed: Owed, now: Instant) {
        match self {
            Desk::Scheduler(lanes) => lanes.push(owed.subscription(), kin, owed, now),
            Desk::OneQueue { waiting, .. } => waiting.push_back(owed),
        }
    }

    pub(super) fn next(&mut self, now: Instant) -> Option<(Held, Owed)> {
        match self {
            Desk::Scheduler(lanes) => {
                let (ticket, owed) = lanes.next(now)?;
                Some((Held::Lane(ticket), owed))
            }
            Desk::OneQueue { free: 0, .. } => None,
            Desk::OneQueue { waiting, free, .. } => {
                let owed = waiting.pop_front()?;
                *free -= 1;
                Some((Held::Slot, owed))
            }
        }
    }

    pub(super) fn finished(&mut self, held: Held, finish: Option<Finish>, now: Instant) {
        match (self, held) {
            (Desk::Scheduler(lanes), Held::Lane(ticket)) => lanes.finished(ticket, finish, now),
            (Desk::OneQueue { free, .. }, _) => *free += 1,
            (Desk::Scheduler(_), Held::Slot) => {}
        }
    }

    pub(super) fn take_excess(&mut self) -> Vec<Owed> {
        match self {
            Desk::Scheduler(lanes) => lanes.take_excess(),
            Desk::OneQueue { .. } => Vec::new(),
        }
    }

    pub(super) fn may_read(&self) -> bool {
        match self {
            Desk::Scheduler(lanes) => lanes.may_read(),
            Desk::OneQueue { .. } => false,
        }
    }

    pub(super) fn take_reads(&mut self, now: Instant) -> Vec<BacklogSearch> {
        match self {
            Desk::Scheduler(lanes) => lanes.take_reads(now),
            Desk::OneQueue { .. } => Vec::new(),
        }
    }

    pub(super) fn read(&mut self, read: BacklogSearch, result: SearchResult) {
        if let Desk::Scheduler(lanes) = self {
            lanes.read(read, result);
        }
    }

    /// The time until the scheduler can change without an event. None if it cannot.
    pub(super) fn looks_again_in(&self, now: Instant) -> Option<Duration> {
        let Desk::Scheduler(lanes) = self else {
            return None;
        };
        Some(lanes.next_change()?.saturating_duration_since(now))
    }
}
