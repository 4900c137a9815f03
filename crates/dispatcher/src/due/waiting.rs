//! The waiting list: one queue for each subscription, in round robin over organizations. A large fan-out does not stand
//! in front of other organizations, whether it has one subscription or a thousand.

use std::collections::{HashMap, VecDeque};

use hookline_core::delivery::AttemptTask;
use hookline_core::ids::SubscriptionId;
use hookline_core::partition::Partition;
use hookline_store::BacklogClass;

use super::group_cache::GroupCache;
use crate::scheduler::{ShareGroup, TurnOrder};

/// The most deliveries that wait, about 5 MiB. A wake-up beyond is dropped: a look finds its row.
const MAX_WAITING: usize = 32_768;

/// A due delivery on the waiting list.
#[derive(Debug, Clone, Copy)]
pub(super) struct WaitingRow {
    pub(super) task: AttemptTask,
    pub(super) partition: Partition,
    /// The delivery may have ended the process of an earlier owner.
    pub(super) is_suspect: bool,
    /// The class of the backlog from which the row was read; none for another row.
    pub(super) backlog: Option<BacklogClass>,
}

#[derive(Default)]
pub(super) struct Waiting {
    queues: HashMap<SubscriptionId, WaitingQueue>,
    turns: TurnOrder,
    pub(super) group_cache: GroupCache,
    len: usize,
}

struct WaitingQueue {
    /// As known at the last turn. Subscriptions of unknown organizations share the turns of one.
    organization: ShareGroup,
    rows: VecDeque<WaitingRow>,
}

impl Waiting {
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Whether a further row of the subscription finds no room. In a full list, a subscription with less than its share
    /// still finds some.
    pub(super) fn is_full_for(&self, subscription: SubscriptionId) -> bool {
        if self.len < MAX_WAITING {
            return false;
        }
        let share = MAX_WAITING / (self.queues.len() + 1);
        let queue = self.queues.get(&subscription);
        self.len >= 2 * MAX_WAITING || queue.is_some_and(|queue| queue.rows.len() >= share)
    }

    pub(super) fn push(&mut self, found: WaitingRow) {
        let subscription = found.task.subscription;
        let queue = self.queues.entry(subscription).or_insert_with(|| {
            let organization = self.group_cache.organization(subscription);
            let organization = organization.unwrap_or_default();
            self.turns.join(organization, subscription);
            WaitingQueue {
                organization,
                rows: VecDeque::new(),
            }
        });
        queue.rows.push_back(found);
        self.len += 1;
    }

    pub(super) fn pop(&mut self) -> Option<WaitingRow> {
        let subscription = self.turns.iter().next()?;
        let queue = self.queues.get_mut(&subscription)?;
        let before = queue.organization;
        let found = queue.rows.pop_front()?;
        self.len -= 1;
        let known = self.group_cache.organization(subscription);
        queue.organization = known.unwrap_or(before);
        let organization = queue.organization;
        if queue.rows.is_empty() {
            self.queues.remove(&subscription);
            self.turns.had_last_turn(before, subscription);
        } else if organization == before {
            self.turns.had_turn(organization, subscription);
        } else {
            self.turns.had_last_turn(before, subscription);
            self.turns.join(organization, subscription);
        }
        Some(found)
    }
}

#[cfg(test)]
mod tests {
    use hookline_core::ids::DeliveryId;
    use uuid::Uuid;

    use super::*;

    fn found(number: u128, subscription: i64) -> WaitingRow {
        WaitingRow {
            task: AttemptTask {
                delivery: DeliveryId(Uuid::from_u128(number)),
                generation: 0,
                attempt: 1,
                subscription: SubscriptionId(subscription),
            },
            partition: Partition(0),
            is_suspect: false,
            backlog: None,
        }
    }

    /// A list that knows the organization of each of these subscriptions.
    fn with_known(organizations: impl IntoIterator<Item = (i64, u64)>) -> Waiting {
        let waiting = Waiting::default();
        for (subscription, organization) in organizations {
            waiting
                .group_cache
                .note(SubscriptionId(subscription), ShareGroup(organization));
        }
        waiting
    }

    fn order(waiting: &mut Waiting) -> Vec<u128> {
        let order = std::iter::from_fn(|| waiting.pop());
        order.map(|one| one.task.delivery.0.as_u128()).collect()
    }

    #[test]
    fn subscriptions_alternate_and_each_keeps_its_order() {
        let mut waiting = with_known([(1, 1), (2, 1)]);
        for number in 0..4 {
            waiting.push(found(number, 1));
        }
        waiting.push(found(4, 2));
        assert_eq!(order(&mut waiting), [0, 4, 1, 2, 3]);
        assert_eq!((waiting.len(), waiting.queues.len()), (0, 0));
    }

    #[test]
    fn organizations_alternate_however_many_subscriptions_each_has() {
        let mut waiting = with_known((1..=100).map(|one| (one, 1)).chain([(1_000, 2)]));
        for subscription in 1..=100 {
            waiting.push(found(subscription as u128, subscription));
        }
        waiting.push(found(1_000, 1_000));
        waiting.push(found(1_001, 1_000));
        waiting.push(found(1_002, 1_000));
        let order = order(&mut waiting);
        assert_eq!(order[..8], [1, 1_000, 2, 1_001, 3, 1_002, 4, 5]);
        assert_eq!((order.len(), waiting.len()), (103, 0));
    }

    #[test]
    fn a_queue_gets_the_turns_of_its_organization_once_that_is_known() {
        let mut waiting = with_known([(1, 1), (2, 1)]);
        for row in 0..3 {
            for subscription in [1, 2, 3] {
                waiting.push(found(row * 10 + subscription as u128, subscription));
            }
        }
        for number in 100..103 {
            waiting.push(found(number, 4));
        }
        // Subscriptions 3 and 4 share the turns of unknown organizations.
        let first = [(); 4].map(|()| waiting.pop().unwrap().task.delivery.0.as_u128());
        assert_eq!(first, [1, 3, 2, 100]);
        waiting.group_cache.note(SubscriptionId(3), ShareGroup(1));
        waiting.group_cache.note(SubscriptionId(4), ShareGroup(2));
        assert_eq!(order(&mut waiting), [11, 13, 12, 101, 21, 102, 23, 22]);
        assert!(waiting.turns.iter().next().is_none() && waiting.queues.is_empty());
    }

    #[test]
    fn a_full_list_has_room_for_a_subscription_below_its_share() {
        let mut waiting = Waiting::default();
        for number in 0..MAX_WAITING as u128 {
            assert!(!waiting.is_full_for(SubscriptionId(1)));
            waiting.push(found(number, 1));
        }
        assert!(waiting.is_full_for(SubscriptionId(1)));
        assert!(!waiting.is_full_for(SubscriptionId(2)));
    }
}
