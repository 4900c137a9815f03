//! Round robin: the order in which subscription queues start requests. It goes over organizations, then over the queues
//! of each. Fast and slow queues alternate. An organization with a thousand queues has no more turns than one with a
//! single queue.

use std::collections::{HashMap, VecDeque};

use hookline_core::ids::SubscriptionId;

use super::share_groups::ShareGroup;
use super::speed::Speed;

/// The subscription queues with waiting messages.
#[derive(Default)]
pub(super) struct RoundRobin {
    fast: TurnOrder,
    slow: TurnOrder,
    next: Speed,
}

/// The order within one pace.
#[derive(Default)]
struct TurnOrder {
    /// The organizations with subscription queues, the next one first.
    organizations: VecDeque<ShareGroup>,
    queues: HashMap<ShareGroup, VecDeque<SubscriptionId>>,
}

impl RoundRobin {
    /// Both paces, the next one first.
    pub(super) fn speeds(&self) -> [Speed; 2] {
        [self.next, self.next.other()]
    }

    /// The first subscription queue of this pace that may start, in the order of turns. A queue that may not start has
    /// requests in flight, is slow, or shares with a large holder. Such queues keep their places. There are no more of
    /// them than messages in memory.
    pub(super) fn find(
        &self,
        speed: Speed,
        may_start: impl Fn(SubscriptionId) -> bool,
    ) -> Option<SubscriptionId> {
        let order = self.of(speed);
        let queues = order
            .organizations
            .iter()
            .filter_map(|organization| order.queues.get(organization));
        queues.flatten().copied().find(|queue| may_start(*queue))
    }

    /// Moves a subscription queue and its organization to the end of the order, after a start of a request.
    pub(super) fn started(
        &mut self,
        speed: Speed,
        organization: ShareGroup,
        queue: SubscriptionId,
    ) {
        self.next = speed.other();
        let order = self.of_mut(speed);
        to_the_end(&mut order.organizations, organization);
        if let Some(queues) = order.queues.get_mut(&organization) {
            to_the_end(queues, queue);
        }
    }

    pub(super) fn join(&mut self, speed: Speed, organization: ShareGroup, queue: SubscriptionId) {
        let order = self.of_mut(speed);
        let queues = order.queues.entry(organization).or_default();
        if queues.is_empty() {
            order.organizations.push_back(organization);
        }
        queues.push_back(queue);
    }

    /// Removes a subscription queue from the order. It is usually the first one; a queue that changes its pace may
    /// stand anywhere.
    pub(super) fn leave(&mut self, speed: Speed, organization: ShareGroup, queue: SubscriptionId) {
        let order = self.of_mut(speed);
        let Some(queues) = order.queues.get_mut(&organization) else {
            return;
        };
        remove(queues, queue);
        if queues.is_empty() {
            order.queues.remove(&organization);
            remove(&mut order.organizations, organization);
        }
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        let queues = self.fast.queues.values().chain(self.slow.queues.values());
        queues.map(VecDeque::len).sum()
    }

    fn of(&self, speed: Speed) -> &TurnOrder {
        match speed {
            Speed::Fast => &self.fast,
            Speed::Slow => &self.slow,
        }
    }

    fn of_mut(&mut self, speed: Speed) -> &mut TurnOrder {
        match speed {
            Speed::Fast => &mut self.fast,
            Speed::Slow => &mut self.slow,
        }
    }
}

fn remove<T: PartialEq>(round_robin: &mut VecDeque<T>, one: T) {
    if round_robin.front() == Some(&one) {
        round_robin.pop_front();
    } else {
        round_robin.retain(|other| *other != one);
    }
}

/// Does nothing where `one` has left the order.
fn to_the_end<T: PartialEq + Copy>(round_robin: &mut VecDeque<T>, one: T) {
    if round_robin.front() == Some(&one) {
        round_robin.rotate_left(1);
    } else if let Some(at) = round_robin.iter().position(|other| *other == one) {
        round_robin.remove(at);
        round_robin.push_back(one);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_organization_with_many_queues_gets_no_more_turns_than_one_with_a_single_queue() {
        let mut round_robin = RoundRobin::default();
        let (many, single) = (ShareGroup(1), ShareGroup(2));
        for queue in 0..1_000 {
            round_robin.join(Speed::Fast, many, SubscriptionId(queue));
        }
        round_robin.join(Speed::Fast, single, SubscriptionId(5_000));
        let mut started = Vec::new();
        for _ in 0..6 {
            let queue = round_robin.find(Speed::Fast, |_| true).unwrap();
            let organization = if queue.0 < 1_000 { many } else { single };
            round_robin.started(Speed::Fast, organization, queue);
            started.push(queue.0);
        }
        assert_eq!(started, [0, 5_000, 1, 5_000, 2, 5_000]);
        round_robin.leave(Speed::Fast, single, SubscriptionId(5_000));
        assert_eq!(
            round_robin.find(Speed::Fast, |_| true),
            Some(SubscriptionId(3))
        );
        assert_eq!(round_robin.len(), 1_000);
    }
}
