//! So many bytes at a time, of all requests together and of one key's: of bodies that come, and of
//! answers that wait to be read. Without the first, as many clients as there are connections could
//! each make the process hold a largest one; without the second, one key that sends or reads slowly
//! could use up the room of all.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use hookline_core::ids::KeyId;

const MIB: usize = 1024 * 1024;

/// Room for bytes. A key that holds nothing takes no memory.
#[derive(Debug, Clone)]
pub(crate) struct ByteRoom {
    all: usize,
    of_a_key: usize,
    taken: Arc<Mutex<Taken>>,
}

#[derive(Debug, Default)]
struct Taken {
    all: usize,
    by_key: HashMap<Option<KeyId>, usize>,
}

/// Why there is no room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NoRoom {
    /// The key has as much as a key may.
    OfTheKey,
    /// All requests together have.
    AtAll,
}

/// The part of one request; it is given back when this is dropped.
#[derive(Debug)]
pub(crate) struct Held {
    room: ByteRoom,
    key: Option<KeyId>,
    bytes: usize,
}

impl ByteRoom {
    /// For bodies: two of the largest for a key, and four times as much in all.
    pub(crate) fn for_bodies() -> Self {
        Self::new(64 * MIB, 16 * MIB)
    }

    /// For answers: 16 of the largest for a key, and three times as much in all.
    pub(crate) fn for_answers() -> Self {
        Self::new(48 * MIB, 16 * MIB)
    }

    fn new(all: usize, of_a_key: usize) -> Self {
        Self {
            all,
            of_a_key,
            taken: Arc::default(),
        }
    }

    /// A request with this key, which holds nothing yet. Requests without a key share the room of one.
    pub(crate) fn of(&self, key: Option<KeyId>) -> Held {
        Held {
            room: self.clone(),
            key,
            bytes: 0,
        }
    }

    fn taken(&self) -> MutexGuard<'_, Taken> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Held {
    /// Takes so many bytes more.
    ///
    /// # Errors
    /// When there is no room for them.
    pub(crate) fn grow(&mut self, bytes: usize) -> Result<(), NoRoom> {
        let mut taken = self.room.taken();
        let of_key = taken.by_key.get(&self.key).copied().unwrap_or_default();
        if of_key + bytes > self.room.of_a_key {
            return Err(NoRoom::OfTheKey);
        }
        if taken.all + bytes > self.room.all {
            return Err(NoRoom::AtAll);
        }
        taken.add(self.key, bytes);
        drop(taken);
        self.bytes += bytes;
        Ok(())
    }

    /// Takes so many bytes more, room or not.
    pub(crate) fn grow_anyway(&mut self, bytes: usize) {
        self.room.taken().add(self.key, bytes);
        self.bytes += bytes;
    }
}

impl Taken {
    fn add(&mut self, key: Option<KeyId>, bytes: usize) {
        self.all += bytes;
        *self.by_key.entry(key).or_default() += bytes;
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let mut taken = self.room.taken();
        taken.all -= self.bytes;
        if let Some(of_key) = taken.by_key.get_mut(&self.key) {
            *of_key -= self.bytes;
            if *of_key == 0 {
                taken.by_key.remove(&self.key);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_has_its_part_and_all_together_have_so_much() {
        let room = ByteRoom::for_bodies();
        let full = |key| {
            let mut held = room.of(Some(KeyId(key)));
            held.grow(16 * MIB).unwrap();
            held
        };
        let first = full(1);
        let more = room.of(Some(KeyId(1))).grow(1);
        assert_eq!(more, Err(NoRoom::OfTheKey));
        let others = [2, 3, 4].map(full);
        for without_room in [None, Some(KeyId(5))] {
            assert_eq!(room.of(without_room).grow(1), Err(NoRoom::AtAll));
        }
        drop(first);
        assert!(room.of(None).grow(1).is_ok());
        assert!(room.of(Some(KeyId(1))).grow(1).is_ok());
        drop(others);
        assert_eq!(room.taken().all, 0);
        assert!(room.taken().by_key.is_empty());
    }

    #[test]
    fn bytes_that_are_there_all_the_same_count_against_the_next() {
        let room = ByteRoom::for_answers();
        let mut held = room.of(Some(KeyId(1)));
        held.grow_anyway(17 * MIB);
        let more = room.of(Some(KeyId(1))).grow(1);
        assert_eq!(more, Err(NoRoom::OfTheKey));
        drop(held);
        assert!(room.taken().by_key.is_empty());
    }
}
