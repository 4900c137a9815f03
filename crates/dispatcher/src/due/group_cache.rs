//! A cache of the origin and the organization of each subscription, as the bulkheads and the waiting list need them. Its
//! source is the delivery rows in the store.
//!
//! A message could carry both, but with the values from the time of publication. A subscription that moves to another
//! host takes its backlog with it. The worker therefore learns them before a message gets into its subscription queue.
//! This costs one more query for each subscription that is new here.

use std::collections::HashMap;
use std::hash::{BuildHasher as _, RandomState};
use std::sync::Arc;

use hookline_core::ids::SubscriptionId;
use hookline_store::DueDelivery;
use parking_lot::Mutex;
use url::Url;

use crate::scheduler::{ShareGroup, ShareGroups};

/// The most subscriptions in the cache. When there are more, all are learned anew.
const KNOWN: usize = 65_536;

/// Cheap to clone.
#[derive(Clone, Default)]
pub(crate) struct GroupCache {
    known: Arc<Mutex<HashMap<SubscriptionId, Known>>>,
    /// Its keys are random: no customer can find names that collide.
    hasher: RandomState,
}

struct Known {
    url: u64,
    groups: ShareGroups,
}

impl GroupCache {
    /// The groups in which a subscription shares slots; none while it is unknown.
    pub(crate) fn of(&self, subscription: SubscriptionId) -> Option<ShareGroups> {
        let known = self.known.lock();
        known.get(&subscription).map(|known| known.groups)
    }

    /// The group of the subscription's organization; none while it is unknown.
    pub(super) fn organization(&self, subscription: SubscriptionId) -> Option<ShareGroup> {
        self.of(subscription).map(|groups| groups.organization)
    }

    /// Notes the present target of a delivery's subscription.
    pub(crate) fn learn(&self, delivery: &DueDelivery) {
        let url = self.hasher.hash_one(delivery.url.as_str());
        let mut all = self.known.lock();
        let known = all.get(&delivery.subscription);
        if known.is_some_and(|known| known.url == url) {
            return;
        }
        if all.len() >= KNOWN {
            all.clear();
        }
        let groups = ShareGroups {
            origin: ShareGroup(self.origin(delivery.url.as_str())),
            organization: ShareGroup(self.hasher.hash_one(delivery.organization.as_str())),
        };
        all.insert(delivery.subscription, Known { url, groups });
    }

    #[cfg(test)]
    pub(super) fn note(&self, subscription: SubscriptionId, organization: ShareGroup) {
        let groups = ShareGroups {
            organization,
            ..ShareGroups::default()
        };
        self.known
            .lock()
            .insert(subscription, Known { url: 0, groups });
    }

    /// A URL that cannot be called has no origin; all such URLs share one.
    fn origin(&self, url: &str) -> u64 {
        let url = Url::parse(url).ok();
        let origin = url
            .as_ref()
            .map(|url| (url.scheme(), url.host_str(), url.port_or_known_default()));
        self.hasher.hash_one(origin)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_origin_is_scheme_host_and_port() {
        let group_cache = GroupCache::default();
        let origin = |url| group_cache.origin(url);
        let hooks = origin("https://example.com/hooks?a=b");
        assert_eq!(hooks, origin("HTTPS://Example.com:443/other"));
        for other in [
            "http://example.com/hooks",
            "https://example.com:8443/hooks",
            "https://hooks.example.com/hooks",
        ] {
            assert_ne!(hooks, origin(other), "{other}");
        }
    }
}
