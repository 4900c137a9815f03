//! Wrong keys. A key that this process has not seen to be good waits for one of few lookups, of its
//! address and in all: a flood of wrong keys has a small share of the store, and a good key among them
//! waits for its turn and gets its answer. An address that has sent too many wrong keys is told to
//! wait, in the answer to a wrong key alone.

use std::collections::{HashMap, HashSet};
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use hookline_core::rate::{Rate, SharedRates};
use hookline_store::KeyHash;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// The most keys that are known to have been good.
const MAX_GOOD: usize = 10_000;

/// Lookups of unknown keys at a time, in all and of one address.
const LOOKUPS: usize = 4;
const LOOKUPS_OF_ADDRESS: usize = 2;

/// Addresses that are kept without a look at those whose lookups are over.
const FEW: usize = 1_000;

/// The wrong keys lately, and the lookups under way.
#[derive(Debug)]
pub(crate) struct Tries {
    failed: SharedRates<IpAddr>,
    good: Mutex<HashSet<KeyHash>>,
    all: Arc<Semaphore>,
    by_address: Mutex<HashMap<IpAddr, Weak<Semaphore>>>,
}

/// One request's key and where it came from; nowhere in tests alone.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Try {
    pub(crate) key: KeyHash,
    pub(crate) from: Option<IpAddr>,
}

/// The right to look a key up, until it is dropped. A key that was good needs no permit.
#[derive(Debug)]
pub(crate) struct Lookup {
    _permits: Option<[OwnedSemaphorePermit; 2]>,
}

impl Tries {
    pub(crate) fn new(rate: Rate) -> Self {
        Self {
            failed: SharedRates::new(rate),
            good: Mutex::default(),
            all: Arc::new(Semaphore::new(LOOKUPS)),
            by_address: Mutex::default(),
        }
    }

    /// Waits for the turn of a key. Those of an address wait first among themselves, so that an address
    /// with many of them has no more than two in the line of all.
    pub(crate) async fn turn(&self, presented: Try) -> Lookup {
        let unknown = presented
            .from
            .filter(|_| !lock(&self.good).contains(&presented.key));
        let _permits = match unknown {
            None => None,
            Some(from) => {
                let of_address = acquire(self.of_address(network(from))).await;
                let of_all = acquire(Arc::clone(&self.all)).await;
                of_address.zip(of_all).map(|(one, other)| [one, other])
            }
        };
        Lookup { _permits }
    }

    fn of_address(&self, network: IpAddr) -> Arc<Semaphore> {
        let mut by_address = lock(&self.by_address);
        if let Some(there) = by_address.get(&network).and_then(Weak::upgrade) {
            return there;
        }
        if by_address.len() >= FEW {
            by_address.retain(|_, semaphore| semaphore.strong_count() > 0);
        }
        let new = Arc::new(Semaphore::new(LOOKUPS_OF_ADDRESS));
        by_address.insert(network, Arc::downgrade(&new));
        new
    }

    /// The key was wrong.
    ///
    /// # Errors
    /// How long its address is to wait, where it has sent too many.
    pub(crate) fn failed(&self, presented: Try, now: Instant) -> Result<(), Duration> {
        lock(&self.good).remove(&presented.key);
        match presented.from {
            Some(from) => self.failed.take(network(from), now),
            None => Ok(()),
        }
    }

    /// The key was good.
    pub(crate) fn succeeded(&self, presented: Try) {
        let mut good = lock(&self.good);
        if good.len() >= MAX_GOOD && !good.contains(&presented.key) {
            good.clear();
        }
        good.insert(presented.key);
    }
}

/// None once the semaphore is closed, which none of these is.
async fn acquire(semaphore: Arc<Semaphore>) -> Option<OwnedSemaphorePermit> {
    semaphore.acquire_owned().await.ok()
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A customer has 2^64 addresses of IPv6 at least.
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

    fn of(key: &str, from: &str) -> Try {
        Try {
            key: KeyHash::of(key),
            from: Some(from.parse().unwrap()),
        }
    }

    fn turn(tries: &Tries, key: &str, from: &str) -> Option<Lookup> {
        tries.turn(of(key, from)).now_or_never()
    }

    #[test]
    fn an_address_that_tries_too_often_is_told_to_wait_and_others_are_not() {
        let tries = Tries::new(Rate::new(3, Duration::from_secs(60)));
        let now = Instant::now();
        for guess in ["a", "b", "c"] {
            assert_eq!(tries.failed(of(guess, "192.0.2.1"), now), Ok(()));
        }
        let wait = Duration::from_secs(20);
        assert_eq!(tries.failed(of("d", "192.0.2.1"), now), Err(wait));
        assert_eq!(tries.failed(of("d", "::ffff:192.0.2.1"), now), Err(wait));
        assert_eq!(tries.failed(of("d", "192.0.2.2"), now), Ok(()));
        assert_eq!(tries.failed(of("d", "192.0.2.1"), now + wait), Ok(()));
    }

    #[test]
    fn a_network_of_ipv6_is_one_address() {
        let tries = Tries::new(Rate::new(1, Duration::from_secs(60)));
        let now = Instant::now();
        assert!(tries.failed(of("a", "2001:db8::1"), now).is_ok());
        assert!(tries.failed(of("b", "2001:db8::2"), now).is_err());
        assert!(tries.failed(of("b", "2001:db8:0:1::2"), now).is_ok());
    }

    #[test]
    fn an_address_has_two_lookups_at_a_time_and_all_have_four() {
        let tries = Tries::new(Rate::new(1, Duration::from_secs(60)));
        let first = turn(&tries, "a", "192.0.2.1");
        let second = turn(&tries, "b", "192.0.2.1");
        assert!(first.is_some() && second.is_some());
        assert!(turn(&tries, "c", "192.0.2.1").is_none());
        let third = turn(&tries, "d", "192.0.2.2");
        let fourth = turn(&tries, "e", "192.0.2.3");
        assert!(third.is_some() && fourth.is_some());
        assert!(turn(&tries, "f", "192.0.2.4").is_none());
        drop(first);
        assert!(turn(&tries, "f", "192.0.2.4").is_some());
        assert!(turn(&tries, "c", "192.0.2.1").is_some());
    }

    #[test]
    fn a_key_that_was_good_waits_for_no_lookup_until_it_is_good_no_more() {
        let tries = Tries::new(Rate::new(1, Duration::from_secs(60)));
        let good = of("good", "192.0.2.1");
        tries.succeeded(good);
        let _first = turn(&tries, "a", "192.0.2.1");
        let _second = turn(&tries, "b", "192.0.2.1");
        assert!(turn(&tries, "good", "192.0.2.1").is_some());
        assert!(tries.failed(good, Instant::now()).is_ok());
        assert!(turn(&tries, "good", "192.0.2.1").is_none());
    }

    #[test]
    fn addresses_without_a_lookup_are_forgotten() {
        let tries = Tries::new(Rate::new(1, Duration::from_secs(60)));
        for host in 0..10_000_u32 {
            let from = std::net::Ipv4Addr::from_bits(host).to_string();
            assert!(turn(&tries, "a", &from).is_some());
        }
        assert!(lock(&tries.by_address).len() <= FEW);
    }
}
