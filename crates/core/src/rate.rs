//! How often something may happen, for each of many keys.
//!
//! A key has one number: the moment until which its past has used up its rate (the generic cell
//! rate algorithm). So a key takes a few bytes, and none once that moment has passed.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How many keys are kept at most. They come from outside; beyond that all are forgotten, which
/// for a moment is milder than the rate and takes no more memory.
const KEYS: usize = 65_536;

/// Below this nobody looks for keys to forget.
const FEW: usize = 1_024;

/// So many within a time, and all of them at once if need be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    interval: Duration,
    burst: u32,
}

impl Rate {
    /// `count` within `time`; one at least.
    pub fn new(count: u32, time: Duration) -> Self {
        let burst = count.max(1);
        Self {
            interval: time / burst,
            burst,
        }
    }

    /// At the same rate, so many at once; one at least.
    #[must_use]
    pub fn with_burst(self, burst: u32) -> Self {
        let burst = burst.max(1);
        Self { burst, ..self }
    }

    /// How far ahead of its time something may happen that counts for `count`; what counts for more
    /// than a burst must come when nothing is used up, or it never could.
    fn room_for(self, count: u32) -> Duration {
        self.interval
            .saturating_mul(self.burst.saturating_sub(count))
    }
}

/// What has happened lately, by key.
#[derive(Debug)]
pub struct Rates<K> {
    rate: Rate,
    used_until: HashMap<K, Instant>,
    look_again_at: usize,
}

impl<K: Eq + Hash> Rates<K> {
    /// Nothing has happened yet.
    pub fn new(rate: Rate) -> Self {
        Self {
            rate,
            used_until: HashMap::new(),
            look_again_at: FEW,
        }
    }

    /// Counts one more of `key`, if the rate has room for it.
    ///
    /// # Errors
    /// How long until it has, where it has none.
    pub fn take(&mut self, key: K, now: Instant) -> Result<(), Duration> {
        self.take_all(key, 1, now)
    }

    /// Counts `count` more of `key`, if the rate has room for all of them; else none.
    ///
    /// # Errors
    /// How long until it has, where it has none.
    pub fn take_all(&mut self, key: K, count: u32, now: Instant) -> Result<(), Duration> {
        self.forget_the_idle(now);
        let Rate { interval, .. } = self.rate;
        let room = self.rate.room_for(count);
        let until = self.used_until.entry(key).or_insert(now);
        let used = until.saturating_duration_since(now);
        if used > room {
            return Err(used - room);
        }
        *until = (*until).max(now) + interval.saturating_mul(count);
        Ok(())
    }

    /// Counts `count` more of `key` whether the rate has room for them or not, and says how long
    /// they are to wait until it has.
    pub fn queue(&mut self, key: K, count: u32, now: Instant) -> Duration {
        self.forget_the_idle(now);
        let Rate { interval, .. } = self.rate;
        let room = self.rate.room_for(count);
        let until = self.used_until.entry(key).or_insert(now);
        let turn = (*until).max(now);
        *until = turn + interval.saturating_mul(count);
        (turn - now).saturating_sub(room)
    }

    /// How long until the rate of `key` has room for one more.
    pub fn wait(&self, key: &K, now: Instant) -> Duration {
        let used = self.used_until.get(key);
        let used = used.map_or(Duration::ZERO, |until| until.saturating_duration_since(now));
        used.saturating_sub(self.rate.room_for(1))
    }

    fn forget_the_idle(&mut self, now: Instant) {
        if self.used_until.len() < self.look_again_at {
            return;
        }
        self.used_until.retain(|_, until| *until > now);
        if self.used_until.len() >= KEYS {
            self.used_until.clear();
        }
        self.look_again_at = (2 * self.used_until.len()).clamp(FEW, KEYS);
    }
}

/// [`Rates`] that many threads ask.
#[derive(Debug)]
pub struct SharedRates<K>(Mutex<Rates<K>>);

impl<K: Eq + Hash> SharedRates<K> {
    /// Nothing has happened yet.
    pub fn new(rate: Rate) -> Self {
        Self(Mutex::new(Rates::new(rate)))
    }

    /// As [`Rates::take`].
    ///
    /// # Errors
    /// How long until there is room, where there is none.
    pub fn take(&self, key: K, now: Instant) -> Result<(), Duration> {
        self.rates().take(key, now)
    }

    /// As [`Rates::take_all`].
    ///
    /// # Errors
    /// How long until there is room, where there is none.
    pub fn take_all(&self, key: K, count: u32, now: Instant) -> Result<(), Duration> {
        self.rates().take_all(key, count, now)
    }

    fn rates(&self) -> MutexGuard<'_, Rates<K>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_key_has_its_rate_and_costs_no_other_key() {
        let mut rates = Rates::new(Rate::new(4, SECOND));
        let start = Instant::now();
        let taken = (0..10).filter(|_| rates.take("a", start).is_ok()).count();
        assert_eq!(taken, 4);
        assert_eq!(rates.take("a", start), Err(SECOND / 4));
        assert!(rates.take("b", start).is_ok());
        let later = start + SECOND / 4;
        assert!(rates.take("a", later).is_ok());
        assert!(rates.take("a", later).is_err());
        assert!(rates.take("a", start + 60 * SECOND).is_ok());
    }

    #[test]
    fn a_burst_goes_through() {
        let mut rates = Rates::new(Rate::new(2, SECOND).with_burst(4));
        let start = Instant::now();
        for _ in 0..4 {
            assert_eq!(rates.take("a", start), Ok(()));
        }
        assert_eq!(rates.take("a", start), Err(SECOND / 2));
        assert_eq!(rates.take("b", start), Ok(()));
        assert_eq!(rates.take("a", start + SECOND / 2), Ok(()));
        assert!(rates.take("a", start + SECOND / 2).is_err());
    }

    #[test]
    fn in_the_long_run_nobody_has_more_than_the_rate() {
        let mut rates = Rates::new(Rate::new(50, SECOND));
        let start = Instant::now();
        let taken = (0..10_000)
            .map(|millisecond| start + Duration::from_millis(millisecond))
            .filter(|now| rates.take((), *now).is_ok())
            .count();
        assert!((500..=550).contains(&taken), "{taken} in 10 s");
    }

    #[test]
    fn many_at_once_are_counted_all_or_none() {
        let mut rates = Rates::new(Rate::new(10, SECOND).with_burst(20));
        let start = Instant::now();
        assert_eq!(rates.take_all("a", 15, start), Ok(()));
        assert_eq!(rates.take_all("a", 6, start), Err(SECOND / 10));
        assert_eq!(rates.take_all("a", 5, start), Ok(()));
        // More than a burst passes when nothing is used up, and is paid for afterwards.
        let later = start + 60 * SECOND;
        assert_eq!(rates.take_all("a", 100, later), Ok(()));
        let wait = rates.take("a", later).unwrap_err();
        assert_eq!(wait, 100 * SECOND / 10 - 19 * SECOND / 10);
    }

    #[test]
    fn what_queues_comes_at_the_rate_after_the_burst() {
        let mut rates = Rates::new(Rate::new(10, SECOND).with_burst(5));
        let start = Instant::now();
        let waits: Vec<u128> = (0..8)
            .map(|_| rates.queue("a", 1, start).as_millis())
            .collect();
        assert_eq!(waits, [0, 0, 0, 0, 0, 100, 200, 300]);
        assert_eq!(rates.queue("b", 5, start), Duration::ZERO);
        assert_eq!(rates.queue("b", 5, start), SECOND / 2);
    }

    #[test]
    fn a_wait_is_that_of_the_next_that_would_be_taken() {
        let mut rates = Rates::new(Rate::new(4, SECOND));
        let start = Instant::now();
        for _ in 0..4 {
            assert_eq!(rates.wait(&"a", start), Duration::ZERO);
            rates.take("a", start).unwrap();
        }
        assert_eq!(rates.wait(&"a", start), SECOND / 4);
        assert_eq!(rates.take("a", start), Err(SECOND / 4));
        assert_eq!(rates.wait(&"a", start + SECOND / 4), Duration::ZERO);
    }

    #[test]
    fn keys_without_end_take_no_memory_without_end() {
        let mut rates = Rates::new(Rate::new(1, SECOND));
        let start = Instant::now();
        for key in 0..1_000_000_u32 {
            rates
                .take(key, start + Duration::from_micros(u64::from(key)))
                .unwrap();
            assert!(rates.used_until.len() <= KEYS);
        }
    }

    #[test]
    fn an_idle_key_takes_no_memory() {
        let mut rates = Rates::new(Rate::new(1, SECOND));
        let start = Instant::now();
        for key in 0..FEW {
            rates.take(key, start).unwrap();
        }
        rates.take(FEW, start + 10 * SECOND).unwrap();
        assert_eq!(rates.used_until.len(), 1);
    }
}
