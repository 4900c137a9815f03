//! The socket of a connection: reads and writes pass through, and it fails once the connection is late
//! or has lost its place. actix drops a connection that fails.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::thread;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep, sleep_until};
use tokio_util::sync::CancellationToken;

use super::places::Place;
use super::{Clocks, Connection};

/// What a client must take of an answer within [`Clocks::writing`], as long as there is as much. A
/// mebibyte then takes it 5 min at most.
pub(super) const LEAST_PROGRESS: usize = 32 * 1024;

/// The answer to a request with malformed chunks, where actix ends the connection without
/// a word: it does so when a chunk is malformed before the handler has asked for it.
const MALFORMED: &str = r#"{"type":"urn:hookline:problem:malformed","title":"The body cannot be read","status":400,"detail":"the chunks of the body are malformed (RFC 9112, 7.1)"}"#;

/// The socket of a connection.
#[derive(Debug)]
pub(super) struct Stream {
    socket: TcpStream,
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

impl AsyncRead for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.socket).poll_read(cx, buffer);
        match (&read, buffer.filled().len() - before) {
            (Poll::Pending, _) => {}
            (Poll::Ready(Ok(())), bytes) if bytes > 0 => self.connection.has_read(bytes),
            (Poll::Ready(_), _) => self.is_open = false,
        }
        self.in_time(cx)?;
        read
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
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
