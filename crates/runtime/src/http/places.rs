//! The places of connections: so many, shared by all workers. When there is none left, the one that
//! has waited longest gives up its own. Heads that are not whole share a room in the same way.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;

use futures::task::AtomicWaker;

/// A head that is not whole is not counted up to this size.
const SMALL_HEAD: usize = 1024;

/// actix refuses a head that is not whole then.
pub(super) const LARGEST_HEAD: usize = 128 * 1024;

/// What the larger ones of all connections may take together.
const MOST_OF_HEADS: usize = 32 * 1024 * 1024;

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
    heads: BTreeMap<u64, Head>,
    bytes_of_heads: usize,
}

/// A large head that is not whole yet.
#[derive(Debug)]
struct Head {
    closing: Arc<Closing>,
    bytes: usize,
}

/// The place of one connection; it is free again when this is dropped.
#[derive(Debug)]
pub(super) struct Place {
    places: Places,
    closing: Arc<Closing>,
    standing: Cell<Standing>,
    /// Bytes of a head that is not whole.
    owed: Cell<usize>,
    /// The number of its head among the large ones.
    head: Cell<Option<u64>>,
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
    /// Its place belongs to another connection.
    told: AtomicBool,
    /// Its head has taken too long and too much, and it still has its place.
    is_too_large: AtomicBool,
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
            owed: Cell::default(),
            head: Cell::default(),
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
            || self.closing.is_too_large.load(Ordering::Acquire)
    }

    /// So many bytes of a head have come, and it is not whole. Where the heads of all are too large
    /// together, the one that was large first is closed.
    pub(super) fn owes(&self, bytes: usize) {
        let before = self.owed.get().max(SMALL_HEAD);
        let owed = bytes.min(LARGEST_HEAD);
        self.owed.set(owed);
        if owed <= before {
            return;
        }
        let mut taken = self.places.taken();
        let number = self.head.get().unwrap_or_else(|| taken.number());
        self.head.set(Some(number));
        let head = taken.heads.entry(number).or_insert_with(|| Head {
            closing: Arc::clone(&self.closing),
            bytes: 0,
        });
        head.bytes += owed - before;
        taken.bytes_of_heads += owed - before;
        while taken.bytes_of_heads > MOST_OF_HEADS
            && let Some((_, first)) = taken.heads.pop_first()
        {
            taken.bytes_of_heads -= first.bytes;
            first.closing.is_too_large.store(true, Ordering::Release);
            first.closing.task.wake();
        }
    }

    /// The head is whole.
    fn owes_nothing(&self) {
        self.owed.set(0);
        if let Some(number) = self.head.take() {
            let mut taken = self.places.taken();
            if let Some(head) = taken.heads.remove(&number) {
                taken.bytes_of_heads -= head.bytes;
            }
        }
    }

    /// A request has come with a good key.
    pub(super) fn trust(&self) {
        if let Standing::Stranger(_) = self.standing.get() {
            self.becomes(|_, _| Standing::Busy);
        }
    }

    /// A request is under way.
    pub(super) fn begin(&self) {
        self.owes_nothing();
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
        self.owes_nothing();
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
    fn large_heads_share_a_room_and_the_first_of_them_gives_up_its_part() {
        let places = Places::new(1_000);
        let part = LARGEST_HEAD - SMALL_HEAD;
        let small = places.take().unwrap();
        small.owes(SMALL_HEAD);
        let mut large = Vec::new();
        for _ in 0..MOST_OF_HEADS / part {
            large.push(places.take().unwrap());
            for bytes in 1..=20 {
                large.last().unwrap().owes(bytes * 10 * 1024);
            }
        }
        assert!(!large.iter().any(given_up));
        large[0].begin();
        let next = places.take().unwrap();
        next.owes(LARGEST_HEAD);
        assert!(!large.iter().any(given_up));
        let last = places.take().unwrap();
        last.owes(LARGEST_HEAD);
        assert!(given_up(&large[1]) && !given_up(&large[2]) && !given_up(&last));
        assert!(!given_up(&small));
        drop((small, large, next, last));
        let taken = places.taken();
        assert_eq!((taken.count, taken.bytes_of_heads), (0, 0));
        assert!(taken.heads.is_empty());
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
