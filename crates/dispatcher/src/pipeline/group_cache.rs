//! Where subscriptions point and whose they are, as far as shares need it: learned from what the
//! store says of their deliveries.
//!
//! A message could carry it, but it would be what was true when it was published; a subscription
//! that moves to another host takes its backlog with it. It is learned before a message gets into
//! its lane, with one more question to the store for each subscription that is new here.

use std::collections::HashMap;
use std::hash::{BuildHasher as _, RandomState};

use hookline_core::ids::SubscriptionId;
use hookline_store::DueDelivery;
use url::Url;

use crate::scheduler::{ShareGroup, ShareGroups};

/// How many subscriptions are known. When they become more, all are learned anew.
const KNOWN: usize = 65_536;

#[derive(Default)]
pub(crate) struct GroupCache {
    known: HashMap<SubscriptionId, Known>,
    /// Its keys are chance: nobody outside can find names that collide.
    hasher: RandomState,
}

struct Known {
    url: u64,
    kin: ShareGroups,
}

impl GroupCache {
    /// With whom a subscription shares; none while nothing is known of it.
    pub(crate) fn of(&self, subscription: SubscriptionId) -> Option<ShareGroups> {
        self.known.get(&subscription).map(|known| known.kin)
    }

    /// Notes where a delivery's subscription points now.
    pub(crate) fn learn(&mut self, owed: &DueDelivery) {
        let url = self.hasher.hash_one(owed.url.as_str());
        let known = self.known.get(&owed.subscription);
        if known.is_some_and(|known| known.url == url) {
            return;
        }
        if self.known.len() >= KNOWN {
            self.known.clear();
        }
        let kin = ShareGroups {
            origin: ShareGroup(self.origin(owed.url.as_str())),
            organization: ShareGroup(self.hasher.hash_one(owed.organization.as_str())),
        };
        self.known.insert(owed.subscription, Known { url, kin });
    }

    /// What cannot be called has no origin; all such share one.
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
        let whereabouts = GroupCache::default();
        let origin = |url| whereabouts.origin(url);
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
