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
    }

    /// The end of the first head, if it is whole. Bytes that actix refuses are a head to their end.
    pub(super) fn end_of_head(&self) -> Option<usize> {
        let mut headers = [httparse::EMPTY_HEADER; MOST_HEADERS];
        match httparse::Request::new(&mut headers).parse(&self.bytes) {
            Ok(httparse::Status::Complete(end)) => Some(end),
            Ok(httparse::Status::Partial) if self.bytes.len() < LARGEST_HEAD => None,
            Ok(httparse::Status::Partial) | Err(_) => Some(self.bytes.len()),
        }
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
