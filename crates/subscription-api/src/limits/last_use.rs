//! When a key was last used, to the minute: written beside the request, which neither waits for it
//! nor fails with it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hookline_core::ids::KeyId;
use hookline_core::timestamp::Timestamp;
use hookline_store::Store;

/// How often the use of a key is written.
const EVERY: Duration = Duration::from_secs(60);

/// The most keys whose last writing is known.
const MAX_KEYS: usize = 10_000;

/// When the use of each key was last written.
#[derive(Debug, Clone, Default)]
pub(crate) struct LastUse(Arc<Mutex<HashMap<KeyId, Timestamp>>>);

impl LastUse {
    /// Notes that a key is being used.
    pub(crate) fn note(&self, store: &Store, key: KeyId, now: Timestamp) {
        if !self.is_due(key, now) {
            return;
        }
        let store = store.clone();
        tokio::spawn(async move {
            if let Err(why) = store.note_key_use(key, now).await {
                tracing::debug!(key.id = %key, error = %why, "could not note the use of a key");
            }
        });
    }

    fn is_due(&self, key: KeyId, now: Timestamp) -> bool {
        let mut written = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let due = written
            .get(&key)
            .is_none_or(|at| at.after(EVERY).remaining(now).is_zero());
        if due {
            if written.len() >= MAX_KEYS {
                written.clear();
            }
            written.insert(key, now);
        }
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_use_of_a_key_is_written_once_a_minute() {
        let last_use = LastUse::default();
        let now = Timestamp::from_unix_micros(0);
        assert!(last_use.is_due(KeyId(1), now));
        assert!(last_use.is_due(KeyId(2), now));
        assert!(!last_use.is_due(KeyId(1), now.after(EVERY - Duration::from_secs(1))));
        assert!(last_use.is_due(KeyId(1), now.after(EVERY)));
    }
}
