//! Messages whose attempts are recorded and that wait until the next ones are handed on.
//!
//! They are part of what the broker lets a dispatcher have. While an alarm of the broker blocks
//! publishing, failed deliveries would gather here until nothing else could be taken, and the backlog
//! that caused the alarm could not drain. So only half of the prefetch is held; beyond that messages
//! are acked, and the reconciler hands their next attempts on.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

#[derive(Debug, Clone)]
pub(crate) struct Held {
    count: Arc<AtomicUsize>,
    most: usize,
}

/// Some of them, until this is dropped.
#[derive(Debug)]
pub(crate) struct Hold {
    all: Held,
    count: usize,
}

impl Held {
    pub(crate) fn up_to(most: usize) -> Self {
        Self {
            count: Arc::default(),
            most,
        }
    }

    pub(crate) fn hold(&self, count: usize) -> Hold {
        self.count.fetch_add(count, Ordering::Relaxed);
        let all = self.clone();
        Hold { all, count }
    }
}

impl Hold {
    /// Whether more are held than may be.
    pub(crate) fn are_too_many(&self) -> bool {
        self.all.count.load(Ordering::Relaxed) > self.all.most
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.all.count.fetch_sub(self.count, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_let_go_makes_room_for_the_others() {
        let held = Held::up_to(3);
        let (first, second) = (held.hold(3), held.hold(1));
        assert!(first.are_too_many() && second.are_too_many());
        drop(second);
        assert!(!first.are_too_many());
    }
}
