//! The limit of requests that one API key may have at the same time. A key that sends faster than it is served uses its
//! own share of the store's connections, and leaves the rest to others.

use std::collections::HashMap;
use std::sync::Arc;

use hookline_core::ids::KeyId;
use parking_lot::Mutex;

/// The number of active requests by key. A key without active requests uses no memory.
#[derive(Debug, Clone)]
pub(crate) struct ConcurrencyLimit {
    limit: u32,
    active: Arc<Mutex<HashMap<KeyId, u32>>>,
}

/// An active request. It ends when this is dropped.
#[derive(Debug)]
pub(crate) struct ConcurrencyGuard {
    all: ConcurrencyLimit,
    key: KeyId,
}

impl ConcurrencyLimit {
    pub(crate) fn new(limit: u32) -> Self {
        Self {
            limit,
            active: Arc::default(),
        }
    }

    /// Starts a request of `key`, unless the key is at its limit.
    pub(crate) fn try_acquire(&self, key: KeyId) -> Option<ConcurrencyGuard> {
        let mut active = self.active.lock();
        let count = active.entry(key).or_default();
        if *count >= self.limit {
            return None;
        }
        *count += 1;
        Some(ConcurrencyGuard {
            all: self.clone(),
            key,
        })
    }
}

impl Drop for ConcurrencyGuard {
    fn drop(&mut self) {
        let mut active = self.all.active.lock();
        if let Some(count) = active.get_mut(&self.key) {
            *count -= 1;
            if *count == 0 {
                active.remove(&self.key);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_of_a_key_at_the_same_time_are_limited_and_other_keys_are_not_affected() {
        let limit = ConcurrencyLimit::new(2);
        let first = limit.try_acquire(KeyId(1));
        let second = limit.try_acquire(KeyId(1));
        assert!(first.is_some() && second.is_some());
        assert!(limit.try_acquire(KeyId(1)).is_none());
        assert!(limit.try_acquire(KeyId(2)).is_some());
        drop(first);
        assert!(limit.try_acquire(KeyId(1)).is_some());
        drop(second);
        assert!(limit.active.lock().is_empty());
    }
}
