//! What has come from the client and has not been given to actix yet.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::ReadBuf;
use tokio::net::TcpStream;
use tokio_util::bytes::{Buf as _, BufMut as _, BytesMut};
use tokio_util::io::poll_read_buf;

use super::places::LARGEST_HEAD;

/// So much is read at a time, and is read ahead while a request is under way.
pub(super) const PIECE: usize = 8 * 1024;

/// actix takes no head with more headers.
pub(super) const MOST_HEADERS: usize = 96;

/// Bytes in their order. It has no buffer while it is empty.
#[derive(Debug, Default)]
pub(super) struct Intake {
    bytes: BytesMut,
    /// So many of the first bytes may be given to actix.
    free: usize,
    /// Of a head that is not whole: so many bytes have been searched for an empty line, and parsed.
    searched: usize,
    parsed: usize,
    has_ended: bool,
}

impl Intake {
    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Whether nothing more can come.
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

    /// The end of the first head, if it is whole. Bytes that actix refuses are a head to their end.
    pub(super) fn end_of_head(&mut self) -> Option<usize> {
        while self.bytes.starts_with(b"\r\n") {
            self.bytes.advance(2);
        }
        if !self.may_be_a_head() {
            return None;
        }
        self.parsed = self.bytes.len();
        let mut headers = [httparse::EMPTY_HEADER; MOST_HEADERS];
        match httparse::Request::new(&mut headers).parse(&self.bytes) {
            Ok(httparse::Status::Complete(end)) => Some(end),
            Ok(httparse::Status::Partial) if self.bytes.len() < LARGEST_HEAD => None,
            Ok(httparse::Status::Partial) | Err(_) => Some(self.bytes.len()),
        }
    }

    /// Whether an empty line has come, or as much as has been parsed: a head that comes byte by byte
    /// is not parsed for each.
    fn may_be_a_head(&mut self) -> bool {
        let new = &self.bytes[self.searched..];
        let has_empty_line = new.windows(2).any(|pair| pair == b"\n\n")
            || new.windows(3).any(|three| three == b"\n\r\n");
        self.searched = self.bytes.len().saturating_sub(2);
        has_empty_line || self.bytes.len() >= 2 * self.parsed || self.bytes.len() >= LARGEST_HEAD
    }

    /// Gives actix as much of what is free as `buffer` takes.
    pub(super) fn give(&mut self, buffer: &mut ReadBuf<'_>) {
        let given = self.free.min(buffer.remaining());
        buffer.put_slice(&self.bytes[..given]);
        self.bytes.advance(given);
        self.free -= given;
        self.release();
    }

    /// Reads from `socket` until there are `most` bytes; `Pending` where there are as many.
    pub(super) fn poll_fill(
        &mut self,
        socket: &mut TcpStream,
        most: usize,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        let room = most.saturating_sub(self.bytes.len()).min(PIECE);
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
