//! Round robin: the order in which subscription queues start requests. Fast and slow queues alternate.

use hookline_core::ids::SubscriptionId;

use super::share_groups::ShareGroup;
use super::speed::Speed;
use super::turn_order::TurnOrder;

/// The subscription queues with waiting messages.
#[derive(Default)]
pub(super) struct RoundRobin {
    fast: TurnOrder,
    slow: TurnOrder,
    next: Speed,
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
        self.of(speed).iter().find(|queue| may_start(*queue))
    }

    /// Moves a subscription queue and its organization to the end of the order, after a start of a request.
    pub(super) fn started(
        &mut self,
        speed: Speed,
        organization: ShareGroup,
        queue: SubscriptionId,
    ) {
        self.next = speed.other();
        self.of_mut(speed).had_turn(organization, queue);
    }

    pub(super) fn join(&mut self, speed: Speed, organization: ShareGroup, queue: SubscriptionId) {
        self.of_mut(speed).join(organization, queue);
    }

    /// Removes a subscription queue from the order. A queue that changes its pace may stand anywhere.
    pub(super) fn leave(&mut self, speed: Speed, organization: ShareGroup, queue: SubscriptionId) {
        self.of_mut(speed).leave(organization, queue);
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.fast.iter().count() + self.slow.iter().count()
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
