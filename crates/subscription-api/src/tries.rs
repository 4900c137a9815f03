//! Wrong keys: so many from one address, and then it is told to wait before the store is asked.
//!
//! Many callers may share an address, behind a proxy or a router. So one whose key was good before
//! passes all the same: whoever tries keys there costs them nothing.

use std::collections::HashSet;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use hookline_core::rate::{Rate, SharedRates};
use hookline_store::KeyHash;

/// The most keys that are known to have been good.
const MAX_GOOD: usize = 10_000;

/// Who has tried how often.
#[derive(Debug)]
pub(crate) struct Tries {
    failed: SharedRates<IpAddr>,
    good: Mutex<HashSet<KeyHash>>,
}

/// One request's key and where it came from; nowhere in tests alone.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Try {
    pub(crate) key: KeyHash,
    pub(crate) from: Option<IpAddr>,
}

impl Tries {
    pub(crate) fn new(rate: Rate) -> Self {
        Self {
            failed: SharedRates::new(rate),
            good: Mutex::default(),
        }
    }

    /// Whether the store shall be asked about a key.
    ///
    /// # Errors
    /// How long it shall not.
    pub(crate) fn may(&self, presented: Try, now: Instant) -> Result<(), Duration> {
        let Some(from) = presented.from.map(network) else {
            return Ok(());
        };
        match self.failed.look(&from, now) {
            Err(wait) if !self.good().contains(&presented.key) => Err(wait),
            _ => Ok(()),
        }
    }

    /// The key was wrong.
    pub(crate) fn failed(&self, presented: Try, now: Instant) {
        self.good().remove(&presented.key);
        if let Some(from) = presented.from {
            // One more than allowed changes nothing.
            let _ = self.failed.take(network(from), now);
        }
    }

    /// The key was good.
    pub(crate) fn succeeded(&self, presented: Try) {
        let mut good = self.good();
        if good.len() >= MAX_GOOD && !good.contains(&presented.key) {
            good.clear();
        }
        good.insert(presented.key);
    }

    fn good(&self) -> std::sync::MutexGuard<'_, HashSet<KeyHash>> {
        self.good.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Of IPv6, somebody has 2^64 addresses at least.
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
    use super::*;

    fn of(key: &str, from: &str) -> Try {
        Try {
            key: KeyHash::of(key),
            from: Some(from.parse().unwrap()),
        }
    }

    #[test]
    fn an_address_that_tries_too_often_waits_and_others_do_not() {
        let tries = Tries::new(Rate::new(3, Duration::from_secs(60)));
        let now = Instant::now();
        for guess in ["a", "b", "c"] {
            assert_eq!(tries.may(of(guess, "192.0.2.1"), now), Ok(()));
            tries.failed(of(guess, "192.0.2.1"), now);
        }
        let wait = Duration::from_secs(20);
        assert_eq!(tries.may(of("d", "192.0.2.1"), now), Err(wait));
        assert_eq!(tries.may(of("d", "::ffff:192.0.2.1"), now), Err(wait));
        assert_eq!(tries.may(of("d", "192.0.2.2"), now), Ok(()));
        assert_eq!(tries.may(of("d", "192.0.2.1"), now + wait), Ok(()));
    }

    #[test]
    fn a_network_of_ipv6_is_one_address() {
        let tries = Tries::new(Rate::new(1, Duration::from_secs(60)));
        let now = Instant::now();
        tries.failed(of("a", "2001:db8::1"), now);
        assert!(tries.may(of("b", "2001:db8::2"), now).is_err());
        assert!(tries.may(of("b", "2001:db8:0:1::2"), now).is_ok());
    }

    #[test]
    fn a_key_that_was_good_passes_until_it_is_good_no_more() {
        let tries = Tries::new(Rate::new(1, Duration::from_secs(60)));
        let now = Instant::now();
        tries.succeeded(of("good", "192.0.2.1"));
        tries.failed(of("a", "192.0.2.1"), now);
        assert_eq!(tries.may(of("good", "192.0.2.1"), now), Ok(()));
        tries.failed(of("good", "192.0.2.1"), now);
        assert!(tries.may(of("good", "192.0.2.1"), now).is_err());
    }
}
