//! The socket of a connection. It gives actix one request at a time, and fails after a timeout or when the connection has
//! lost its slot. actix drops a connection that fails.

use std::io;
use std::mem;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::thread;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep, sleep_until};
use tokio_util::sync::CancellationToken;

use super::connection::{Allowed, HttpConnection};
use super::connection_slots::{ConnectionSlot, LARGEST_HEAD};
use super::read_buffer::{PIECE, ReadBuffer};
use super::timeouts::Timeouts;

/// Bytes of an answer that a client must read within [`Timeouts::writing`].
pub(super) const MIN_PROGRESS: usize = 32 * 1024;

/// The answer to a request with malformed chunks. actix closes the connection without an answer where a chunk is malformed
/// before the handler reads it.
const MALFORMED: &str = r#"{"type":"urn:hookline:problem:malformed","title":"Bad Request","status":400,"detail":"the chunks of the body are malformed (RFC 9112, 7.1)"}"#;

/// actix writes this before it calls the handler.
const INTERIM: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

#[derive(Debug)]
pub(super) struct Stream {
    socket: TcpStream,
    read_buffer: ReadBuffer,
    /// actix handles one piece of a body before it gets the next.
    has_given_a_piece: bool,
    /// [`INTERIM`] must be written when the handler waits for the body.
    owes_interim: bool,
    /// Neither side has closed the connection.
    is_open: bool,
    stopping: CancellationToken,
    connection: HttpConnection,
    timeouts: Timeouts,
    writing: Option<PendingWrite>,
    /// A later deadline does not reset it. When it fires too early, it is reset.
    timer: Option<Pin<Box<Sleep>>>,
}

/// Bytes wait to be written.
#[derive(Debug)]
struct PendingWrite {
    since: Instant,
    /// Bytes that the client has read since then.
    taken: usize,
}

impl PendingWrite {
    fn begin() -> Self {
        Self {
            since: Instant::now(),
            taken: 0,
        }
    }
}

impl Stream {
    pub(super) fn new(
        socket: TcpStream,
        slot: ConnectionSlot,
        timeouts: Timeouts,
        stopping: CancellationToken,
    ) -> Self {
        Self {
            socket,
            read_buffer: ReadBuffer::default(),
            has_given_a_piece: false,
            owes_interim: false,
            is_open: true,
            stopping,
            connection: HttpConnection::new(slot),
            timeouts,
            writing: None,
            timer: None,
        }
    }

    pub(super) fn connection(&self) -> HttpConnection {
        self.connection.clone()
    }

    /// Records that `taken` of `bytes` were written.
    fn wrote(&mut self, taken: usize, bytes: usize) {
        if taken == bytes {
            if self.writing.take().is_some() {
                self.connection.restart_timeout();
                self.connection.unpark();
            }
            self.connection.has_written_all();
            return;
        }
        let writing = self.writing.get_or_insert_with(PendingWrite::begin);
        writing.taken += taken;
        if writing.taken >= MIN_PROGRESS {
            *writing = PendingWrite::begin();
        }
    }

    fn deadline(&self) -> Option<Instant> {
        match &self.writing {
            Some(writing) => Some(writing.since + self.timeouts.writing),
            None => self.connection.deadline(&self.timeouts),
        }
    }

    /// Fails after a timeout or without a slot. Otherwise the task is woken at the deadline.
    fn in_time(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        let in_time = self.is_in_time(cx);
        self.is_open &= in_time.is_ok();
        in_time
    }

    fn is_in_time(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        if self.connection.must_close(cx.waker()) {
            return Err(io::ErrorKind::ConnectionAborted.into());
        }
        let Some(deadline) = self.deadline() else {
            return Ok(());
        };
        loop {
            if deadline <= Instant::now() {
                return Err(io::ErrorKind::TimedOut.into());
            }
            let timer = self
                .timer
                .get_or_insert_with(|| Box::pin(sleep_until(deadline)));
            if timer.is_elapsed() || deadline < timer.deadline() {
                timer.as_mut().reset(deadline);
            }
            if timer.as_mut().poll(cx).is_pending() {
                return Ok(());
            }
        }
    }
}

impl Stream {
    fn poll_give(
        &mut self,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if !self.read_buffer.is_free() && mem::take(&mut self.has_given_a_piece) {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        loop {
            self.write_interim()?;
            if self.read_buffer.is_free() || self.frees_bytes()? {
                self.read_buffer.give(buffer);
                return Poll::Ready(Ok(()));
            }
            if self.read_buffer.has_ended() && !self.holds_back() {
                return Poll::Ready(Ok(()));
            }
            let max = match self.allowed() {
                Allowed::Head => LARGEST_HEAD,
                Allowed::Body | Allowed::WholeBody(_) | Allowed::Nothing => PIECE,
            };
            match self.read_buffer.poll_fill(&mut self.socket, max, cx) {
                Poll::Ready(Ok(())) => {
                    if self.read_buffer.has_ended() {
                        self.is_open = false;
                        self.connection.client_has_ended();
                    }
                }
                Poll::Ready(Err(error)) => {
                    self.is_open = false;
                    return Poll::Ready(Err(error));
                }
                Poll::Pending => {
                    if self.holds_back() || self.owes_interim {
                        self.connection.park(cx.waker());
                    }
                    return Poll::Pending;
                }
            }
        }
    }

    /// A head waits until the answers before it are written, so a connection holds at most one answer.
    fn allowed(&self) -> Allowed {
        match self.connection.allowed() {
            Allowed::Head if self.writing.is_some() => Allowed::Nothing,
            turn => turn,
        }
    }

    /// Whether there are bytes that actix may not get yet.
    fn holds_back(&self) -> bool {
        let waits = matches!(self.allowed(), Allowed::Nothing | Allowed::WholeBody(_));
        waits && !self.read_buffer.bytes().is_empty()
    }

    /// Whether actix may get some of the bytes.
    fn frees_bytes(&mut self) -> io::Result<bool> {
        if self.read_buffer.bytes().is_empty() {
            return Ok(false);
        }
        let free = match self.allowed() {
            Allowed::Nothing => 0,
            Allowed::WholeBody(left) if left > self.read_buffer.bytes().len() as u64 => 0,
            Allowed::Head => match self.read_buffer.end_of_head() {
                Some(end) => {
                    self.connection.gives_head(end);
                    end
                }
                None => {
                    self.connection
                        .has_partial_head(self.read_buffer.bytes().len());
                    0
                }
            },
            Allowed::Body | Allowed::WholeBody(_) => {
                let piece = self.connection.advance_body(self.read_buffer.bytes())?;
                self.has_given_a_piece = piece > 0;
                piece
            }
        };
        self.read_buffer.free(free);
        Ok(free > 0)
    }

    /// The handler waits for a body without any bytes, so the client may wait for `100 Continue`.
    fn write_interim(&mut self) -> io::Result<()> {
        if !self.owes_interim || !self.connection.is_owed_a_body() {
            return Ok(());
        }
        self.owes_interim = false;
        if !self.read_buffer.bytes().is_empty() {
            return Ok(());
        }
        match self.socket.try_write(INTERIM) {
            Ok(written) if written < INTERIM.len() => Err(io::ErrorKind::WriteZero.into()),
            // A client sends the body after a while without it (RFC 9110, 10.1.1).
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(()),
            written => written.map(|_| ()),
        }
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let given = self.poll_give(cx, buffer);
        self.in_time(cx)?;
        given
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if self.connection.takes_interim() && bytes.starts_with(INTERIM) {
            self.owes_interim = true;
            self.write_interim()?;
            return Poll::Ready(Ok(INTERIM.len()));
        }
        let written = Pin::new(&mut self.socket).poll_write(cx, bytes);
        match &written {
            Poll::Ready(Ok(taken)) => self.wrote(*taken, bytes.len()),
            Poll::Pending => self.wrote(0, bytes.len()),
            Poll::Ready(Err(_)) => self.is_open = false,
        }
        self.in_time(cx)?;
        written
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // actix flushes when its buffer is empty, also where an answer has no body.
        self.connection.has_written_all();
        self.in_time(cx)?;
        Pin::new(&mut self.socket).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(cx)
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        let is_lost = !self.is_open || self.stopping.is_cancelled() || thread::panicking();
        if is_lost || !self.connection.owes_an_answer() {
            return;
        }
        let answer = format!(
            "HTTP/1.1 400 Bad Request\r\nconnection: close\r\n\
             content-type: application/problem+json\r\ncontent-length: {}\r\n\
             cache-control: no-store\r\nx-content-type-options: nosniff\r\n\r\n{MALFORMED}",
            MALFORMED.len()
        );
        // A failed write means that the client has gone.
        let _written = self.socket.try_write(answer.as_bytes());
        // The kernel resets a connection with unread bytes, and the answer would be lost.
        let _skipped = self.socket.try_read(&mut [0; 16 * 1024]);
    }
}
