//! So many bytes of bodies at a time, of all requests together and of one key's. Without the first,
//! as many clients as there are connections could each make us hold a largest body; without the
//! second, one key that sends slowly could keep everybody else's out.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use hookline_core::ids::KeyId;

use crate::error::ApiError;

/// How many bytes of bodies are held at a time by all requests together.
const ALL: usize = 64 * 1024 * 1024;

/// How many of them by the requests of one key: two of the largest bodies.
const OF_A_KEY: usize = ALL / 4;

/// The room for bodies. A key that holds nothing takes no memory.
#[derive(Debug, Clone, Default)]
pub(crate) struct BodyRoom(Arc<Mutex<Taken>>);

#[derive(Debug, Default)]
struct Taken {
    all: usize,
    by_key: HashMap<KeyId, usize>,
}

/// What one request holds of it; it is given back when this is dropped.
#[derive(Debug)]
pub(crate) struct Held {
    room: BodyRoom,
    key: KeyId,
    bytes: usize,
}

impl BodyRoom {
    /// A request of this key, which holds nothing yet.
    pub(crate) fn of(&self, key: KeyId) -> Held {
        Held {
            room: self.clone(),
            key,
            bytes: 0,
        }
    }

    fn taken(&self) -> MutexGuard<'_, Taken> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Held {
    /// Takes so many bytes more.
    ///
    /// # Errors
    /// When the key has no room for them, or nobody has.
    pub(crate) fn grow(&mut self, bytes: usize) -> Result<(), ApiError> {
        let mut taken = self.room.taken();
        let of_key = taken.by_key.get(&self.key).copied().unwrap_or_default();
        if of_key + bytes > OF_A_KEY {
            return Err(ApiError::TooManyBytes);
        }
        if taken.all + bytes > ALL {
            return Err(ApiError::Unavailable("no room for another body".to_owned()));
        }
        taken.all += bytes;
        taken.by_key.insert(self.key, of_key + bytes);
        drop(taken);
        self.bytes += bytes;
        Ok(())
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
    fn a_key_has_a_quarter_and_all_together_have_so_much() {
        let room = BodyRoom::default();
        let full = |key| {
            let mut held = room.of(KeyId(key));
            held.grow(OF_A_KEY).unwrap();
            held
        };
        let first = full(1);
        let more = room.of(KeyId(1)).grow(1);
        assert!(matches!(more, Err(ApiError::TooManyBytes)));
        let others = [2, 3, 4].map(full);
        let more = room.of(KeyId(5)).grow(1);
        assert!(matches!(more, Err(ApiError::Unavailable(_))));
        drop(first);
        assert!(room.of(KeyId(5)).grow(1).is_ok());
        assert!(room.of(KeyId(1)).grow(1).is_ok());
        drop(others);
        assert_eq!(room.taken().all, 0);
        assert!(room.taken().by_key.is_empty());
    }
}
