//! Rate limits, one for each of many keys.
//!
//! A key has one number: the moment until which its past uses up its rate (the generic cell rate algorithm).
//! A key therefore takes a few bytes, and none once that moment has passed.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// The largest number of keys, which come from outside. Beyond it all keys are forgotten: for a moment the limit is
/// milder, and memory stays bounded.
const MAX_KEYS: usize = 65_536;

/// Below this number no idle keys are evicted.
const MIN_KEYS: usize = 1_024;

/// A rate and a burst.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    interval: Duration,
    burst: u32,
}

impl Rate {
    /// `count` within `time`, and as a burst of this size; 1 at least.
    pub fn new(count: u32, time: Duration) -> Self {
        let burst = count.max(1);
        Self {
            interval: time / burst,
            burst,
        }
    }

    /// The same rate with another burst; 1 at least.
    #[must_use]
    pub fn with_burst(self, burst: u32) -> Self {
        let burst = burst.max(1);
        Self { burst, ..self }
    }

    /// How far ahead of its time a request of weight `count` may come. A weight above the burst is allowed
    /// when nothing is used up: otherwise it never would be.
    fn room_for(self, count: u32) -> Duration {
        self.interval
            .saturating_mul(self.burst.saturating_sub(count))
    }
}

/// A rate limiter with a state for each key.
#[derive(Debug)]
pub struct RateLimiter<K> {
    rate: Rate,
    used_until: HashMap<K, Instant>,
    evict_at: usize,
}

impl<K: Eq + Hash> RateLimiter<K> {
    pub fn new(rate: Rate) -> Self {
        Self {
            rate,
            used_until: HashMap::new(),
            evict_at: MIN_KEYS,
        }
    }

    /// Counts one request of `key`, if the rate allows it.
    ///
    /// # Errors
    /// The time until it does.
    pub fn try_acquire(&mut self, key: K, now: Instant) -> Result<(), Duration> {
        self.try_acquire_many(key, 1, now)
    }

    /// Counts `count` requests of `key`, if the rate allows all of them; else none.
    ///
    /// # Errors
    /// The time until it does.
    pub fn try_acquire_many(&mut self, key: K, count: u32, now: Instant) -> Result<(), Duration> {
        self.evict_idle(now);
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

    /// Counts `count` requests of `key` in any case, and answers with how long these have to wait.
    pub fn reserve(&mut self, key: K, count: u32, now: Instant) -> Duration {
        self.evict_idle(now);
        let Rate { interval, .. } = self.rate;
        let room = self.rate.room_for(count);
        let until = self.used_until.entry(key).or_insert(now);
        let turn = (*until).max(now);
        *until = turn + interval.saturating_mul(count);
        (turn - now).saturating_sub(room)
    }

    /// The time until the rate of `key` allows one request. Counts nothing.
    pub fn peek(&self, key: &K, now: Instant) -> Duration {
        let used = self.used_until.get(key);
        let used = used.map_or(Duration::ZERO, |until| until.saturating_duration_since(now));
        used.saturating_sub(self.rate.room_for(1))
    }

    fn evict_idle(&mut self, now: Instant) {
        if self.used_until.len() < self.evict_at {
            return;
        }
        self.used_until.retain(|_, until| *until > now);
        if self.used_until.len() >= MAX_KEYS {
            self.used_until.clear();
        }
        self.evict_at = (2 * self.used_until.len()).clamp(MIN_KEYS, MAX_KEYS);
    }
}

/// A [`RateLimiter`] that threads share.
#[derive(Debug)]
pub struct SharedRateLimiter<K>(Mutex<RateLimiter<K>>);

impl<K: Eq + Hash> SharedRateLimiter<K> {
    pub fn new(rate: Rate) -> Self {
        Self(Mutex::new(RateLimiter::new(rate)))
    }

    /// As [`RateLimiter::try_acquire`].
    ///
    /// # Errors
    /// The time until the rate allows it.
    pub fn try_acquire(&self, key: K, now: Instant) -> Result<(), Duration> {
        self.limiter().try_acquire(key, now)
    }

    /// As [`RateLimiter::try_acquire_many`].
    ///
    /// # Errors
    /// The time until the rate allows all of them.
    pub fn try_acquire_many(&self, key: K, count: u32, now: Instant) -> Result<(), Duration> {
        self.limiter().try_acquire_many(key, count, now)
    }

    fn limiter(&self) -> MutexGuard<'_, RateLimiter<K>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn each_key_has_a_rate_of_its_own() {
        let mut limiter = RateLimiter::new(Rate::new(4, SECOND));
        let start = Instant::now();
        let taken = (0..10)
            .filter(|_| limiter.try_acquire("a", start).is_ok())
            .count();
        assert_eq!(taken, 4);
        assert_eq!(limiter.try_acquire("a", start), Err(SECOND / 4));
        assert!(limiter.try_acquire("b", start).is_ok());
        let later = start + SECOND / 4;
        assert!(limiter.try_acquire("a", later).is_ok());
        assert!(limiter.try_acquire("a", later).is_err());
        assert!(limiter.try_acquire("a", start + 60 * SECOND).is_ok());
    }

    #[test]
    fn a_burst_is_allowed() {
        let mut limiter = RateLimiter::new(Rate::new(2, SECOND).with_burst(4));
        let start = Instant::now();
        for _ in 0..4 {
            assert_eq!(limiter.try_acquire("a", start), Ok(()));
        }
        assert_eq!(limiter.try_acquire("a", start), Err(SECOND / 2));
        assert_eq!(limiter.try_acquire("b", start), Ok(()));
        assert_eq!(limiter.try_acquire("a", start + SECOND / 2), Ok(()));
        assert!(limiter.try_acquire("a", start + SECOND / 2).is_err());
    }

    #[test]
    fn in_the_long_run_no_key_exceeds_the_rate() {
        let mut limiter = RateLimiter::new(Rate::new(50, SECOND));
        let start = Instant::now();
        let taken = (0..10_000)
            .map(|millisecond| start + Duration::from_millis(millisecond))
            .filter(|now| limiter.try_acquire((), *now).is_ok())
            .count();
        assert!((500..=550).contains(&taken), "{taken} in 10 s");
    }

    #[test]
    fn many_requests_are_counted_all_or_none() {
        let mut limiter = RateLimiter::new(Rate::new(10, SECOND).with_burst(20));
        let start = Instant::now();
        assert_eq!(limiter.try_acquire_many("a", 15, start), Ok(()));
        assert_eq!(limiter.try_acquire_many("a", 6, start), Err(SECOND / 10));
        assert_eq!(limiter.try_acquire_many("a", 5, start), Ok(()));
        // More than a burst passes when nothing is used up, and is paid for afterwards.
        let later = start + 60 * SECOND;
        assert_eq!(limiter.try_acquire_many("a", 100, later), Ok(()));
        let wait = limiter.try_acquire("a", later).unwrap_err();
        assert_eq!(wait, 100 * SECOND / 10 - 19 * SECOND / 10);
    }

    #[test]
    fn reserved_requests_wait_for_the_rate_after_the_burst() {
        let mut limiter = RateLimiter::new(Rate::new(10, SECOND).with_burst(5));
        let start = Instant::now();
        let waits: Vec<u128> = (0..8)
            .map(|_| limiter.reserve("a", 1, start).as_millis())
            .collect();
        assert_eq!(waits, [0, 0, 0, 0, 0, 100, 200, 300]);
        assert_eq!(limiter.reserve("b", 5, start), Duration::ZERO);
        assert_eq!(limiter.reserve("b", 5, start), SECOND / 2);
    }

    #[test]
    fn a_peek_is_the_wait_of_the_next_request() {
        let mut limiter = RateLimiter::new(Rate::new(4, SECOND));
        let start = Instant::now();
        for _ in 0..4 {
            assert_eq!(limiter.peek(&"a", start), Duration::ZERO);
            limiter.try_acquire("a", start).unwrap();
        }
        assert_eq!(limiter.peek(&"a", start), SECOND / 4);
        assert_eq!(limiter.try_acquire("a", start), Err(SECOND / 4));
        assert_eq!(limiter.peek(&"a", start + SECOND / 4), Duration::ZERO);
    }

    #[test]
    fn the_number_of_keys_is_bounded() {
        let mut limiter = RateLimiter::new(Rate::new(1, SECOND));
        let start = Instant::now();
        for key in 0..1_000_000_u32 {
            limiter
                .try_acquire(key, start + Duration::from_micros(u64::from(key)))
                .unwrap();
            assert!(limiter.used_until.len() <= MAX_KEYS);
        }
    }

    #[test]
    fn idle_keys_are_evicted() {
        let mut limiter = RateLimiter::new(Rate::new(1, SECOND));
        let start = Instant::now();
        for key in 0..MIN_KEYS {
            limiter.try_acquire(key, start).unwrap();
        }
        limiter.try_acquire(MIN_KEYS, start + 10 * SECOND).unwrap();
        assert_eq!(limiter.used_until.len(), 1);
    }
}
