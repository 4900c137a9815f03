//! Round robin: the order in which subscription queues start requests. It goes over organizations, then over the queues
//! of each. Fast and slow queues alternate. An organization with a thousand queues has no more turns than one with a
//! single queue.

use std::collections::{HashMap, VecDeque};

use hookline_core::ids::SubscriptionId;

use super::bulkhead::ShareGroup;
use super::subscription_queue::Pace;

/// The subscription queues with waiting messages.
pub(super) struct RoundRobin {
    fast: Order,
    slow: Order,
    next: Pace,
}

/// The order within one pace.
#[derive(Default)]
struct Order {
    /// The organizations with subscription queues, the next one first.
    organizations: VecDeque<ShareGroup>,
    lanes: HashMap<ShareGroup, VecDeque<SubscriptionId>>,
}

impl RoundRobin {
    pub(super) fn new() -> Self {
        Self {
            fast: Order::default(),
            slow: Order::default(),
            next: Pace::Fast,
        }
    }

    /// Both paces, the next one first.
    pub(super) fn paces(&self) -> [Pace; 2] {
        [self.next, self.next.other()]
    }

    /// The first subscription queue of this pace that may start, in the order of turns. A queue that may not start has
    /// requests in flight, is slow, or shares with a large holder. Such queues keep their places. There are no more of
    /// them than messages in memory.
    pub(super) fn find(
        &self,
        pace: Pace,
        may_start: impl Fn(SubscriptionId) -> bool,
    ) -> Option<SubscriptionId> {
        let order = self.of(pace);
        let lanes = order
            .organizations
            .iter()
            .filter_map(|organization| order.lanes.get(organization));
        lanes.flatten().copied().find(|lane| may_start(*lane))
    }

    /// Moves a subscription queue and its organization to the end of the order, after a start of a request.
    pub(super) fn took(&mut self, pace: Pace, organization: ShareGroup, lane: SubscriptionId) {
        self.next = pace.other();
        let order = self.of_mut(pace);
        to_the_end(&mut order.organizations, organization);
        if let Some(lanes) = order.lanes.get_mut(&organization) {
            to_the_end(lanes, lane);
        }
    }

    pub(super) fn join(&mut self, pace: Pace, organization: ShareGroup, lane: SubscriptionId) {
        let order = self.of_mut(pace);
        let lanes = order.lanes.entry(organization).or_default();
        if lanes.is_empty() {
            order.organizations.push_back(organization);
        }
        lanes.push_back(lane);
    }

    /// Removes a subscription queue from the order. It is usually the first one; a queue that changes its pace may
    /// stand anywhere.
    pub(super) fn leave(&mut self, pace: Pace, organization: ShareGroup, lane: SubscriptionId) {
        let order = self.of_mut(pace);
        let Some(lanes) = order.lanes.get_mut(&organization) else {
            return;
        };
        remove(lanes, lane);
        if lanes.is_empty() {
            order.lanes.remove(&organization);
            remove(&mut order.organizations, organization);
        }
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        let lanes = self.fast.lanes.values().chain(self.slow.lanes.values());
        lanes.map(VecDeque::len).sum()
    }

    fn of(&self, pace: Pace) -> &Order {
        match pace {
            Pace::Fast => &self.fast,
            Pace::Slow => &self.slow,
        }
    }

    fn of_mut(&mut self, pace: Pace) -> &mut Order {
        match pace {
            Pace::Fast => &mut self.fast,
            Pace::Slow => &mut self.slow,
        }
    }
}

fn remove<T: PartialEq>(turns: &mut VecDeque<T>, one: T) {
    if turns.front() == Some(&one) {
        turns.pop_front();
    } else {
        turns.retain(|other| *other != one);
    }
}

/// Does nothing where `one` has left the order.
fn to_the_end<T: PartialEq + Copy>(turns: &mut VecDeque<T>, one: T) {
    if turns.front() == Some(&one) {
        turns.rotate_left(1);
    } else if let Some(at) = turns.iter().position(|other| *other == one) {
        turns.remove(at);
        turns.push_back(one);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_organization_with_many_lanes_has_no_more_turns_than_one_with_a_single_lane() {
        let mut turns = RoundRobin::new();
        let (many, single) = (ShareGroup(1), ShareGroup(2));
        for lane in 0..1_000 {
            turns.join(Pace::Fast, many, SubscriptionId(lane));
        }
        turns.join(Pace::Fast, single, SubscriptionId(5_000));
        let mut started = Vec::new();
        for _ in 0..6 {
            let lane = turns.find(Pace::Fast, |_| true).unwrap();
            let organization = if lane.0 < 1_000 { many } else { single };
            turns.took(Pace::Fast, organization, lane);
            started.push(lane.0);
        }
        assert_eq!(started, [0, 5_000, 1, 5_000, 2, 5_000]);
        turns.leave(Pace::Fast, single, SubscriptionId(5_000));
        assert_eq!(turns.find(Pace::Fast, |_| true), Some(SubscriptionId(3)));
        assert_eq!(turns.len(), 1_000);
    }
}
