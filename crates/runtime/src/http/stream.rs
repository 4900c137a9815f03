//! The socket of a connection. It gives actix one request at a time, and fails once the connection is
//! late or has lost its place. actix drops a connection that fails.

use std::io;
use std::mem;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::thread;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep, sleep_until};
use tokio_util::sync::CancellationToken;

use super::Clocks;
use super::connection::{Connection, Turn};
use super::intake::{Intake, PIECE};
use super::places::{LARGEST_HEAD, Place};

/// What a client must take of an answer within [`Clocks::writing`], as long as there is as much. A
/// mebibyte then takes it 5 min at most.
pub(super) const LEAST_PROGRESS: usize = 32 * 1024;

/// The answer to a request with malformed chunks, where actix ends the connection without
/// a word: it does so when a chunk is malformed before the handler has asked for it.
const MALFORMED: &str = r#"{"type":"urn:hookline:problem:malformed","title":"Bad Request","status":400,"detail":"the chunks of the body are malformed (RFC 9112, 7.1)"}"#;

/// What actix writes before it calls the handler.
const INTERIM: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

/// The socket of a connection.
#[derive(Debug)]
pub(super) struct Stream {
    socket: TcpStream,
    intake: Intake,
    /// actix has a piece of a body, and works on it before it gets the next.
    has_given_a_piece: bool,
    /// [`INTERIM`] is written once the handler waits for the body.
    owes_interim: bool,
    /// The client has not gone, and the connection has not been ended for a reason of ours.
    is_open: bool,
    stopping: CancellationToken,
    connection: Connection,
    clocks: Clocks,
    writing: Option<Writing>,
    /// It is set late rather than often: when it fires too early, it is set anew.
    timer: Option<Pin<Box<Sleep>>>,
}

/// Bytes wait to be written.
#[derive(Debug)]
struct Writing {
    since: Instant,
    taken: usize,
}

impl Writing {
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
        place: Place,
        clocks: Clocks,
        stopping: CancellationToken,
    ) -> Self {
        Self {
            socket,
            intake: Intake::default(),
            has_given_a_piece: false,
            owes_interim: false,
            is_open: true,
            stopping,
            connection: Connection::new(place),
            clocks,
            writing: None,
            timer: None,
        }
    }

    pub(super) fn connection(&self) -> Connection {
        self.connection.clone()
    }

    /// `taken` of `bytes` were written.
    fn wrote(&mut self, taken: usize, bytes: usize) {
        if taken == bytes {
            if self.writing.take().is_some() {
                self.connection.restart_clock();
                self.connection.unpark();
            }
            self.connection.has_written_all();
            return;
        }
        let writing = self.writing.get_or_insert_with(Writing::begin);
        writing.taken += taken;
        if writing.taken >= LEAST_PROGRESS {
            *writing = Writing::begin();
        }
    }

    fn deadline(&self) -> Option<Instant> {
        match &self.writing {
            Some(writing) => Some(writing.since + self.clocks.writing),
            None => self.connection.deadline(&self.clocks),
        }
    }

    /// Fails where the connection is late or has lost its place; else the task is woken in time.
    fn in_time(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        let in_time = self.is_in_time(cx);
        self.is_open &= in_time.is_ok();
        in_time
    }

    fn is_in_time(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        if self.connection.is_given_up(cx.waker()) {
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
        if !self.intake.is_free() && mem::take(&mut self.has_given_a_piece) {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        loop {
            self.write_interim()?;
            if self.intake.is_free() || self.frees_bytes()? {
                self.intake.give(buffer);
                return Poll::Ready(Ok(()));
            }
            if self.intake.has_ended() && !self.holds_back() {
                return Poll::Ready(Ok(()));
            }
            let most = match self.next_turn() {
                Turn::Head => LARGEST_HEAD,
                Turn::Body | Turn::WholeBody(_) | Turn::Nothing => PIECE,
            };
            match self.intake.poll_fill(&mut self.socket, most, cx) {
                Poll::Ready(Ok(())) => self.is_open &= !self.intake.has_ended(),
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

    /// A head waits until the answers before it are written, so a connection holds one answer at most.
    fn next_turn(&self) -> Turn {
        match self.connection.turn() {
            Turn::Head if self.writing.is_some() => Turn::Nothing,
            turn => turn,
        }
    }

    /// Whether bytes have come that actix may not have yet.
    fn holds_back(&self) -> bool {
        let waits = matches!(self.next_turn(), Turn::Nothing | Turn::WholeBody(_));
        waits && !self.intake.bytes().is_empty()
    }

    /// Whether actix may have some of the bytes that have come.
    fn frees_bytes(&mut self) -> io::Result<bool> {
        if self.intake.bytes().is_empty() {
            return Ok(false);
        }
        let free = match self.next_turn() {
            Turn::Nothing => 0,
            Turn::WholeBody(left) if left > self.intake.bytes().len() as u64 => 0,
            Turn::Head => match self.intake.end_of_head() {
                Some(end) => {
                    self.connection.gives_head(end);
                    end
                }
                None => {
                    self.connection.owes_a_head(self.intake.bytes().len());
                    0
                }
            },
            Turn::Body | Turn::WholeBody(_) => {
                let piece = self.connection.advance_body(self.intake.bytes())?;
                self.has_given_a_piece = piece > 0;
                piece
            }
        };
        self.intake.free(free);
        Ok(free > 0)
    }

    /// The handler waits for a body of which nothing has come, so the client may wait for this.
    fn write_interim(&mut self) -> io::Result<()> {
        if !self.owes_interim || !self.connection.is_owed_a_body() {
            return Ok(());
        }
        self.owes_interim = false;
        if !self.intake.bytes().is_empty() {
            return Ok(());
        }
        match self.socket.try_write(INTERIM) {
            Ok(written) if written < INTERIM.len() => Err(io::ErrorKind::WriteZero.into()),
            // A client sends the body after a while all the same (RFC 9110, 10.1.1).
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
        // actix flushes when its buffer is empty: also when the body of an answer ends without a byte.
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
        // A client that cannot be told is gone.
        let _told = self.socket.try_write(answer.as_bytes());
        // The system resets a connection with unread bytes, and the answer would be lost.
        let _passed_over = self.socket.try_read(&mut [0; 16 * 1024]);
    }
}
