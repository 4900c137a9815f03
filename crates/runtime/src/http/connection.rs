//! What a connection and the requests on it know of one another. All of it lives on one worker.

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::error::Error as StdError;
use std::fmt;
use std::future::poll_fn;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use actix_web::Error;
use actix_web::body::{BodySize, BoxBody, MessageBody};
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::{ConnectionType, Version};
use actix_web::middleware::Next;
use actix_web::web::Bytes;
use tokio::time::Instant;

use super::Clocks;
use super::places::Place;

/// A pipelined request begins while no more than this of earlier answers waits to be written.
const MAX_UNWRITTEN: usize = 32 * 1024;

/// A connection, as its requests see it: `request.conn_data::<Connection>()`.
#[derive(Clone)]
pub struct Connection(Rc<State>);

struct State {
    place: Place,
    phase: Cell<Phase>,
    /// Bytes of bodies that actix was given since it had written everything.
    unwritten: Cell<usize>,
    held: RefCell<Vec<Box<dyn Any>>>,
    waiting: Cell<Option<Waker>>,
}

#[derive(Debug, Clone, Copy)]
enum Phase {
    /// The first head is owed.
    First,
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
            unwritten: Cell::default(),
            held: RefCell::default(),
            waiting: Cell::default(),
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

    pub(super) fn is_given_up(&self, task: &Waker) -> bool {
        self.0.place.is_given_up(task)
    }

    /// Until when the client must send, if it must.
    pub(super) fn deadline(&self, clocks: &Clocks) -> Option<Instant> {
        match self.0.phase.get() {
            Phase::First | Phase::Request | Phase::Dropped => None,
            Phase::Between {
                first_byte: Some(first),
                ..
            } => Some(first + clocks.head),
            Phase::Between { since, .. } => Some(since + clocks.idle),
        }
    }

    /// So many bytes came from the client.
    pub(super) fn has_read(&self, bytes: usize) {
        if let Phase::First | Phase::Between { .. } = self.0.phase.get() {
            self.0.place.owes(bytes);
        }
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

    /// Writing has held up the client: it has its time from now on.
    pub(super) fn restart_clock(&self) {
        if let Phase::Between { .. } = self.0.phase.get() {
            self.0.phase.set(Phase::between());
        }
    }

    /// Nothing of what actix was given waits to be written.
    pub(super) fn has_written_all(&self) {
        self.0.unwritten.set(0);
        if let Phase::Between { .. } = self.0.phase.get() {
            self.0.held.borrow_mut().clear();
        }
        if let Some(waiting) = self.0.waiting.take() {
            waiting.wake();
        }
    }

    async fn written(&self) {
        poll_fn(|cx| match self.0.unwritten.get() {
            0..=MAX_UNWRITTEN => Poll::Ready(()),
            _ => {
                self.0.waiting.set(Some(cx.waker().clone()));
                Poll::Pending
            }
        })
        .await;
    }

    fn begin(&self) -> Underway {
        self.0.phase.set(Phase::Request);
        self.0.place.begin();
        Underway {
            connection: self.clone(),
            is_answered: false,
        }
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

/// A request under way, and then its answer.
struct Underway {
    connection: Connection,
    is_answered: bool,
}

impl Drop for Underway {
    fn drop(&mut self) {
        let Connection(state) = &self.connection;
        state.phase.set(match self.is_answered {
            true => Phase::between(),
            false => Phase::Dropped,
        });
        state.place.end();
    }
}

/// The outermost middleware: it tells the connection when a request begins and when its answer ends.
///
/// # Errors
/// What `next` fails with.
pub async fn exchange(
    request: ServiceRequest,
    next: Next<BoxBody>,
) -> Result<ServiceResponse<BoxBody>, Error> {
    let Some(connection) = request.conn_data::<Connection>().cloned() else {
        return next.call(request).await;
    };
    connection.written().await;
    let mut underway = connection.begin();
    let asks_for_upgrade = request.head().upgrade();
    let knows_chunks = request.version() >= Version::HTTP_11;
    let answered = next.call(request).await;
    underway.is_answered = true;
    Ok(answered?.map_body(|head, body| {
        if asks_for_upgrade {
            // There is nothing to upgrade to, and actix does not read on after such a request.
            head.set_connection_type(ConnectionType::Close);
        }
        if body.size() == BodySize::Stream && !knows_chunks {
            // The end of the connection is the end of the answer (RFC 9112, 6.1 and 6.3).
            head.no_chunking(true);
            head.set_connection_type(ConnectionType::Close);
        }
        BoxBody::new(Answer { body, underway })
    }))
}

/// The body of an answer, which counts what actix takes of it.
struct Answer {
    body: BoxBody,
    underway: Underway,
}

impl MessageBody for Answer {
    type Error = Box<dyn StdError>;

    fn size(&self) -> BodySize {
        self.body.size()
    }

    fn poll_next(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Bytes, Self::Error>>> {
        let next = Pin::new(&mut self.body).poll_next(cx);
        if let Poll::Ready(Some(Ok(bytes))) = &next {
            let unwritten = &self.underway.connection.0.unwritten;
            unwritten.set(unwritten.get() + bytes.len());
        }
        next
    }
}
