//! The order of turns: round robin over organizations, then over the subscription queues of each. An organization with a
//! thousand queues has no more turns than one with a single queue.

use std::collections::{HashMap, VecDeque};

use hookline_core::ids::SubscriptionId;

use super::share_groups::ShareGroup;

#[derive(Default)]
pub(crate) struct TurnOrder {
    /// The organizations with subscription queues, the next one first.
    organizations: VecDeque<ShareGroup>,
    queues: HashMap<ShareGroup, VecDeque<SubscriptionId>>,
}

impl TurnOrder {
    /// All queues, the next one first.
    pub(crate) fn iter(&self) -> impl Iterator<Item = SubscriptionId> {
        let organizations = self.organizations.iter();
        let queues = organizations.filter_map(|organization| self.queues.get(organization));
        queues.flatten().copied()
    }

    /// Moves a queue and its organization to the end, after its turn.
    pub(crate) fn had_turn(&mut self, organization: ShareGroup, queue: SubscriptionId) {
        to_the_end(&mut self.organizations, organization);
        if let Some(queues) = self.queues.get_mut(&organization) {
            to_the_end(queues, queue);
        }
    }

    /// Removes the first queue after its last turn, and moves its organization to the end.
    pub(crate) fn had_last_turn(&mut self, organization: ShareGroup, queue: SubscriptionId) {
        self.leave(organization, queue);
        if self.organizations.front() == Some(&organization) {
            self.organizations.rotate_left(1);
        }
    }

    pub(crate) fn join(&mut self, organization: ShareGroup, queue: SubscriptionId) {
        let queues = self.queues.entry(organization).or_default();
        if queues.is_empty() {
            self.organizations.push_back(organization);
        }
        queues.push_back(queue);
    }

    /// Removes a queue, which is usually the first one.
    pub(crate) fn leave(&mut self, organization: ShareGroup, queue: SubscriptionId) {
        let Some(queues) = self.queues.get_mut(&organization) else {
            return;
        };
        remove(queues, queue);
        if queues.is_empty() {
            self.queues.remove(&organization);
            remove(&mut self.organizations, organization);
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
        let mut order = TurnOrder::default();
        let (many, single) = (ShareGroup(1), ShareGroup(2));
        for queue in 0..1_000 {
            order.join(many, SubscriptionId(queue));
        }
        order.join(single, SubscriptionId(5_000));
        let mut turns = Vec::new();
        for _ in 0..6 {
            let queue = order.iter().next().unwrap();
            let organization = if queue.0 < 1_000 { many } else { single };
            order.had_turn(organization, queue);
            turns.push(queue.0);
        }
        assert_eq!(turns, [0, 5_000, 1, 5_000, 2, 5_000]);
        order.leave(single, SubscriptionId(5_000));
        assert_eq!(order.iter().next(), Some(SubscriptionId(3)));
        assert_eq!(order.iter().count(), 1_000);
    }
}
