//! Requests in flight, in the order of their starts. A look at the first one alone shows which of them take long.

use std::collections::BTreeMap;
use std::time::Instant;

use hookline_core::ids::SubscriptionId;

use super::circuit_breaker::Role;
use super::share_groups::ShareGroups;
use super::speed::{SLOW, Speed};

/// The permission for one request, numbered in the order of starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Permit(u64);

#[derive(Debug, Clone, Copy)]
pub(super) struct InFlightRequest {
    pub(super) subscription: SubscriptionId,
    /// The groups of its subscription queue at the start.
    pub(super) groups: ShareGroups,
    pub(super) started: Instant,
    pub(super) role: Role,
}

#[derive(Default)]
pub(super) struct InFlightRequests {
    requests: BTreeMap<Permit, InFlightRequest>,
    next: Permit,
    /// Requests before this one were returned as slow.
    first_fast: Permit,
}

impl InFlightRequests {
    pub(super) fn start(&mut self, request: InFlightRequest) -> Permit {
        let permit = self.next;
        self.next = Permit(permit.0 + 1);
        self.requests.insert(permit, request);
        permit
    }

    pub(super) fn end(&mut self, permit: Permit) -> Option<(InFlightRequest, Speed)> {
        let speed = if permit < self.first_fast {
            Speed::Slow
        } else {
            Speed::Fast
        };
        Some((self.requests.remove(&permit)?, speed))
    }

    /// The next request that takes longer than [`SLOW`]. Each request is returned once.
    pub(super) fn next_slow(&mut self, now: Instant) -> Option<SubscriptionId> {
        let (permit, request) = self.oldest_fast()?;
        if now.saturating_duration_since(request.started) <= SLOW {
            return None;
        }
        self.first_fast = Permit(permit.0 + 1);
        Some(request.subscription)
    }

    pub(super) fn oldest_fast(&self) -> Option<(Permit, InFlightRequest)> {
        let (permit, request) = self.requests.range(self.first_fast..).next()?;
        Some((*permit, *request))
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.requests.len()
    }
}
