//! Who is there: dispatchers, endpoints, and how much is published for whom.
//!
//! The endpoints are the same however many dispatchers there are, and the load is given for each
//! dispatcher. So what one dispatcher sees does not change with their number, and whatever grows
//! is what does not scale.

use std::ops::Range;
use std::time::Duration;

use hookline_dispatcher::scheduler::{ShareGroup, ShareGroups};

const HEALTHY: usize = 4_748;
const HANGING: usize = 2_000;
const TENANT: usize = 50;
const ORGANIZATIONS: usize = 500;

/// How long a request may take.
pub(super) const DEADLINE: Duration = Duration::from_secs(15);

/// What is simulated.
#[derive(Debug, Clone)]
pub struct Scene {
    /// How many dispatchers share the deliveries.
    pub dispatchers: usize,
    /// Requests that each may have in flight.
    pub slots: usize,
    /// Messages that may wait in each.
    pub room: usize,
    /// Who starts next.
    pub order: Order,
    /// What is published.
    pub load: Load,
    /// For how long it is published.
    pub published_for: Duration,
    /// How many endpoints, each of its own, share what goes to hanging ones; 2,000 at most.
    pub hanging: usize,
    /// From when to when the bad endpoints are bad; well before and after.
    pub ill: Range<Duration>,
    /// Where all chance comes from.
    pub seed: u64,
}

/// Who starts next in a dispatcher.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// Whose turn it is, as in a real one.
    Scheduler,
    /// Whoever came first: what it would be without fairness.
    OneQueue,
}

/// Messages a second, for each dispatcher unless said otherwise.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Load {
    /// To some thousand endpoints that answer in 2 to 8 ms.
    pub healthy: f64,
    /// To an honest one that answers in 500 ms, for all dispatchers together: a subscription is bounded by its owner.
    pub slow: f64,
    /// To those of their own that hang while they are ill.
    pub hanging: f64,
    /// To fifty subscriptions of one organization to one host, which hang while they are ill.
    pub tenant: f64,
    /// To one that refuses connections while it is ill.
    pub dead: f64,
}

impl Load {
    /// The same without what goes to bad endpoints.
    pub fn without_bad(self) -> Self {
        Self {
            hanging: 0.0,
            tenant: 0.0,
            dead: 0.0,
            ..self
        }
    }

    /// So many times as much.
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
pub(super) enum Kind {
    Healthy,
    Slow,
    Hanging,
    Tenant,
    Dead,
}

impl Kind {
    pub(super) const ALL: [Self; 5] = [
        Kind::Healthy,
        Kind::Slow,
        Kind::Hanging,
        Kind::Tenant,
        Kind::Dead,
    ];

    /// Which endpoints are of this kind.
    pub(super) fn endpoints(self) -> Range<usize> {
        let (from, count) = match self {
            Kind::Healthy => (0, HEALTHY),
            Kind::Hanging => (HEALTHY, HANGING),
            Kind::Tenant => (HEALTHY + HANGING, TENANT),
            Kind::Slow => (HEALTHY + HANGING + TENANT, 1),
            Kind::Dead => (HEALTHY + HANGING + TENANT + 1, 1),
        };
        from..from + count
    }

    pub(super) fn of(endpoint: usize) -> Self {
        let mut all = Self::ALL.into_iter();
        all.find(|kind| kind.endpoints().contains(&endpoint))
            .unwrap_or(Kind::Healthy)
    }

    pub(super) fn is_bad(self) -> bool {
        matches!(self, Kind::Hanging | Kind::Tenant | Kind::Dead)
    }

    /// Those that something is published for.
    pub(super) fn used(self, scene: &Scene) -> Range<usize> {
        let all = self.endpoints();
        match self {
            Kind::Hanging => all.start..all.end.min(all.start + scene.hanging),
            _ => all,
        }
    }

    /// Messages a second, for so many dispatchers.
    pub(super) fn rate(self, load: Load, dispatchers: usize) -> f64 {
        let count = dispatchers as f64;
        match self {
            Kind::Healthy => load.healthy * count,
            Kind::Slow => load.slow,
            Kind::Hanging => load.hanging * count,
            Kind::Tenant => load.tenant * count,
            Kind::Dead => load.dead * count,
        }
    }
}

/// A receiver.
#[derive(Debug, Clone, Copy)]
pub(super) struct Endpoint {
    pub(super) kind: Kind,
    pub(super) kin: ShareGroups,
    /// How long it takes when it is well.
    pub(super) takes: Duration,
}

/// All of them. The tenant is one of the organizations, with healthy endpoints like the others.
pub(super) fn endpoints() -> Vec<Endpoint> {
    let count = Kind::ALL.map(|kind| kind.endpoints().len()).iter().sum();
    (0..count).map(endpoint).collect()
}

fn endpoint(index: usize) -> Endpoint {
    let kind = Kind::of(index);
    let (origin, organization) = match kind {
        Kind::Tenant => (kind.endpoints().start, 0),
        _ => (index, index % ORGANIZATIONS),
    };
    let takes = match kind {
        Kind::Slow => 500,
        _ => 2 + index as u64 % 7,
    };
    Endpoint {
        kind,
        kin: ShareGroups {
            origin: ShareGroup(origin as u64),
            organization: ShareGroup(organization as u64),
        },
        takes: Duration::from_millis(takes),
    }
}
