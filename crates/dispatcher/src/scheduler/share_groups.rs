//! The groups in which subscription queues share slots, and sums over the queues of a group.

/// A group of subscription queues, as a hash. Two groups with the same hash share as if they were one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct ShareGroup(pub u64);

/// The groups in which a subscription queue shares slots.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ShareGroups {
    /// The queues to the same scheme, host and port.
    pub origin: ShareGroup,
    /// The queues of the same organization.
    pub organization: ShareGroup,
}

/// Sums over subscription queues, so that no caller iterates over the queues.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Totals {
    /// Messages that wait.
    pub(crate) waiting: usize,
    /// The part of `waiting` in slow queues.
    pub(crate) slow_waiting: usize,
    /// The part of `waiting` that was read from the backlog.
    pub(crate) from_backlog: usize,
    /// Requests in flight.
    pub(crate) in_flight: usize,
    /// The part of `in_flight` that belongs to slow queues.
    pub(crate) slow_in_flight: usize,
    /// Queues with a message that waits or a request in flight.
    pub(crate) active: usize,
    /// Slow queues.
    pub(crate) slow: usize,
    /// Slow queues with a circuit breaker that is not closed.
    pub(crate) open: usize,
}

impl Totals {
    pub(super) fn add(&mut self, other: Self) {
        self.each(other, |sum, one| *sum += one);
    }

    pub(super) fn subtract(&mut self, other: Self) {
        self.each(other, |sum, one| *sum -= one);
    }

    fn each(&mut self, other: Self, change: impl Fn(&mut usize, usize)) {
        let Self {
            waiting,
            slow_waiting,
            from_backlog,
            in_flight,
            slow_in_flight,
            active,
            slow,
            open,
        } = other;
        change(&mut self.waiting, waiting);
        change(&mut self.slow_waiting, slow_waiting);
        change(&mut self.from_backlog, from_backlog);
        change(&mut self.in_flight, in_flight);
        change(&mut self.slow_in_flight, slow_in_flight);
        change(&mut self.active, active);
        change(&mut self.slow, slow);
        change(&mut self.open, open);
    }
}
