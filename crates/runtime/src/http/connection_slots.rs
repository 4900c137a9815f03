//! Connection slots, shared by all workers. A new connection without a free slot takes the slot of the longest waiting
//! one. Incomplete heads share a memory limit in the same way.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;

use futures::task::AtomicWaker;

/// An incomplete head counts only beyond this size.
const SMALL_HEAD: usize = 1024;

/// actix refuses an incomplete head of this size.
pub(super) const LARGEST_HEAD: usize = 128 * 1024;

/// Bytes of large incomplete heads on all connections.
const MAX_BYTES_OF_HEADS: usize = 32 * 1024 * 1024;

/// All places of a server.
#[derive(Debug, Clone)]
pub(super) struct ConnectionSlots {
    max: usize,
    taken: Arc<Mutex<TakenSlots>>,
}

#[derive(Debug, Default)]
struct TakenSlots {
    count: usize,
    /// Numbers increase, so the first entry of a map has waited longest.
    next: u64,
    unauthenticated: BTreeMap<u64, Arc<CloseSignal>>,
    idle: BTreeMap<u64, Arc<CloseSignal>>,
    heads: BTreeMap<u64, Head>,
    bytes_of_heads: usize,
}

/// A large incomplete head.
#[derive(Debug)]
struct Head {
    closing: Arc<CloseSignal>,
    bytes: usize,
}

/// Dropping it frees the slot.
#[derive(Debug)]
pub(super) struct ConnectionSlot {
    slots: ConnectionSlots,
    closing: Arc<CloseSignal>,
    state: Cell<SlotState>,
    /// Bytes of an incomplete head.
    head_bytes: Cell<usize>,
    /// The number of the head in `heads`.
    head: Cell<Option<u64>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum SlotState {
    /// No request with a valid key.
    Unauthenticated(u64),
    /// With a valid key, between two requests.
    Idle(u64),
    /// With a valid key and an active request, which is never interrupted.
    Busy,
}

/// Asks a connection to close, from any thread.
#[derive(Debug, Default)]
struct CloseSignal {
    /// Another connection has taken the slot.
    has_lost_slot: AtomicBool,
    /// The incomplete head takes too much memory. The connection still has its slot.
    is_too_large: AtomicBool,
    task: AtomicWaker,
}

impl ConnectionSlots {
    pub(super) fn new(max: usize) -> Self {
        Self {
            max,
            taken: Arc::default(),
        }
    }

    /// A slot for a new connection. `None` where every connection has a valid key and an active request.
    pub(super) fn take(&self) -> Option<ConnectionSlot> {
        let closing = Arc::new(CloseSignal::default());
        let mut taken = self.taken();
        if taken.count < self.max {
            taken.count += 1;
        } else {
            let stranger = taken.unauthenticated.pop_first();
            let (_, oldest) = stranger.or_else(|| taken.idle.pop_first())?;
            oldest.close();
        }
        let number = taken.number();
        taken.unauthenticated.insert(number, Arc::clone(&closing));
        drop(taken);
        Some(ConnectionSlot {
            slots: self.clone(),
            closing,
            state: Cell::new(SlotState::Unauthenticated(number)),
            head_bytes: Cell::default(),
            head: Cell::default(),
        })
    }

    fn taken(&self) -> MutexGuard<'_, TakenSlots> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl TakenSlots {
    fn number(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    fn forget(&mut self, state: SlotState) {
        match state {
            SlotState::Unauthenticated(number) => self.unauthenticated.remove(&number),
            SlotState::Idle(number) => self.idle.remove(&number),
            SlotState::Busy => None,
        };
    }
}

impl ConnectionSlot {
    /// Otherwise `task` is woken when the connection must close.
    pub(super) fn must_close(&self, task: &Waker) -> bool {
        self.closing.task.register(task);
        self.closing.has_lost_slot.load(Ordering::Acquire)
            || self.closing.is_too_large.load(Ordering::Acquire)
    }

    /// Records the size of an incomplete head. When all heads together are too large, the oldest large one is closed.
    pub(super) fn has_partial_head(&self, bytes: usize) {
        let before = self.head_bytes.get().max(SMALL_HEAD);
        let now = bytes.min(LARGEST_HEAD);
        self.head_bytes.set(now);
        if now <= before {
            return;
        }
        let mut taken = self.slots.taken();
        let number = self.head.get().unwrap_or_else(|| taken.number());
        self.head.set(Some(number));
        let head = taken.heads.entry(number).or_insert_with(|| Head {
            closing: Arc::clone(&self.closing),
            bytes: 0,
        });
        head.bytes += now - before;
        taken.bytes_of_heads += now - before;
        while taken.bytes_of_heads > MAX_BYTES_OF_HEADS
            && let Some((_, first)) = taken.heads.pop_first()
        {
            taken.bytes_of_heads -= first.bytes;
            first.closing.is_too_large.store(true, Ordering::Release);
            first.closing.task.wake();
        }
    }

    fn head_is_complete(&self) {
        self.head_bytes.set(0);
        if let Some(number) = self.head.take() {
            let mut taken = self.slots.taken();
            if let Some(head) = taken.heads.remove(&number) {
                taken.bytes_of_heads -= head.bytes;
            }
        }
    }

    /// A request has a valid key.
    pub(super) fn trust(&self) {
        if let SlotState::Unauthenticated(_) = self.state.get() {
            self.becomes(|_, _| SlotState::Busy);
        }
    }

    pub(super) fn begin(&self) {
        self.head_is_complete();
        if let SlotState::Idle(_) = self.state.get() {
            self.becomes(|_, _| SlotState::Busy);
        }
    }

    pub(super) fn end(&self) {
        if self.state.get() == SlotState::Busy {
            self.becomes(|taken, closing| {
                let number = taken.number();
                taken.idle.insert(number, Arc::clone(closing));
                SlotState::Idle(number)
            });
        }
    }

    fn becomes(&self, change: impl FnOnce(&mut TakenSlots, &Arc<CloseSignal>) -> SlotState) {
        let mut taken = self.slots.taken();
        if !self.closing.has_lost_slot.load(Ordering::Acquire) {
            taken.forget(self.state.get());
            self.state.set(change(&mut taken, &self.closing));
        }
    }
}

impl Drop for ConnectionSlot {
    fn drop(&mut self) {
        self.head_is_complete();
        let mut taken = self.slots.taken();
        // A lost slot belongs to another connection.
        if !self.closing.has_lost_slot.load(Ordering::Acquire) {
            taken.forget(self.state.get());
            taken.count -= 1;
        }
    }
}

impl CloseSignal {
    /// The caller holds the lock of [`TakenSlots`].
    fn close(&self) {
        self.has_lost_slot.store(true, Ordering::Release);
        self.task.wake();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn must_close(slot: &ConnectionSlot) -> bool {
        slot.must_close(Waker::noop())
    }

    #[test]
    fn the_connection_that_waits_longest_without_a_valid_key_is_closed() {
        let slots = ConnectionSlots::new(3);
        let [first, second, third] = [(); 3].map(|()| slots.take().unwrap());
        first.trust();
        first.end();
        let fourth = slots.take().unwrap();
        assert!(must_close(&second));
        assert!(!must_close(&first) && !must_close(&third) && !must_close(&fourth));
        drop(second);
        let _fifth = slots.take().unwrap();
        assert!(must_close(&third) && !must_close(&first));
    }

    #[test]
    fn among_valid_keys_the_longest_idle_connection_is_closed_and_none_with_a_request() {
        let slots = ConnectionSlots::new(2);
        let [first, second] = [(); 2].map(|()| slots.take().unwrap());
        for slot in [&first, &second] {
            slot.trust();
            slot.end();
        }
        first.begin();
        first.end();
        let third = slots.take().unwrap();
        assert!(must_close(&second) && !must_close(&first));
        third.trust();
        first.begin();
        assert!(slots.take().is_none());
        first.end();
        assert!(slots.take().is_some());
        assert!(must_close(&first));
    }

    #[test]
    fn large_heads_share_a_memory_limit_and_the_first_of_them_is_closed() {
        let slots = ConnectionSlots::new(1_000);
        let part = LARGEST_HEAD - SMALL_HEAD;
        let small = slots.take().unwrap();
        small.has_partial_head(SMALL_HEAD);
        let mut large = Vec::new();
        for _ in 0..MAX_BYTES_OF_HEADS / part {
            large.push(slots.take().unwrap());
            for bytes in 1..=20 {
                large.last().unwrap().has_partial_head(bytes * 10 * 1024);
            }
        }
        assert!(!large.iter().any(must_close));
        large[0].begin();
        let next = slots.take().unwrap();
        next.has_partial_head(LARGEST_HEAD);
        assert!(!large.iter().any(must_close));
        let last = slots.take().unwrap();
        last.has_partial_head(LARGEST_HEAD);
        assert!(must_close(&large[1]) && !must_close(&large[2]) && !must_close(&last));
        assert!(!must_close(&small));
        drop((small, large, next, last));
        let taken = slots.taken();
        assert_eq!((taken.count, taken.bytes_of_heads), (0, 0));
        assert!(taken.heads.is_empty());
    }

    #[test]
    fn a_slot_is_free_when_its_connection_ends() {
        let slots = ConnectionSlots::new(1);
        for _ in 0..3 {
            let slot = slots.take().unwrap();
            slot.trust();
            slot.end();
            assert!(!must_close(&slot));
        }
        let taken = slots.taken();
        assert_eq!(taken.count, 0);
        assert!(taken.idle.is_empty() && taken.unauthenticated.is_empty());
    }
}
