//! Events that were given to intake before they were written.
//!
//! To write events into the queue only to take them out at once costs a commit and half of the writer's work. Intake
//! gets them in memory while it keeps up, and their publisher waits until intake has stored them, which is as durable.
//! Events that intake does not store soon, defers or requeues are written into the queue.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use hookline_queue::Receipt;
use tokio::sync::oneshot;

/// The session of receipts without an entry in the queue. Receipts of entries have session 0.
const SESSION: u64 = 1;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PublishOutcome {
    Durable,
    /// Intake did not store them; they count as received this often.
    Unwritten {
        receive_count: i32,
    },
}

enum Pending {
    /// The publisher waits for the outcome.
    Awaited(oneshot::Sender<PublishOutcome>),
    /// Durable as this entry of the queue, while intake holds the events.
    Written(i64),
}

/// By the tag of the receipt.
#[derive(Default)]
pub(crate) struct PendingPublishes {
    next: AtomicU64,
    pending: Mutex<HashMap<u64, Pending>>,
}

impl PendingPublishes {
    /// A receipt for events that are about to be handed over, and the channel of their outcome.
    pub(crate) fn begin(&self) -> (Receipt, oneshot::Receiver<PublishOutcome>) {
        let tag = self.next.fetch_add(1, Ordering::Relaxed);
        let (sender, outcome) = oneshot::channel();
        self.pending().insert(tag, Pending::Awaited(sender));
        let session = SESSION;
        (Receipt { session, tag }, outcome)
    }

    /// From now on the receipt stands for this entry of the queue. False if the outcome was decided before.
    pub(crate) fn mark_written(&self, receipt: Receipt, entry: i64) -> bool {
        let mut pending = self.pending();
        let known = pending.get_mut(&receipt.tag);
        let is_awaited = known.is_some();
        if let Some(known) = known {
            *known = Pending::Written(entry);
        }
        is_awaited
    }

    /// The entry of the queue that a receipt stands for, if it was written.
    pub(crate) fn entry_of(&self, receipt: Receipt) -> Option<i64> {
        if !Self::is_of(receipt) {
            return Some(receipt.tag.cast_signed());
        }
        match self.pending().get(&receipt.tag) {
            Some(Pending::Written(entry)) => Some(*entry),
            Some(Pending::Awaited(_)) | None => None,
        }
    }

    /// Tells waiting publishers the outcome, and returns the entries of the receipts that stand for one.
    pub(crate) fn finish(
        &self,
        receipts: impl IntoIterator<Item = Receipt>,
        outcome: PublishOutcome,
    ) -> Vec<i64> {
        let mut entries = Vec::new();
        let mut pending = self.pending();
        for receipt in receipts {
            if !Self::is_of(receipt) {
                entries.push(receipt.tag.cast_signed());
                continue;
            }
            match pending.remove(&receipt.tag) {
                // The publisher may have gone away.
                Some(Pending::Awaited(sender)) => drop(sender.send(outcome)),
                Some(Pending::Written(entry)) => entries.push(entry),
                None => {}
            }
        }
        entries
    }

    fn is_of(receipt: Receipt) -> bool {
        receipt.session == SESSION
    }

    fn pending(&self) -> MutexGuard<'_, HashMap<u64, Pending>> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_publisher_gets_its_own_outcome_and_entries_are_returned() {
        let publishes = PendingPublishes::default();
        let ((first, mut durable), (second, mut back)) = (publishes.begin(), publishes.begin());
        let entry = Receipt {
            session: 0,
            tag: first.tag,
        };
        let entries = publishes.finish([entry, first], PublishOutcome::Durable);
        assert_eq!(entries, [first.tag.cast_signed()]);
        assert_eq!(durable.try_recv(), Ok(PublishOutcome::Durable));
        assert!(back.try_recv().is_err(), "it has no outcome yet");
        let outcome = PublishOutcome::Unwritten { receive_count: 1 };
        assert_eq!(
            publishes.finish([second, second], outcome),
            Vec::<i64>::new()
        );
        assert_eq!(back.try_recv(), Ok(outcome));
    }

    #[test]
    fn a_receipt_stands_for_the_entry_once_its_events_are_written() {
        let publishes = PendingPublishes::default();
        let (receipt, _outcome) = publishes.begin();
        assert_eq!(publishes.entry_of(receipt), None);
        assert!(publishes.mark_written(receipt, 7));
        assert_eq!(publishes.entry_of(receipt), Some(7));
        assert_eq!(publishes.finish([receipt], PublishOutcome::Durable), [7]);
        assert!(
            !publishes.mark_written(receipt, 8),
            "the outcome was decided"
        );
    }
}
