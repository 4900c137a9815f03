//! Turns at the connections of a store, shared fairly between API keys.
//!
//! A call that is made for a key first takes a turn in the key's own share, and only then waits for a connection. So a
//! key has at most a share of the connections, and as few places in the queue for one, however many requests it sends.
//! Calls of the services themselves have no share.
//!
//! The key is that of the task: [`of_key`] says it once for all that a request asks.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use hookline_core::ids::KeyId;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// A key has at most one in so many connections, and at least one.
const PART: usize = 4;

tokio::task_local! {
    static KEY: KeyId;
}

/// Does `work` for a key: every call of a store within it takes turns in the key's share.
pub async fn of_key<F: Future>(key: KeyId, work: F) -> F::Output {
    KEY.scope(key, work).await
}

/// The key that the task works for, where it was said.
pub fn key_of_task() -> Option<KeyId> {
    KEY.try_with(|key| *key).ok()
}

/// The turns at a number of connections.
#[derive(Clone)]
pub(crate) struct Turns {
    all: Arc<Semaphore>,
    shares: Arc<Shares>,
}

struct Shares {
    each: usize,
    by_key: Mutex<HashMap<KeyId, Arc<Semaphore>>>,
}

/// A turn in a key's share. The share is forgotten with the last one that uses it or waits for it.
pub(crate) struct Share {
    shares: Arc<Shares>,
    key: KeyId,
    of_key: Arc<Semaphore>,
    turn: Option<OwnedSemaphorePermit>,
}

/// A turn at a connection.
pub(crate) struct Turn {
    _turn: Option<OwnedSemaphorePermit>,
    _share: Option<Share>,
}

impl Turns {
    pub(crate) fn new(connections: usize) -> Self {
        Self {
            all: Arc::new(Semaphore::new(connections)),
            shares: Arc::new(Shares {
                each: (connections / PART).max(1),
                by_key: Mutex::default(),
            }),
        }
    }

    /// A turn in the share of the task's key, where it has one.
    pub(crate) async fn share(&self) -> Option<Share> {
        let key = key_of_task()?;
        let mut share = self.shares.of(key);
        // The semaphores are never closed.
        share.turn = Arc::clone(&share.of_key).acquire_owned().await.ok();
        Some(share)
    }

    /// A turn at a connection.
    pub(crate) async fn take(&self, share: Option<Share>) -> Turn {
        Turn {
            _turn: Arc::clone(&self.all).acquire_owned().await.ok(),
            _share: share,
        }
    }
}

impl Shares {
    fn of(self: &Arc<Self>, key: KeyId) -> Share {
        let mut by_key = self.by_key.lock().unwrap_or_else(PoisonError::into_inner);
        let of_key = by_key
            .entry(key)
            .or_insert_with(|| Arc::new(Semaphore::new(self.each)));
        Share {
            shares: Arc::clone(self),
            key,
            of_key: Arc::clone(of_key),
            turn: None,
        }
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        // The turn has the semaphore, too.
        drop(self.turn.take());
        let by_key = &self.shares.by_key;
        let mut by_key = by_key.lock().unwrap_or_else(PoisonError::into_inner);
        // The map's, and this one.
        if Arc::strong_count(&self.of_key) == 2 {
            by_key.remove(&self.key);
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;

    use super::*;

    async fn turn(turns: &Turns) -> Turn {
        let share = turns.share().await;
        turns.take(share).await
    }

    #[tokio::test]
    async fn a_key_has_a_share_of_the_turns_and_waits_behind_no_other() {
        let turns = Turns::new(8);
        let one = || of_key(KeyId(1), turn(&turns)).now_or_never();
        let (first, second) = (one().unwrap(), one().unwrap());
        assert!(one().is_none(), "a key has more than a quarter");
        let other = of_key(KeyId(2), turn(&turns)).now_or_never().unwrap();
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
        let turns = Turns::new(4);
        let busy: Vec<_> = (0..4)
            .map(|_| turn(&turns).now_or_never().unwrap())
            .collect();
        let mut greedy: Vec<_> = (0..40)
            .map(|_| Box::pin(of_key(KeyId(1), turn(&turns))))
            .collect();
        for waiting in &mut greedy {
            assert!(waiting.as_mut().now_or_never().is_none());
        }
        let mut other = Box::pin(of_key(KeyId(2), turn(&turns)));
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
