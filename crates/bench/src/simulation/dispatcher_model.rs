//! The waiting messages of one dispatcher: in its scheduler, or in one queue for comparison.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use hookline_dispatcher::scheduler::{
    BacklogSearch, Finish, Limits, Permit, Scheduler, SearchResult, ShareGroups,
};

use super::message::DueMessage;
use super::scenario::{Order, SimulationScenario};

/// Consecutive failures that open a circuit breaker: the default of the settings.
const BREAKER_FAILURES: u32 = 10;

/// The permit of one request.
pub(super) enum RequestPermit {
    Scheduler(Permit),
    OneQueue,
}

pub(super) enum DispatcherModel {
    Scheduler(Box<Scheduler<DueMessage>>),
    OneQueue {
        waiting: VecDeque<DueMessage>,
        room: usize,
        free: usize,
    },
}

impl DispatcherModel {
    pub(super) fn new(scenario: &SimulationScenario) -> Self {
        let (slots, room) = (scenario.slots, scenario.room);
        match scenario.order {
            Order::Scheduler => DispatcherModel::Scheduler(Box::new(Scheduler::new(Limits {
                slots,
                room,
                breaker_failures: BREAKER_FAILURES,
                origin_rate: None,
            }))),
            Order::OneQueue => DispatcherModel::OneQueue {
                waiting: VecDeque::new(),
                room,
                free: slots,
            },
        }
    }

    pub(super) fn has_room(&self) -> bool {
        match self {
            DispatcherModel::Scheduler(lanes) => lanes.room() > 0,
            DispatcherModel::OneQueue { waiting, room, .. } => waiting.len() < *room,
        }
    }

    pub(super) fn push(&mut self, share_groups: ShareGroups, message: DueMessage, now: Instant) {
        match self {
            DispatcherModel::Scheduler(lanes) => {
                lanes.push(message.subscription(), share_groups, message, now)
            }
            DispatcherModel::OneQueue { waiting, .. } => waiting.push_back(message),
        }
    }

    pub(super) fn next(&mut self, now: Instant) -> Option<(RequestPermit, DueMessage)> {
        match self {
            DispatcherModel::Scheduler(lanes) => {
                let (ticket, message) = lanes.next(now)?;
                Some((RequestPermit::Scheduler(ticket), message))
            }
            DispatcherModel::OneQueue { free: 0, .. } => None,
            DispatcherModel::OneQueue { waiting, free, .. } => {
                let message = waiting.pop_front()?;
                *free -= 1;
                Some((RequestPermit::OneQueue, message))
            }
        }
    }

    pub(super) fn finished(&mut self, permit: RequestPermit, finish: Option<Finish>, now: Instant) {
        match (self, permit) {
            (DispatcherModel::Scheduler(lanes), RequestPermit::Scheduler(ticket)) => {
                lanes.finished(ticket, finish, now)
            }
            (DispatcherModel::OneQueue { free, .. }, _) => *free += 1,
            (DispatcherModel::Scheduler(_), RequestPermit::OneQueue) => {}
        }
    }

    pub(super) fn take_excess(&mut self) -> Vec<DueMessage> {
        match self {
            DispatcherModel::Scheduler(lanes) => lanes.take_excess(),
            DispatcherModel::OneQueue { .. } => Vec::new(),
        }
    }

    pub(super) fn may_read(&self) -> bool {
        match self {
            DispatcherModel::Scheduler(lanes) => lanes.may_read(),
            DispatcherModel::OneQueue { .. } => false,
        }
    }

    pub(super) fn take_reads(&mut self, now: Instant) -> Vec<BacklogSearch> {
        match self {
            DispatcherModel::Scheduler(lanes) => lanes.take_reads(now),
            DispatcherModel::OneQueue { .. } => Vec::new(),
        }
    }

    pub(super) fn read(&mut self, read: BacklogSearch, result: SearchResult) {
        if let DispatcherModel::Scheduler(lanes) = self {
            lanes.read(read, result);
        }
    }

    /// The time until the scheduler can change without an event. None if it cannot.
    pub(super) fn next_change_in(&self, now: Instant) -> Option<Duration> {
        let DispatcherModel::Scheduler(lanes) = self else {
            return None;
        };
        Some(lanes.next_change()?.saturating_duration_since(now))
    }
}
