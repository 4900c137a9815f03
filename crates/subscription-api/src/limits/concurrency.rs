//! How many requests of one key are under way. One key that sends faster than it is served takes
//! up its own share of the store's connections and not everybody's.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use hookline_core::ids::KeyId;

/// The requests under way, by key. A key without any takes no room.
#[derive(Debug, Clone, Default)]
pub(crate) struct InFlight(Arc<Mutex<HashMap<KeyId, u32>>>);

/// A request under way; it ends when this is dropped.
#[derive(Debug)]
pub(crate) struct Underway {
    all: InFlight,
    key: KeyId,
}

impl InFlight {
    /// Begins a request of `key`, unless `limit` of them are under way.
    pub(crate) fn begin(&self, key: KeyId, limit: u32) -> Option<Underway> {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let count = counts.entry(key).or_default();
        if *count >= limit {
            return None;
        }
        *count += 1;
        Some(Underway {
            all: self.clone(),
            key,
        })
    }
}

impl Drop for Underway {
    fn drop(&mut self) {
        let mut counts = self.all.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = counts.get_mut(&self.key) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&self.key);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_has_so_many_requests_at_a_time_and_costs_no_other_key() {
        let in_flight = InFlight::default();
        let first = in_flight.begin(KeyId(1), 2);
        let second = in_flight.begin(KeyId(1), 2);
        assert!(first.is_some() && second.is_some());
        assert!(in_flight.begin(KeyId(1), 2).is_none());
        assert!(in_flight.begin(KeyId(2), 2).is_some());
        drop(first);
        assert!(in_flight.begin(KeyId(1), 2).is_some());
        drop(second);
        assert!(in_flight.0.lock().unwrap().is_empty());
    }
}
