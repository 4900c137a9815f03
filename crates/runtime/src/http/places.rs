//! The places of connections: so many, shared by all workers. When there is none left, the one that
//! has waited longest gives up its own.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;

use futures::task::AtomicWaker;

/// All places of a server.
#[derive(Debug, Clone)]
pub(super) struct Places {
    most: usize,
    taken: Arc<Mutex<Taken>>,
}

#[derive(Debug, Default)]
struct Taken {
    count: usize,
    /// Numbers are given out in order, so the first of a map has waited longest.
    next: u64,
    strangers: BTreeMap<u64, Arc<Closing>>,
    idle: BTreeMap<u64, Arc<Closing>>,
}

/// The place of one connection; it is free again when this is dropped.
#[derive(Debug)]
pub(super) struct Place {
    places: Places,
    closing: Arc<Closing>,
    standing: Cell<Standing>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Standing {
    /// No good key has come on it.
    Stranger(u64),
    /// With a good key, between two requests.
    Idle(u64),
    /// With a good key and a request under way, which is never interrupted.
    Busy,
}

/// How a connection is told to close, from any thread.
#[derive(Debug, Default)]
struct Closing {
    told: AtomicBool,
    task: AtomicWaker,
}

impl Places {
    /// At most so many.
    pub(super) fn new(most: usize) -> Self {
        Self {
            most,
            taken: Arc::default(),
        }
    }

    /// A place for a new connection; `None` where each one that is taken has a good key and a request
    /// under way.
    pub(super) fn take(&self) -> Option<Place> {
        let closing = Arc::new(Closing::default());
        let mut taken = self.taken();
        if taken.count < self.most {
            taken.count += 1;
        } else {
            let stranger = taken.strangers.pop_first();
            let (_, oldest) = stranger.or_else(|| taken.idle.pop_first())?;
            oldest.close();
        }
        let number = taken.number();
        taken.strangers.insert(number, Arc::clone(&closing));
        drop(taken);
        Some(Place {
            places: self.clone(),
            closing,
            standing: Cell::new(Standing::Stranger(number)),
        })
    }

    fn taken(&self) -> MutexGuard<'_, Taken> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Taken {
    fn number(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    fn forget(&mut self, standing: Standing) {
        match standing {
            Standing::Stranger(number) => self.strangers.remove(&number),
            Standing::Idle(number) => self.idle.remove(&number),
            Standing::Busy => None,
        };
    }
}

impl Place {
    /// Whether the connection was told to close; if not, `task` is woken when it is.
    pub(super) fn is_given_up(&self, task: &Waker) -> bool {
        self.closing.task.register(task);
        self.closing.told.load(Ordering::Acquire)
    }

    /// A request has come with a good key.
    pub(super) fn trust(&self) {
        if let Standing::Stranger(_) = self.standing.get() {
            self.becomes(|_, _| Standing::Busy);
        }
    }

    /// A request is under way.
    pub(super) fn begin(&self) {
        if let Standing::Idle(_) = self.standing.get() {
            self.becomes(|_, _| Standing::Busy);
        }
    }

    /// No request is under way any more.
    pub(super) fn end(&self) {
        if self.standing.get() == Standing::Busy {
            self.becomes(|taken, closing| {
                let number = taken.number();
                taken.idle.insert(number, Arc::clone(closing));
                Standing::Idle(number)
            });
        }
    }

    fn becomes(&self, change: impl FnOnce(&mut Taken, &Arc<Closing>) -> Standing) {
        let mut taken = self.places.taken();
        if !self.closing.told.load(Ordering::Acquire) {
            taken.forget(self.standing.get());
            self.standing.set(change(&mut taken, &self.closing));
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.places.taken();
        // A place that was given up belongs to another connection already.
        if !self.closing.told.load(Ordering::Acquire) {
            taken.forget(self.standing.get());
            taken.count -= 1;
        }
    }
}

impl Closing {
    /// The lock of [`Taken`] is held.
    fn close(&self) {
        self.told.store(true, Ordering::Release);
        self.task.wake();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn given_up(place: &Place) -> bool {
        place.is_given_up(Waker::noop())
    }

    #[test]
    fn the_one_that_has_waited_longest_without_a_good_key_is_closed() {
        let places = Places::new(3);
        let [first, second, third] = [(); 3].map(|()| places.take().unwrap());
        first.trust();
        first.end();
        let fourth = places.take().unwrap();
        assert!(given_up(&second));
        assert!(!given_up(&first) && !given_up(&third) && !given_up(&fourth));
        drop(second);
        let _fifth = places.take().unwrap();
        assert!(given_up(&third) && !given_up(&first));
    }

    #[test]
    fn among_good_keys_the_longest_idle_is_closed_and_none_with_a_request() {
        let places = Places::new(2);
        let [first, second] = [(); 2].map(|()| places.take().unwrap());
        for place in [&first, &second] {
            place.trust();
            place.end();
        }
        first.begin();
        first.end();
        let third = places.take().unwrap();
        assert!(given_up(&second) && !given_up(&first));
        third.trust();
        first.begin();
        assert!(places.take().is_none());
        first.end();
        assert!(places.take().is_some());
        assert!(given_up(&first));
    }

    #[test]
    fn a_place_is_free_again_when_its_connection_ends() {
        let places = Places::new(1);
        for _ in 0..3 {
            let place = places.take().unwrap();
            place.trust();
            place.end();
            assert!(!given_up(&place));
        }
        let taken = places.taken();
        assert_eq!(taken.count, 0);
        assert!(taken.idle.is_empty() && taken.strangers.is_empty());
    }
}
