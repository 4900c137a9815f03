//! A memory budget, in total and for each API key: for bodies of requests, and for responses that wait to be read.
//! Without the total, each connection could make the process hold one of the largest bodies. Without the limit of a key,
//! one slow client could use the memory of all.

use std::collections::HashMap;
use std::sync::Arc;

use hookline_core::ids::KeyId;
use parking_lot::Mutex;

const MIB: usize = 1024 * 1024;

/// The budget and what is reserved of it. A key without a reservation uses no memory.
#[derive(Debug, Clone)]
pub(crate) struct MemoryBudget {
    total: usize,
    per_key: usize,
    reserved: Arc<Mutex<Reserved>>,
}

#[derive(Debug, Default)]
struct Reserved {
    total: usize,
    by_key: HashMap<Option<KeyId>, usize>,
}

/// Which limit is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BudgetExceeded {
    Key,
    Total,
}

/// The memory of one request, which dropping this frees.
#[derive(Debug)]
pub(crate) struct Reservation {
    budget: MemoryBudget,
    key: Option<KeyId>,
    bytes: usize,
}

impl MemoryBudget {
    /// For bodies: two of the largest for a key, and four times as much in total.
    pub(crate) fn for_bodies() -> Self {
        Self::new(64 * MIB, 16 * MIB)
    }

    /// For responses: 16 of the largest for a key, and three times as much in total.
    pub(crate) fn for_responses() -> Self {
        Self::new(48 * MIB, 16 * MIB)
    }

    fn new(total: usize, per_key: usize) -> Self {
        Self {
            total,
            per_key,
            reserved: Arc::default(),
        }
    }

    /// An empty reservation. All requests without a key share the limit of one key.
    pub(crate) fn reservation(&self, key: Option<KeyId>) -> Reservation {
        Reservation {
            budget: self.clone(),
            key,
            bytes: 0,
        }
    }
}

impl Reservation {
    /// Reserves this many more bytes, or none where a limit would be exceeded.
    pub(crate) fn try_grow(&mut self, bytes: usize) -> Result<(), BudgetExceeded> {
        let mut reserved = self.budget.reserved.lock();
        let key_bytes = reserved.by_key.get(&self.key).copied().unwrap_or_default();
        if key_bytes + bytes > self.budget.per_key {
            return Err(BudgetExceeded::Key);
        }
        if reserved.total + bytes > self.budget.total {
            return Err(BudgetExceeded::Total);
        }
        reserved.add(self.key, bytes);
        drop(reserved);
        self.bytes += bytes;
        Ok(())
    }

    /// Reserves this many more bytes without a check of the limits.
    pub(crate) fn grow_unchecked(&mut self, bytes: usize) {
        self.budget.reserved.lock().add(self.key, bytes);
        self.bytes += bytes;
    }
}

impl Reserved {
    fn add(&mut self, key: Option<KeyId>, bytes: usize) {
        self.total += bytes;
        *self.by_key.entry(key).or_default() += bytes;
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        let mut reserved = self.budget.reserved.lock();
        reserved.total -= self.bytes;
        if let Some(key_bytes) = reserved.by_key.get_mut(&self.key) {
            *key_bytes -= self.bytes;
            if *key_bytes == 0 {
                reserved.by_key.remove(&self.key);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_and_all_keys_together_have_a_limit() {
        let budget = MemoryBudget::for_bodies();
        let full = |key| {
            let mut reservation = budget.reservation(Some(KeyId(key)));
            reservation.try_grow(16 * MIB).unwrap();
            reservation
        };
        let first = full(1);
        let more = budget.reservation(Some(KeyId(1))).try_grow(1);
        assert_eq!(more, Err(BudgetExceeded::Key));
        let others = [2, 3, 4].map(full);
        for key in [None, Some(KeyId(5))] {
            assert_eq!(
                budget.reservation(key).try_grow(1),
                Err(BudgetExceeded::Total)
            );
        }
        drop(first);
        assert!(budget.reservation(None).try_grow(1).is_ok());
        assert!(budget.reservation(Some(KeyId(1))).try_grow(1).is_ok());
        drop(others);
        assert_eq!(budget.reserved.lock().total, 0);
        assert!(budget.reserved.lock().by_key.is_empty());
    }

    #[test]
    fn bytes_that_are_reserved_without_a_check_count_for_the_next_reservation() {
        let budget = MemoryBudget::for_responses();
        let mut reservation = budget.reservation(Some(KeyId(1)));
        reservation.grow_unchecked(17 * MIB);
        let more = budget.reservation(Some(KeyId(1))).try_grow(1);
        assert_eq!(more, Err(BudgetExceeded::Key));
        drop(reservation);
        assert!(budget.reserved.lock().by_key.is_empty());
    }
}
