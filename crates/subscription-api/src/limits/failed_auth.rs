//! The limit of failed authentication. A key that was not valid in this process before waits for one of a few store
//! lookups, per address and in total. A flood of wrong keys gets a small share of the store, and a valid key waits for
//! its lookup. An address that exceeds the rate of wrong keys gets 429 for wrong keys only.

use std::collections::{HashMap, HashSet};
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use hookline_core::rate_limit::{Rate, SharedRateLimiter};
use hookline_store::KeyHash;
use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Valid keys that are remembered at most; beyond that all are forgotten.
const MAX_VALID_KEYS: usize = 10_000;

/// Lookups of unknown keys at the same time, in total and of one address.
const LOOKUPS: usize = 4;
const LOOKUPS_PER_ADDRESS: usize = 2;

/// From this number of addresses on, those without a lookup are removed.
const CLEANUP_AT: usize = 1_000;

#[derive(Debug)]
pub(crate) struct FailedAuthLimit {
    failures: SharedRateLimiter<IpAddr>,
    valid: Mutex<HashSet<KeyHash>>,
    total: Arc<Semaphore>,
    by_address: Mutex<HashMap<IpAddr, Weak<Semaphore>>>,
}

/// The key of a request and the client's address, which only tests leave out.
#[derive(Debug, Clone, Copy)]
pub(crate) struct PresentedKey {
    pub(crate) hash: KeyHash,
    pub(crate) address: Option<IpAddr>,
}

/// The permission to look a key up in the store, until this is dropped. A key that was valid before needs no permit.
#[derive(Debug)]
pub(crate) struct LookupPermit {
    _permits: Option<[OwnedSemaphorePermit; 2]>,
}

impl FailedAuthLimit {
    pub(crate) fn new(rate: Rate) -> Self {
        Self {
            failures: SharedRateLimiter::new(rate),
            valid: Mutex::default(),
            total: Arc::new(Semaphore::new(LOOKUPS)),
            by_address: Mutex::default(),
        }
    }

    /// Waits for a lookup. Keys of one address first wait for each other, so that an address with many keys has at most
    /// two in the queue of all addresses.
    pub(crate) async fn acquire_lookup(&self, presented: PresentedKey) -> LookupPermit {
        let unknown = presented
            .address
            .filter(|_| !self.valid.lock().contains(&presented.hash));
        let _permits = match unknown {
            None => None,
            Some(address) => {
                let per_address = acquire(self.lookups_of(network(address))).await;
                let total = acquire(Arc::clone(&self.total)).await;
                per_address.zip(total).map(|(one, other)| [one, other])
            }
        };
        LookupPermit { _permits }
    }

    fn lookups_of(&self, network: IpAddr) -> Arc<Semaphore> {
        let mut by_address = self.by_address.lock();
        if let Some(semaphore) = by_address.get(&network).and_then(Weak::upgrade) {
            return semaphore;
        }
        if by_address.len() >= CLEANUP_AT {
            by_address.retain(|_, semaphore| semaphore.strong_count() > 0);
        }
        let new = Arc::new(Semaphore::new(LOOKUPS_PER_ADDRESS));
        by_address.insert(network, Arc::downgrade(&new));
        new
    }

    /// Records a wrong key. The error is how long the address has to wait, where it has sent too many.
    pub(crate) fn record_failure(
        &self,
        presented: PresentedKey,
        now: Instant,
    ) -> Result<(), Duration> {
        self.valid.lock().remove(&presented.hash);
        match presented.address {
            Some(address) => self.failures.try_acquire(network(address), now),
            None => Ok(()),
        }
    }

    pub(crate) fn record_success(&self, presented: PresentedKey) {
        let mut valid = self.valid.lock();
        if valid.len() >= MAX_VALID_KEYS && !valid.contains(&presented.hash) {
            valid.clear();
        }
        valid.insert(presented.hash);
    }
}

/// None where the semaphore is closed, which never happens here.
async fn acquire(semaphore: Arc<Semaphore>) -> Option<OwnedSemaphorePermit> {
    semaphore.acquire_owned().await.ok()
}

/// The /64 network of an IPv6 address: one customer has at least 2^64 addresses.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => address.into(),
        IpAddr::V6(address) => {
            Ipv6Addr::from_bits(address.to_bits() & !u128::from(u64::MAX)).into()
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;

    use super::*;

    fn presented(key: &str, from: &str) -> PresentedKey {
        PresentedKey {
            hash: KeyHash::of(key),
            address: Some(from.parse().unwrap()),
        }
    }

    fn lookup(limit: &FailedAuthLimit, key: &str, from: &str) -> Option<LookupPermit> {
        limit.acquire_lookup(presented(key, from)).now_or_never()
    }

    #[test]
    fn an_address_that_exceeds_the_rate_of_wrong_keys_has_to_wait_and_others_do_not() {
        let limit = FailedAuthLimit::new(Rate::new(3, Duration::from_secs(60)));
        let now = Instant::now();
        for guess in ["a", "b", "c"] {
            assert_eq!(
                limit.record_failure(presented(guess, "192.0.2.1"), now),
                Ok(())
            );
        }
        let wait = Duration::from_secs(20);
        assert_eq!(
            limit.record_failure(presented("d", "192.0.2.1"), now),
            Err(wait)
        );
        assert_eq!(
            limit.record_failure(presented("d", "::ffff:192.0.2.1"), now),
            Err(wait)
        );
        assert_eq!(
            limit.record_failure(presented("d", "192.0.2.2"), now),
            Ok(())
        );
        assert_eq!(
            limit.record_failure(presented("d", "192.0.2.1"), now + wait),
            Ok(())
        );
    }

    #[test]
    fn an_ipv6_network_counts_as_one_address() {
        let limit = FailedAuthLimit::new(Rate::new(1, Duration::from_secs(60)));
        let now = Instant::now();
        assert!(
            limit
                .record_failure(presented("a", "2001:db8::1"), now)
                .is_ok()
        );
        assert!(
            limit
                .record_failure(presented("b", "2001:db8::2"), now)
                .is_err()
        );
        assert!(
            limit
                .record_failure(presented("b", "2001:db8:0:1::2"), now)
                .is_ok()
        );
    }

    #[test]
    fn an_address_has_two_lookups_at_the_same_time_and_all_addresses_have_four() {
        let limit = FailedAuthLimit::new(Rate::new(1, Duration::from_secs(60)));
        let first = lookup(&limit, "a", "192.0.2.1");
        let second = lookup(&limit, "b", "192.0.2.1");
        assert!(first.is_some() && second.is_some());
        assert!(lookup(&limit, "c", "192.0.2.1").is_none());
        let third = lookup(&limit, "d", "192.0.2.2");
        let fourth = lookup(&limit, "e", "192.0.2.3");
        assert!(third.is_some() && fourth.is_some());
        assert!(lookup(&limit, "f", "192.0.2.4").is_none());
        drop(first);
        assert!(lookup(&limit, "f", "192.0.2.4").is_some());
        assert!(lookup(&limit, "c", "192.0.2.1").is_some());
    }

    #[test]
    fn a_key_that_was_valid_waits_for_no_lookup_until_it_is_no_longer_valid() {
        let limit = FailedAuthLimit::new(Rate::new(1, Duration::from_secs(60)));
        let valid = presented("good", "192.0.2.1");
        limit.record_success(valid);
        let _first = lookup(&limit, "a", "192.0.2.1");
        let _second = lookup(&limit, "b", "192.0.2.1");
        assert!(lookup(&limit, "good", "192.0.2.1").is_some());
        assert!(limit.record_failure(valid, Instant::now()).is_ok());
        assert!(lookup(&limit, "good", "192.0.2.1").is_none());
    }

    #[test]
    fn addresses_without_a_lookup_are_removed() {
        let limit = FailedAuthLimit::new(Rate::new(1, Duration::from_secs(60)));
        for host in 0..10_000_u32 {
            let from = std::net::Ipv4Addr::from_bits(host).to_string();
            assert!(lookup(&limit, "a", &from).is_some());
        }
        assert!(limit.by_address.lock().len() <= CLEANUP_AT);
    }
}
