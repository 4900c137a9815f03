//! Published events that go from hand to hand before anybody has written them.
//!
//! To write events into the queue only to take them out at once is a commit to wait for, and half of
//! the writer's work. So while intake keeps up it is given events as they come, and their publisher
//! waits until they are taken in, which is as durable. What is not taken in is written then: what
//! nobody takes soon, what is put off, what goes back.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use hookline_broker::contract::Receipt;
use tokio::sync::oneshot;

/// The session of receipts for what stands in no queue. The queue's own is 0.
const SESSION: u64 = 1;

/// What has become of unwritten events.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    /// The store has them.
    Durable,
    /// Nobody has dealt with them; they were in somebody's hands so often.
    Unwritten { takes: i32 },
}

/// Who waits to hear it, by receipt.
#[derive(Default)]
pub(super) struct Unwritten {
    next: AtomicU64,
    waiting: Mutex<HashMap<u64, oneshot::Sender<Fate>>>,
}

impl Unwritten {
    /// A receipt for events that are about to be handed over, and where their fate will be told.
    pub(super) fn enter(&self) -> (Receipt, oneshot::Receiver<Fate>) {
        let tag = self.next.fetch_add(1, Ordering::Relaxed);
        let (tell, told) = oneshot::channel();
        self.waiting().insert(tag, tell);
        let session = SESSION;
        (Receipt { session, tag }, told)
    }

    /// Tells it to who waits, for those of `receipts` that are ours; returns the others.
    pub(super) fn tell(
        &self,
        receipts: impl IntoIterator<Item = Receipt>,
        fate: Fate,
    ) -> Vec<Receipt> {
        let mut others = Vec::new();
        let mut waiting = self.waiting();
        for receipt in receipts {
            if !Self::is_of(receipt) {
                others.push(receipt);
            } else if let Some(tell) = waiting.remove(&receipt.tag) {
                // Who published may have gone away.
                let _ = tell.send(fate);
            }
        }
        others
    }

    /// Whether it is for what stands in no queue.
    pub(super) fn is_of(receipt: Receipt) -> bool {
        receipt.session == SESSION
    }

    fn waiting(&self) -> MutexGuard<'_, HashMap<u64, oneshot::Sender<Fate>>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_waits_hears_of_his_own_and_entries_of_the_queue_are_left_to_it() {
        let unwritten = Unwritten::default();
        let ((first, mut durable), (second, mut back)) = (unwritten.enter(), unwritten.enter());
        let entry = Receipt {
            session: 0,
            tag: first.tag,
        };
        assert_eq!(unwritten.tell([entry, first], Fate::Durable), [entry]);
        assert_eq!(durable.try_recv(), Ok(Fate::Durable));
        assert!(back.try_recv().is_err(), "nothing was said of it");
        let fate = Fate::Unwritten { takes: 1 };
        assert_eq!(unwritten.tell([second, second], fate), []);
        assert_eq!(back.try_recv(), Ok(fate));
    }
}
