//! Published events that go from hand to hand before anybody has written them.
//!
//! To write events into the queue only to take them out at once is a commit to wait for, and half of
//! the writer's work. So while intake keeps up it is given events as they come, and their publisher
//! waits until they are taken in, which is as durable. What is not taken in is written then: what
//! nobody takes soon, what intake needs long for, what is put off, what goes back.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use hookline_queue::Receipt;
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

/// Where events stand that were handed over.
enum Standing {
    /// Their publisher waits for their fate.
    Awaited(oneshot::Sender<Fate>),
    /// They are durable as this entry of the queue, while intake has them.
    Written(i64),
}

/// All of them, by receipt.
#[derive(Default)]
pub(super) struct Unwritten {
    next: AtomicU64,
    standing: Mutex<HashMap<u64, Standing>>,
}

impl Unwritten {
    /// A receipt for events that are about to be handed over, and where their fate will be told.
    pub(super) fn enter(&self) -> (Receipt, oneshot::Receiver<Fate>) {
        let tag = self.next.fetch_add(1, Ordering::Relaxed);
        let (tell, told) = oneshot::channel();
        self.standing().insert(tag, Standing::Awaited(tell));
        let session = SESSION;
        (Receipt { session, tag }, told)
    }

    /// They are durable as this entry from now on, which is what their receipt stands for then. False where
    /// their fate was told before.
    pub(super) fn written(&self, receipt: Receipt, entry: i64) -> bool {
        let mut standing = self.standing();
        let known = standing.get_mut(&receipt.tag);
        let is_awaited = known.is_some();
        if let Some(known) = known {
            *known = Standing::Written(entry);
        }
        is_awaited
    }

    /// The entry of the queue that a receipt stands for, if it stands for one by now.
    pub(super) fn entry_of(&self, receipt: Receipt) -> Option<i64> {
        if !Self::is_of(receipt) {
            return Some(receipt.tag.cast_signed());
        }
        match self.standing().get(&receipt.tag) {
            Some(Standing::Written(entry)) => Some(*entry),
            Some(Standing::Awaited(_)) | None => None,
        }
    }

    /// Tells their fate to those who await it; returns the entries of the others.
    pub(super) fn tell(&self, receipts: impl IntoIterator<Item = Receipt>, fate: Fate) -> Vec<i64> {
        let mut entries = Vec::new();
        let mut standing = self.standing();
        for receipt in receipts {
            if !Self::is_of(receipt) {
                entries.push(receipt.tag.cast_signed());
                continue;
            }
            match standing.remove(&receipt.tag) {
                // The publisher may have gone away.
                Some(Standing::Awaited(tell)) => drop(tell.send(fate)),
                Some(Standing::Written(entry)) => entries.push(entry),
                None => {}
            }
        }
        entries
    }

    /// Whether it was made for what stood in no queue.
    fn is_of(receipt: Receipt) -> bool {
        receipt.session == SESSION
    }

    fn standing(&self) -> MutexGuard<'_, HashMap<u64, Standing>> {
        self.standing.lock().unwrap_or_else(PoisonError::into_inner)
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
        let entries = unwritten.tell([entry, first], Fate::Durable);
        assert_eq!(entries, [first.tag.cast_signed()]);
        assert_eq!(durable.try_recv(), Ok(Fate::Durable));
        assert!(back.try_recv().is_err(), "nothing was said of it");
        let fate = Fate::Unwritten { takes: 1 };
        assert_eq!(unwritten.tell([second, second], fate), Vec::<i64>::new());
        assert_eq!(back.try_recv(), Ok(fate));
    }

    #[test]
    fn a_receipt_stands_for_the_entry_once_its_events_are_written() {
        let unwritten = Unwritten::default();
        let (receipt, _told) = unwritten.enter();
        assert_eq!(unwritten.entry_of(receipt), None);
        assert!(unwritten.written(receipt, 7));
        assert_eq!(unwritten.entry_of(receipt), Some(7));
        assert_eq!(unwritten.tell([receipt], Fate::Durable), [7]);
        assert!(!unwritten.written(receipt, 8), "their fate was told");
    }
}
