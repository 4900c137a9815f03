//! Names become addresses here, and only those that may be dialled leave: what was checked is
//! what is dialled, whatever the name says a moment later.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hookline_core::target::TargetRules;
use moka::Expiry;
use moka::future::Cache;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};

use crate::names::{Found, Names};

/// How many names are remembered.
const NAMES: u64 = 10_000;

/// How long at most, whatever their owners say: a receiver that moves is soon found.
const LONGEST: Duration = Duration::from_secs(30);

/// How long it is remembered that a name leads nowhere.
const NOWHERE: Duration = Duration::from_secs(2);

/// The resolver of the HTTP client. It is never asked for literals.
#[derive(Clone)]
pub(crate) struct AllowedAddresses {
    rules: TargetRules,
    names: Arc<Names>,
    /// Those who want the same name at the same time ask once.
    found: Cache<String, Option<Found>>,
}

/// The one error, for a name that does not resolve and for one that resolves inside: a subscriber
/// could tell our names from others by a difference.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the name does not resolve to an address that may be called")]
pub(crate) struct NotAllowed;

impl AllowedAddresses {
    pub(crate) fn new(rules: TargetRules, names: Names) -> Self {
        let found = Cache::builder()
            .max_capacity(NAMES)
            .expire_after(AsItsOwnerSays)
            .build();
        Self {
            rules,
            names: Arc::new(names),
            found,
        }
    }

    /// All addresses of a name. One that may not be dialled spoils the others: whoever mixes them
    /// means to be let through by chance.
    async fn addresses(&self, name: &str) -> Result<Vec<SocketAddr>, NotAllowed> {
        let asking = self.names.ask(name);
        let found = self.found.get_with_by_ref(name, asking).await;
        let addresses = found.ok_or(NotAllowed)?.addresses;
        let allowed = !addresses.is_empty() && addresses.iter().all(|one| self.rules.allow(*one));
        match allowed {
            true => Ok(addresses.iter().map(|one| (*one, 0).into()).collect()),
            false => Err(NotAllowed),
        }
    }
}

impl Resolve for AllowedAddresses {
    fn resolve(&self, name: Name) -> Resolving {
        let this = self.clone();
        Box::pin(async move {
            let addresses = this.addresses(name.as_str()).await?;
            Ok(Box::new(addresses.into_iter()) as Addrs)
        })
    }
}

struct AsItsOwnerSays;

impl Expiry<String, Option<Found>> for AsItsOwnerSays {
    fn expire_after_create(
        &self,
        _: &String,
        found: &Option<Found>,
        now: Instant,
    ) -> Option<Duration> {
        Some(match found {
            Some(found) => found.until.saturating_duration_since(now).min(LONGEST),
            None => NOWHERE,
        })
    }

    fn expire_after_update(
        &self,
        name: &String,
        found: &Option<Found>,
        now: Instant,
        _: Option<Duration>,
    ) -> Option<Duration> {
        self.expire_after_create(name, found, now)
    }
}
