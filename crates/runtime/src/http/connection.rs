//! What a connection and the requests on it know of one another. All of it lives on one worker.

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::fmt;
use std::io;
use std::rc::Rc;
use std::task::Waker;

use tokio::time::Instant;

use super::Clocks;
use super::framing::Framing;
use super::places::Place;

/// actix keeps its buffer for the next request, and has to make it larger for a larger head than this.
const KEPT_HEAD: usize = 7 * 1024;

/// A connection, as its requests see it: `request.conn_data::<Connection>()`.
#[derive(Clone)]
pub struct Connection(Rc<State>);

struct State {
    place: Place,
    phase: Cell<Phase>,
    /// Of the last request.
    framing: Cell<Framing>,
    has_large_head: Cell<bool>,
    /// The handler has asked for more of the body than has come.
    waits_for_body: Cell<bool>,
    /// actix writes `100 Continue` next.
    expects_interim: Cell<bool>,
    held: RefCell<Vec<Box<dyn Any>>>,
    /// The task that reads, where it does not wait for the socket alone.
    parked: Cell<Option<Waker>>,
}

#[derive(Debug, Clone, Copy)]
enum Phase {
    /// The first head is owed.
    First,
    /// actix has a head, and begins its request or refuses it.
    Head,
    /// A request is under way, until its answer's body is dropped.
    Request,
    /// actix has dropped the request without an answer.
    Dropped,
    /// No request is under way.
    Between {
        since: Instant,
        first_byte: Option<Instant>,
    },
}

/// What actix may have of the bytes that have come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Turn {
    /// The next head, once it is whole.
    Head,
    Body,
    /// So many bytes of the body, once all of them are there: a small body that has come whole costs
    /// its connection nothing where its handler does not read it.
    WholeBody(u64),
    /// Nothing before the request under way goes on.
    Nothing,
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection")
            .field("phase", &self.0.phase.get())
            .finish_non_exhaustive()
    }
}

impl Connection {
    pub(super) fn new(place: Place) -> Self {
        Self(Rc::new(State {
            place,
            phase: Cell::new(Phase::First),
            framing: Cell::new(Framing::Whole),
            has_large_head: Cell::default(),
            waits_for_body: Cell::default(),
            expects_interim: Cell::default(),
            held: RefCell::default(),
            parked: Cell::default(),
        }))
    }

    /// The request under way came with a good key: connections without one are closed before this.
    pub fn trust(&self) {
        self.0.place.trust();
    }

    /// Keeps `held` until the answer of the request under way is written, or the connection ends.
    pub fn keep_until_written(&self, held: impl Any) {
        self.0.held.borrow_mut().push(Box::new(held));
    }

    /// Whether the handler waits for more of the request's body.
    pub fn is_owed_a_body(&self) -> bool {
        self.0.waits_for_body.get()
    }

    pub(super) fn is_given_up(&self, task: &Waker) -> bool {
        self.0.place.is_given_up(task)
    }

    /// Until when the client must send, if it must.
    pub(super) fn deadline(&self, clocks: &Clocks) -> Option<Instant> {
        match self.0.phase.get() {
            Phase::First | Phase::Head | Phase::Request | Phase::Dropped => None,
            Phase::Between {
                first_byte: Some(first),
                ..
            } => Some(first + clocks.head),
            Phase::Between { since, .. } => Some(since + clocks.idle),
        }
    }

    pub(super) fn turn(&self) -> Turn {
        let is_whole = self.0.framing.get() == Framing::Whole;
        match self.0.phase.get() {
            Phase::First => Turn::Head,
            Phase::Between { .. } if is_whole => Turn::Head,
            // Nothing reads the rest of it, and actix passes it over.
            Phase::Between { .. } => Turn::Body,
            Phase::Request if self.is_owed_a_body() => Turn::Body,
            Phase::Request => match self.0.framing.get() {
                Framing::Bytes(left) => Turn::WholeBody(left),
                _ => Turn::Nothing,
            },
            Phase::Head | Phase::Dropped => Turn::Nothing,
        }
    }

    /// So many bytes of a head have come, and it is not whole.
    pub(super) fn owes_a_head(&self, bytes: usize) {
        self.has_bytes();
        self.0.place.owes(bytes);
    }

    /// Bytes have come while no request is under way.
    fn has_bytes(&self) {
        if let Phase::Between {
            since,
            first_byte: None,
        } = self.0.phase.get()
        {
            self.0.phase.set(Phase::Between {
                since,
                first_byte: Some(Instant::now()),
            });
        }
    }

    /// actix gets a head of so many bytes.
    pub(super) fn gives_head(&self, bytes: usize) {
        self.0.has_large_head.set(bytes > KEPT_HEAD);
        self.0.phase.set(Phase::Head);
    }

    /// The number of `bytes` that belong to the body of the request.
    ///
    /// # Errors
    /// When the chunks are malformed.
    pub(super) fn advance_body(&self, bytes: &[u8]) -> io::Result<usize> {
        self.has_bytes();
        let mut framing = self.0.framing.get();
        let taken = framing.advance(bytes)?;
        self.0.framing.set(framing);
        if framing == Framing::Whole {
            self.restart_clock();
        }
        Ok(taken)
    }

    /// Writing has held up the client, or the rest of a body has come: it has its time from now on.
    pub(super) fn restart_clock(&self) {
        if let Phase::Between { .. } = self.0.phase.get() {
            self.0.phase.set(Phase::between());
        }
    }

    /// Nothing of what actix was given waits to be written.
    pub(super) fn has_written_all(&self) {
        if let Phase::Between { .. } = self.0.phase.get() {
            self.0.held.borrow_mut().clear();
        }
    }

    /// The task reads on once something has changed here.
    pub(super) fn park(&self, task: &Waker) {
        self.0.parked.set(Some(task.clone()));
    }

    pub(super) fn unpark(&self) {
        if let Some(task) = self.0.parked.take() {
            task.wake();
        }
    }

    /// The handler has been told that more of the body must come first, or has got some of it.
    pub(super) fn waits_for_body(&self, waits: bool) {
        if waits && !self.0.waits_for_body.replace(waits) {
            self.unpark();
        }
        self.0.waits_for_body.set(waits);
    }

    /// Whether actix writes `100 Continue` now; said once.
    pub(super) fn takes_interim(&self) -> bool {
        self.0.expects_interim.take()
    }

    pub(super) fn begin(&self, framing: Framing, expects_interim: bool) {
        self.0.phase.set(Phase::Request);
        self.0.framing.set(framing);
        self.0.waits_for_body.set(false);
        self.0.expects_interim.set(expects_interim);
        self.0.place.begin();
        self.unpark();
    }

    pub(super) fn end(&self, is_answered: bool) {
        self.0.phase.set(match is_answered {
            true => Phase::between(),
            false => Phase::Dropped,
        });
        self.0.place.end();
        self.unpark();
    }

    /// The buffers of the connection have grown with its request.
    pub(super) fn has_large_head(&self) -> bool {
        self.0.has_large_head.get()
    }

    /// Whether a request of it was dropped without an answer.
    pub(super) fn owes_an_answer(&self) -> bool {
        matches!(self.0.phase.get(), Phase::Dropped)
    }
}

impl Phase {
    fn between() -> Self {
        Self::Between {
            since: Instant::now(),
            first_byte: None,
        }
    }
}
