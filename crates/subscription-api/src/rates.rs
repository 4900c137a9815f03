//! How often something may happen, for each of many: GCRA, an allowance that refills steadily. One
//! moment is kept for each key, and none for a key whose allowance is whole.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// The most keys that are kept. Beyond that a new one is not counted until others are whole again:
/// a limit must not be a way to fill the memory.
const MAX_KEYS: usize = 100_000;

/// So many at once, and then one each interval.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// How many at once.
    pub burst: u32,
    /// How long it takes until there is one more.
    pub interval: Duration,
}

impl Rate {
    /// So many in this time, also all at once.
    pub(crate) fn per(time: Duration, count: u32) -> Self {
        Self {
            burst: count,
            interval: time / count.max(1),
        }
    }

    /// So many a second, and so many at once.
    pub(crate) fn new(per_second: u32, burst: u32) -> Self {
        Self {
            burst,
            ..Self::per(Duration::from_secs(1), per_second)
        }
    }

    fn whole(self) -> Duration {
        self.interval.saturating_mul(self.burst)
    }
}

/// What each key has used up.
#[derive(Debug)]
pub(crate) struct Rates<K> {
    rate: Rate,
    state: Mutex<State<K>>,
}

#[derive(Debug)]
struct State<K> {
    /// When the allowance of a key is whole again.
    whole_at: HashMap<K, Instant>,
    swept: Option<Instant>,
}

impl<K: Hash + Eq> Rates<K> {
    pub(crate) fn new(rate: Rate) -> Self {
        let state = State {
            whole_at: HashMap::new(),
            swept: None,
        };
        Self {
            rate,
            state: Mutex::new(state),
        }
    }

    /// Uses up one of a key's allowance.
    ///
    /// # Errors
    /// How long there will be none.
    pub(crate) fn take(&self, key: K, now: Instant) -> Result<(), Duration> {
        let mut state = self.state();
        let whole_at = state.whole_at.get(&key).map_or(now, |at| (*at).max(now));
        self.check(whole_at, now)?;
        if state.whole_at.len() >= MAX_KEYS && !state.whole_at.contains_key(&key) {
            state.sweep(now);
        }
        if state.whole_at.len() < MAX_KEYS || state.whole_at.contains_key(&key) {
            state.whole_at.insert(key, whole_at + self.rate.interval);
        }
        Ok(())
    }

    /// Whether a key has any allowance left, without using it up.
    ///
    /// # Errors
    /// How long there will be none.
    pub(crate) fn look(&self, key: &K, now: Instant) -> Result<(), Duration> {
        let whole_at = self.state().whole_at.get(key).copied();
        whole_at.map_or(Ok(()), |at| self.check(at.max(now), now))
    }

    fn check(&self, whole_at: Instant, now: Instant) -> Result<(), Duration> {
        let used = whole_at.duration_since(now) + self.rate.interval;
        match used.checked_sub(self.rate.whole()) {
            None | Some(Duration::ZERO) => Ok(()),
            Some(wait) => Err(wait),
        }
    }

    fn state(&self) -> MutexGuard<'_, State<K>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<K: Hash + Eq> State<K> {
    /// Forgets who has a whole allowance; at most once a second, for it looks at everybody.
    fn sweep(&mut self, now: Instant) {
        let soon = |swept: Instant| now.duration_since(swept) < Duration::from_secs(1);
        if !self.swept.is_some_and(soon) {
            self.swept = Some(now);
            self.whole_at.retain(|_, at| *at > now);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_goes_through_and_then_one_each_interval() {
        let rates = Rates::new(Rate::per(Duration::from_secs(1), 4));
        let start = Instant::now();
        let at = |millis| start + Duration::from_millis(millis);
        for _ in 0..4 {
            assert_eq!(rates.take("a", at(0)), Ok(()));
        }
        assert_eq!(rates.look(&"a", at(0)), Err(Duration::from_millis(250)));
        assert_eq!(rates.take("a", at(100)), Err(Duration::from_millis(150)));
        assert_eq!(rates.take("b", at(100)), Ok(()), "another key");
        assert_eq!(rates.take("a", at(250)), Ok(()));
        assert!(rates.take("a", at(250)).is_err());
        for _ in 0..4 {
            assert_eq!(rates.take("a", at(2_000)), Ok(()), "whole again");
        }
        assert!(rates.take("a", at(2_000)).is_err());
    }

    #[test]
    fn there_is_room_for_so_many_keys_and_who_is_whole_makes_room() {
        let rates = Rates::new(Rate::per(Duration::from_secs(1), 1));
        let start = Instant::now();
        for key in 0..=MAX_KEYS {
            assert_eq!(rates.take(key, start), Ok(()));
        }
        assert_eq!(rates.state().whole_at.len(), MAX_KEYS);
        let later = start + Duration::from_secs(2);
        assert_eq!(rates.take(MAX_KEYS, later), Ok(()));
        assert_eq!(rates.state().whole_at.len(), 1);
        assert!(rates.take(MAX_KEYS, later).is_err());
    }
}
