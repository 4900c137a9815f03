//! Fair sharing of a store's connections between API keys.
//!
//! A call for a key first takes a permit of the key's share and then waits for a connection. A key therefore has at most a
//! share of the connections and of the places in the queue, however many requests it sends. Calls of the services
//! themselves have no share.
//!
//! The key is a task-local: [`with_key`] sets it for all calls of a request.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use hookline_core::ids::KeyId;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// A key's share is the number of connections divided by this, and at least one.
const PART: usize = 4;

tokio::task_local! {
    static KEY: KeyId;
}

/// Runs `work` for a key: its calls of a store use the key's share.
pub async fn with_key<F: Future>(key: KeyId, work: F) -> F::Output {
    KEY.scope(key, work).await
}

/// The key that [`with_key`] has set.
pub fn current_key() -> Option<KeyId> {
    KEY.try_with(|key| *key).ok()
}

/// Permits for a number of connections.
#[derive(Clone)]
pub(crate) struct FairConnections {
    all: Arc<Semaphore>,
    shares: Arc<KeyShares>,
}

struct KeyShares {
    each: usize,
    by_key: Mutex<HashMap<KeyId, Arc<Semaphore>>>,
}

/// A permit of a key's share. The share is removed with its last user or waiter.
pub(crate) struct KeyShare {
    shares: Arc<KeyShares>,
    key: KeyId,
    with_key: Arc<Semaphore>,
    turn: Option<OwnedSemaphorePermit>,
}

/// A permit for a connection.
pub(crate) struct ConnectionPermit {
    _turn: Option<OwnedSemaphorePermit>,
    _share: Option<KeyShare>,
}

impl FairConnections {
    pub(crate) fn new(connections: usize) -> Self {
        Self {
            all: Arc::new(Semaphore::new(connections)),
            shares: Arc::new(KeyShares {
                each: (connections / PART).max(1),
                by_key: Mutex::default(),
            }),
        }
    }

    /// None where the task has no key.
    pub(crate) async fn share(&self) -> Option<KeyShare> {
        let key = current_key()?;
        let mut share = self.shares.of(key);
        // The semaphores are never closed.
        share.turn = Arc::clone(&share.with_key).acquire_owned().await.ok();
        Some(share)
    }

    /// A permit for a connection.
    pub(crate) async fn take(&self, share: Option<KeyShare>) -> ConnectionPermit {
        ConnectionPermit {
            _turn: Arc::clone(&self.all).acquire_owned().await.ok(),
            _share: share,
        }
    }
}

impl KeyShares {
    fn of(self: &Arc<Self>, key: KeyId) -> KeyShare {
        let mut by_key = self.by_key.lock().unwrap_or_else(PoisonError::into_inner);
        let with_key = by_key
            .entry(key)
            .or_insert_with(|| Arc::new(Semaphore::new(self.each)));
        KeyShare {
            shares: Arc::clone(self),
            key,
            with_key: Arc::clone(with_key),
            turn: None,
        }
    }
}

impl Drop for KeyShare {
    fn drop(&mut self) {
        // The permit holds the semaphore, too.
        drop(self.turn.take());
        let by_key = &self.shares.by_key;
        let mut by_key = by_key.lock().unwrap_or_else(PoisonError::into_inner);
        // The map's reference and this one.
        if Arc::strong_count(&self.with_key) == 2 {
            by_key.remove(&self.key);
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;

    use super::*;

    async fn turn(turns: &FairConnections) -> ConnectionPermit {
        let share = turns.share().await;
        turns.take(share).await
    }

    #[tokio::test]
    async fn a_key_has_a_share_of_the_turns_and_waits_behind_no_other() {
        let turns = FairConnections::new(8);
        let one = || with_key(KeyId(1), turn(&turns)).now_or_never();
        let (first, second) = (one().unwrap(), one().unwrap());
        assert!(one().is_none(), "a key has more than a quarter");
        let other = with_key(KeyId(2), turn(&turns)).now_or_never().unwrap();
        let own: Vec<_> = (0..5)
            .map(|_| turn(&turns).now_or_never().unwrap())
            .collect();
        assert!(turn(&turns).now_or_never().is_none(), "there are eight");
        drop(own);
        drop(first);
        let third = one().unwrap();
        drop((second, third, other));
        assert!(turns.shares.by_key.lock().unwrap().is_empty());
    }

    #[tokio::test]
    async fn a_busy_key_has_one_place_in_the_queue_for_connections() {
        let turns = FairConnections::new(4);
        let busy: Vec<_> = (0..4)
            .map(|_| turn(&turns).now_or_never().unwrap())
            .collect();
        let mut greedy: Vec<_> = (0..40)
            .map(|_| Box::pin(with_key(KeyId(1), turn(&turns))))
            .collect();
        for waiting in &mut greedy {
            assert!(waiting.as_mut().now_or_never().is_none());
        }
        let mut other = Box::pin(with_key(KeyId(2), turn(&turns)));
        assert!(other.as_mut().now_or_never().is_none());
        // Two connections are free: one for each key.
        drop(busy.into_iter().take(2).collect::<Vec<_>>());
        let _first = greedy[0].as_mut().now_or_never().expect("the first");
        assert!(other.as_mut().now_or_never().is_some(), "waits behind 40");
        // One that gives up leaves nothing behind.
        drop(greedy);
        drop(_first);
        assert!(turns.shares.by_key.lock().unwrap().is_empty());
    }
}
