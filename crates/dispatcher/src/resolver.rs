//! Names become addresses here, and only those that may be dialled leave: what was checked is
//! what is dialled, whatever the name says a moment later.

use std::net::SocketAddr;

use hookline_core::target::TargetRules;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};

/// The resolver of the HTTP client. It is never asked for literals.
#[derive(Debug)]
pub(crate) struct AllowedAddresses {
    pub(crate) rules: TargetRules,
}

/// The one error, for a name that does not resolve and for one that resolves inside: a subscriber
/// could tell our names from others by a difference.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the name does not resolve to an address that may be called")]
pub(crate) struct NotAllowed;

impl Resolve for AllowedAddresses {
    fn resolve(&self, name: Name) -> Resolving {
        let rules = self.rules;
        Box::pin(async move {
            let found: Vec<SocketAddr> = tokio::net::lookup_host((name.as_str(), 0))
                .await
                .map_err(|_| NotAllowed)?
                .collect();
            let allowed =
                !found.is_empty() && found.iter().all(|address| rules.allow(address.ip()));
            if !allowed {
                return Err(NotAllowed.into());
            }
            Ok(Box::new(found.into_iter()) as Addrs)
        })
    }
}
