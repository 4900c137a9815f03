//! State that a connection shares with its requests, on one worker thread.

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::fmt;
use std::io;
use std::rc::Rc;
use std::task::Waker;

use tokio::sync::Notify;
use tokio::time::Instant;

use super::connection_slots::ConnectionSlot;
use super::framing::Framing;
use super::timeouts::Timeouts;

/// A larger head makes actix grow its buffer, which it keeps for the next request.
const KEPT_HEAD: usize = 7 * 1024;

/// A handler gets it by `request.conn_data::<Connection>()`.
#[derive(Clone)]
pub struct HttpConnection(Rc<ConnectionState>);

struct ConnectionState {
    slot: ConnectionSlot,
    phase: Cell<Phase>,
    /// The framing of the last request.
    framing: Cell<Framing>,
    has_large_head: Cell<bool>,
    /// The handler waits for more of the body.
    waits_for_body: Cell<bool>,
    /// actix writes `100 Continue` next.
    expects_interim: Cell<bool>,
    held: RefCell<Vec<Box<dyn Any>>>,
    /// The client sends nothing more.
    has_ended: Notify,
    /// The task that reads, where it waits for more than the socket.
    parked: Cell<Option<Waker>>,
}

#[derive(Debug, Clone, Copy)]
enum Phase {
    /// The first head is not complete.
    First,
    /// actix has a head, and starts its request or refuses it.
    Head,
    /// A request is active, until the body of its answer is dropped.
    Request,
    /// actix has dropped the request without an answer.
    Dropped,
    /// No request is active.
    Between {
        since: Instant,
        first_byte: Option<Instant>,
    },
}

/// The received bytes that actix may get.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Allowed {
    /// The next head when it is complete.
    Head,
    Body,
    /// The rest of the body, of this many bytes, when all of it is there. The connection then stays open even if the
    /// handler does not read the body.
    WholeBody(u64),
    /// Nothing until the active request goes on.
    Nothing,
}

impl fmt::Debug for HttpConnection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpConnection")
            .field("phase", &self.0.phase.get())
            .finish_non_exhaustive()
    }
}

impl HttpConnection {
    pub(super) fn new(slot: ConnectionSlot) -> Self {
        Self(Rc::new(ConnectionState {
            slot,
            phase: Cell::new(Phase::First),
            framing: Cell::new(Framing::Whole),
            has_large_head: Cell::default(),
            waits_for_body: Cell::default(),
            expects_interim: Cell::default(),
            held: RefCell::default(),
            has_ended: Notify::new(),
            parked: Cell::default(),
        }))
    }

    /// The active request has a valid key. Connections without one are closed first.
    pub fn trust(&self) {
        self.0.slot.trust();
    }

    /// Keeps `held` until the answer of the active request is written, or the connection ends.
    pub fn keep_until_written(&self, held: impl Any) {
        self.0.held.borrow_mut().push(Box::new(held));
    }

    /// Whether the handler waits for more of the body.
    pub fn is_owed_a_body(&self) -> bool {
        self.0.waits_for_body.get()
    }

    /// Waits until the client has closed its side of the connection. For an answer without an end: actix would notice it with
    /// a later write.
    pub async fn closed_by_client(&self) {
        self.0.has_ended.notified().await;
    }

    pub(super) fn client_has_ended(&self) {
        self.0.has_ended.notify_one();
    }

    pub(super) fn must_close(&self, task: &Waker) -> bool {
        self.0.slot.must_close(task)
    }

    /// The time by which the client must send, if it must.
    pub(super) fn deadline(&self, timeouts: &Timeouts) -> Option<Instant> {
        match self.0.phase.get() {
            Phase::First | Phase::Head | Phase::Request | Phase::Dropped => None,
            Phase::Between {
                first_byte: Some(first),
                ..
            } => Some(first + timeouts.head),
            Phase::Between { since, .. } => Some(since + timeouts.idle),
        }
    }

    pub(super) fn allowed(&self) -> Allowed {
        let is_whole = self.0.framing.get() == Framing::Whole;
        match self.0.phase.get() {
            Phase::First => Allowed::Head,
            Phase::Between { .. } if is_whole => Allowed::Head,
            // Nothing reads the rest of the body, and actix skips it.
            Phase::Between { .. } => Allowed::Body,
            Phase::Request if self.is_owed_a_body() => Allowed::Body,
            Phase::Request => match self.0.framing.get() {
                Framing::Bytes(left) => Allowed::WholeBody(left),
                _ => Allowed::Nothing,
            },
            Phase::Head | Phase::Dropped => Allowed::Nothing,
        }
    }

    /// Records the size of an incomplete head.
    pub(super) fn has_partial_head(&self, bytes: usize) {
        self.has_bytes();
        self.0.slot.has_partial_head(bytes);
    }

    /// Records the first byte while no request is active.
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

    /// actix gets a head of this size.
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
            self.restart_timeout();
        }
        Ok(taken)
    }

    /// Restarts the timeout of the client, because writing delayed it or because the rest of a body has come.
    pub(super) fn restart_timeout(&self) {
        if let Phase::Between { .. } = self.0.phase.get() {
            self.0.phase.set(Phase::between());
        }
    }

    /// All bytes of the answer are written.
    pub(super) fn has_written_all(&self) {
        if let Phase::Between { .. } = self.0.phase.get() {
            self.0.held.borrow_mut().clear();
        }
    }

    /// The task continues to read after a change of this state.
    pub(super) fn park(&self, task: &Waker) {
        self.0.parked.set(Some(task.clone()));
    }

    pub(super) fn unpark(&self) {
        if let Some(task) = self.0.parked.take() {
            task.wake();
        }
    }

    /// The handler waits for more of the body, or has received some.
    pub(super) fn waits_for_body(&self, waits: bool) {
        if waits && !self.0.waits_for_body.replace(waits) {
            self.unpark();
        }
        self.0.waits_for_body.set(waits);
    }

    /// Whether actix writes `100 Continue` now. True once.
    pub(super) fn takes_interim(&self) -> bool {
        self.0.expects_interim.take()
    }

    pub(super) fn begin(&self, framing: Framing, expects_interim: bool) {
        self.0.phase.set(Phase::Request);
        self.0.framing.set(framing);
        self.0.waits_for_body.set(false);
        self.0.expects_interim.set(expects_interim);
        self.0.slot.begin();
        self.unpark();
    }

    pub(super) fn end(&self, is_answered: bool) {
        self.0.phase.set(match is_answered {
            true => Phase::between(),
            false => Phase::Dropped,
        });
        self.0.slot.end();
        self.unpark();
    }

    /// The request has grown the buffers of the connection.
    pub(super) fn has_large_head(&self) -> bool {
        self.0.has_large_head.get()
    }

    /// Whether a request was dropped without an answer.
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
