//! The scenario of a simulation: dispatchers, endpoints and the load of each kind of endpoint.
//!
//! The endpoints do not depend on the number of dispatchers, and the load is per dispatcher. The work of one dispatcher
//! therefore does not change with their number: a figure that grows with it does not scale.

use std::ops::Range;
use std::time::Duration;

use hookline_dispatcher::scheduler::{ShareGroup, ShareGroups};

const HEALTHY: usize = 4_748;
const HANGING: usize = 2_000;
const TENANT: usize = 50;
const ORGANIZATIONS: usize = 500;

/// The timeout of a request.
pub(super) const DEADLINE: Duration = Duration::from_secs(15);

/// The seconds of publishing, and those of them in which the bad endpoints fail.
pub(super) const PUBLISHED: usize = 80;
pub(super) const OUTAGE: std::ops::Range<usize> = 10..60;

/// Requests in flight of each dispatcher in the reported scenarios.
pub(super) const SLOTS: usize = 256;

/// Messages per second and dispatcher to the endpoint that is dead for ten minutes.
pub(super) const TO_DEAD: f64 = 0.2;

#[derive(Debug, Clone)]
pub struct SimulationScenario {
    /// The dispatchers that share the deliveries.
    pub dispatchers: usize,
    /// Requests in flight of each dispatcher, at most.
    pub slots: usize,
    /// Waiting messages in each dispatcher, at most.
    pub room: usize,
    pub order: Order,
    pub load: SimulationLoad,
    /// How long events are published.
    pub published_for: Duration,
    /// The number of unrelated endpoints that share [`SimulationLoad::hanging`]; 2,000 at most.
    pub hanging: usize,
    /// When the bad endpoints fail. They are healthy before and after.
    pub outage: Range<Duration>,
    /// The seed of all random numbers.
    pub seed: u64,
}

/// The order in which a dispatcher starts its waiting messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// The real scheduler: fair queueing by round robin.
    Scheduler,
    /// First come, first served, for comparison: no fairness.
    OneQueue,
}

/// Messages per second and dispatcher, unless a field says otherwise.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SimulationLoad {
    /// To 4,748 endpoints that answer in 2 to 8 ms.
    pub healthy: f64,
    /// To a healthy endpoint that answers in 500 ms, for all dispatchers together: the owner of a subscription limits
    /// its rate.
    pub slow: f64,
    /// To unrelated endpoints that hang during [`SimulationScenario::outage`].
    pub hanging: f64,
    /// To fifty subscriptions of one organization to one host, which hang during [`SimulationScenario::outage`].
    pub tenant: f64,
    /// To an endpoint that refuses connections during [`SimulationScenario::outage`].
    pub dead: f64,
}

impl SimulationLoad {
    /// The same load without messages to bad endpoints.
    pub fn without_bad(self) -> Self {
        Self {
            hanging: 0.0,
            tenant: 0.0,
            dead: 0.0,
            ..self
        }
    }

    /// The load multiplied by a factor, except that of the slow endpoint.
    pub fn times(self, factor: f64) -> Self {
        Self {
            healthy: self.healthy * factor,
            slow: self.slow,
            hanging: self.hanging * factor,
            tenant: self.tenant * factor,
            dead: self.dead * factor,
        }
    }
}

/// How an endpoint behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum EndpointKind {
    Healthy,
    Slow,
    Hanging,
    Tenant,
    Dead,
}

impl EndpointKind {
    pub(super) const ALL: [Self; 5] = [
        EndpointKind::Healthy,
        EndpointKind::Slow,
        EndpointKind::Hanging,
        EndpointKind::Tenant,
        EndpointKind::Dead,
    ];

    /// The indexes of the endpoints of this kind.
    pub(super) fn endpoints(self) -> Range<usize> {
        let (from, count) = match self {
            EndpointKind::Healthy => (0, HEALTHY),
            EndpointKind::Hanging => (HEALTHY, HANGING),
            EndpointKind::Tenant => (HEALTHY + HANGING, TENANT),
            EndpointKind::Slow => (HEALTHY + HANGING + TENANT, 1),
            EndpointKind::Dead => (HEALTHY + HANGING + TENANT + 1, 1),
        };
        from..from + count
    }

    pub(super) fn of(endpoint: usize) -> Self {
        let mut all = Self::ALL.into_iter();
        all.find(|kind| kind.endpoints().contains(&endpoint))
            .unwrap_or(EndpointKind::Healthy)
    }

    pub(super) fn is_bad(self) -> bool {
        matches!(
            self,
            EndpointKind::Hanging | EndpointKind::Tenant | EndpointKind::Dead
        )
    }

    /// The endpoints of this kind that get messages in this scenario.
    pub(super) fn used(self, scenario: &SimulationScenario) -> Range<usize> {
        let all = self.endpoints();
        match self {
            EndpointKind::Hanging => all.start..all.end.min(all.start + scenario.hanging),
            _ => all,
        }
    }

    /// Messages per second, for all dispatchers together.
    pub(super) fn rate(self, load: SimulationLoad, dispatchers: usize) -> f64 {
        let count = dispatchers as f64;
        match self {
            EndpointKind::Healthy => load.healthy * count,
            EndpointKind::Slow => load.slow,
            EndpointKind::Hanging => load.hanging * count,
            EndpointKind::Tenant => load.tenant * count,
            EndpointKind::Dead => load.dead * count,
        }
    }
}

#[derive(Debug, Clone, Copy)]
pub(super) struct SimulatedEndpoint {
    pub(super) kind: EndpointKind,
    pub(super) share_groups: ShareGroups,
    /// The response time while it is healthy.
    pub(super) takes: Duration,
}

/// All endpoints. The tenant is one of the organizations, and has healthy endpoints like the others.
pub(super) fn endpoints() -> Vec<SimulatedEndpoint> {
    let count = EndpointKind::ALL
        .map(|kind| kind.endpoints().len())
        .iter()
        .sum();
    (0..count).map(endpoint).collect()
}

fn endpoint(index: usize) -> SimulatedEndpoint {
    let kind = EndpointKind::of(index);
    let (origin, organization) = match kind {
        EndpointKind::Tenant => (kind.endpoints().start, 0),
        _ => (index, index % ORGANIZATIONS),
    };
    let takes = match kind {
        EndpointKind::Slow => 500,
        _ => 2 + index as u64 % 7,
    };
    SimulatedEndpoint {
        kind,
        share_groups: ShareGroups {
            origin: ShareGroup(origin as u64),
            organization: ShareGroup(organization as u64),
        },
        takes: Duration::from_millis(takes),
    }
}
