//! Requests in flight, in the order of their starts. A look at the first one alone shows which of them take long.

use std::collections::BTreeMap;
use std::time::Instant;

use hookline_core::ids::SubscriptionId;

use super::bulkhead::ShareGroups;
use super::circuit_breaker::Role;
use super::subscription_queue::SLOW;

/// The permission for one request, numbered in the order of starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Permit(u64);

#[derive(Debug, Clone, Copy)]
pub(super) struct InFlightRequest {
    pub(super) subscription: SubscriptionId,
    /// The groups of its subscription queue at the start.
    pub(super) kin: ShareGroups,
    pub(super) started: Instant,
    pub(super) role: Role,
}

/// Whether a request was noticed to take longer than [`SLOW`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Age {
    Young,
    Old,
}

pub(super) struct InFlightRequests {
    flights: BTreeMap<Permit, InFlightRequest>,
    next: Permit,
    /// Requests before this one have been noticed to take longer than [`SLOW`].
    first_young: Permit,
}

impl InFlightRequests {
    pub(super) fn new() -> Self {
        Self {
            flights: BTreeMap::new(),
            next: Permit(0),
            first_young: Permit(0),
        }
    }

    pub(super) fn start(&mut self, flight: InFlightRequest) -> Permit {
        let ticket = self.next;
        self.next = Permit(ticket.0 + 1);
        self.flights.insert(ticket, flight);
        ticket
    }

    pub(super) fn end(&mut self, ticket: Permit) -> Option<(InFlightRequest, Age)> {
        let age = match ticket < self.first_young {
            true => Age::Old,
            false => Age::Young,
        };
        Some((self.flights.remove(&ticket)?, age))
    }

    /// The next request that takes longer than [`SLOW`]. Each request is returned once.
    pub(super) fn next_old(&mut self, now: Instant) -> Option<SubscriptionId> {
        let (ticket, flight) = self.oldest_young()?;
        if now.saturating_duration_since(flight.started) <= SLOW {
            return None;
        }
        self.first_young = Permit(ticket.0 + 1);
        Some(flight.subscription)
    }

    pub(super) fn oldest_young(&self) -> Option<(Permit, InFlightRequest)> {
        let (ticket, flight) = self.flights.range(self.first_young..).next()?;
        Some((*ticket, *flight))
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.flights.len()
    }
}
