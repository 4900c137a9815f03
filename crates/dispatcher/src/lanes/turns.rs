//! The order in which lanes start requests: one after the other, fast and slow ones in turns, too.

use std::collections::VecDeque;

use hookline_core::ids::SubscriptionId;

use super::lane::Pace;

/// Lanes in which something waits.
pub(super) struct Turns {
    fast: VecDeque<SubscriptionId>,
    slow: VecDeque<SubscriptionId>,
    next: Pace,
}

impl Turns {
    pub(super) fn new() -> Self {
        Self {
            fast: VecDeque::new(),
            slow: VecDeque::new(),
            next: Pace::Fast,
        }
    }

    /// Both paces, the one whose turn it is first.
    pub(super) fn paces(&self) -> [Pace; 2] {
        [self.next, self.next.other()]
    }

    /// The first lane of this pace that may start, from the one whose turn it is. Those that may
    /// not have some in flight, are slow, or share with one that holds much: they keep their
    /// places, and there are no more of them than messages wait here.
    pub(super) fn find(
        &self,
        pace: Pace,
        may_start: impl Fn(SubscriptionId) -> bool,
    ) -> Option<SubscriptionId> {
        let mut lanes = self.of(pace).iter().copied();
        lanes.find(|lane| may_start(*lane))
    }

    /// One of this pace has started; if more waits in its lane, all others come before that.
    pub(super) fn took(&mut self, pace: Pace, lane: Option<SubscriptionId>) {
        self.next = pace.other();
        let turns = self.of_mut(pace);
        let Some(lane) = lane else { return };
        if turns.front() == Some(&lane) {
            turns.rotate_left(1);
        } else if let Some(at) = turns.iter().position(|other| *other == lane) {
            turns.remove(at);
            turns.push_back(lane);
        }
    }

    pub(super) fn join(&mut self, pace: Pace, lane: SubscriptionId) {
        self.of_mut(pace).push_back(lane);
    }

    /// Usually it is its turn; a lane that becomes slow or fast leaves from anywhere.
    pub(super) fn leave(&mut self, pace: Pace, lane: SubscriptionId) {
        let turns = self.of_mut(pace);
        if turns.front() == Some(&lane) {
            turns.pop_front();
        } else {
            turns.retain(|other| *other != lane);
        }
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.fast.len() + self.slow.len()
    }

    fn of(&self, pace: Pace) -> &VecDeque<SubscriptionId> {
        match pace {
            Pace::Fast => &self.fast,
            Pace::Slow => &self.slow,
        }
    }

    fn of_mut(&mut self, pace: Pace) -> &mut VecDeque<SubscriptionId> {
        match pace {
            Pace::Fast => &mut self.fast,
            Pace::Slow => &mut self.slow,
        }
    }
}
