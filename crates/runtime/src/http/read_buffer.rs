//! Bytes from the client that actix has not got yet.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::ReadBuf;
use tokio::net::TcpStream;
use tokio_util::bytes::{Buf as _, BufMut as _, BytesMut};
use tokio_util::io::poll_read_buf;

use super::connection_slots::LARGEST_HEAD;

/// Bytes that are read at a time, and that are read ahead during an active request.
pub(super) const PIECE: usize = 8 * 1024;

/// actix refuses a head with more headers.
pub(super) const MAX_HEADERS: usize = 96;

/// An empty one holds no memory.
#[derive(Debug, Default)]
pub(super) struct ReadBuffer {
    bytes: BytesMut,
    /// The number of first bytes that actix may get.
    free: usize,
    /// Bytes of an incomplete head that have been searched for an empty line.
    searched: usize,
    /// Bytes of an incomplete head that have been parsed.
    parsed: usize,
    has_ended: bool,
}

impl ReadBuffer {
    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The client has ended its side.
    pub(super) fn has_ended(&self) -> bool {
        self.has_ended
    }

    pub(super) fn is_free(&self) -> bool {
        self.free > 0
    }

    pub(super) fn free(&mut self, bytes: usize) {
        self.free = bytes;
        if bytes > 0 {
            (self.searched, self.parsed) = (0, 0);
        }
    }

    /// The end of the first head, if it is complete. Bytes that actix refuses count as a complete head.
    pub(super) fn end_of_head(&mut self) -> Option<usize> {
        while self.bytes.starts_with(b"\r\n") {
            self.bytes.advance(2);
        }
        if !self.may_be_a_head() {
            return None;
        }
        self.parsed = self.bytes.len();
        let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
        match httparse::Request::new(&mut headers).parse(&self.bytes) {
            Ok(httparse::Status::Complete(end)) => Some(end),
            Ok(httparse::Status::Partial) if self.bytes.len() < LARGEST_HEAD => None,
            Ok(httparse::Status::Partial) | Err(_) => Some(self.bytes.len()),
        }
    }

    /// True with an empty line, or with twice the parsed bytes. A head that arrives byte by byte is not parsed for each
    /// byte.
    fn may_be_a_head(&mut self) -> bool {
        let new = &self.bytes[self.searched..];
        let has_empty_line = new.windows(2).any(|pair| pair == b"\n\n")
            || new.windows(3).any(|three| three == b"\n\r\n");
        self.searched = self.bytes.len().saturating_sub(2);
        has_empty_line || self.bytes.len() >= 2 * self.parsed || self.bytes.len() >= LARGEST_HEAD
    }

    /// Moves as many free bytes to `buffer` as it can hold.
    pub(super) fn give(&mut self, buffer: &mut ReadBuf<'_>) {
        let given = self.free.min(buffer.remaining());
        buffer.put_slice(&self.bytes[..given]);
        self.bytes.advance(given);
        self.free -= given;
        self.release();
    }

    /// Reads from `socket` up to `max` bytes. `Pending` where it has as many.
    pub(super) fn poll_fill(
        &mut self,
        socket: &mut TcpStream,
        max: usize,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        let room = max.saturating_sub(self.bytes.len()).min(PIECE);
        if room == 0 || self.has_ended {
            return Poll::Pending;
        }
        self.bytes.reserve(room);
        let read = poll_read_buf(Pin::new(socket), cx, &mut (&mut self.bytes).limit(room));
        self.release();
        self.has_ended = ready!(read)? == 0;
        Poll::Ready(Ok(()))
    }

    fn release(&mut self) {
        if self.bytes.is_empty() {
            self.bytes = BytesMut::new();
        }
    }
}
