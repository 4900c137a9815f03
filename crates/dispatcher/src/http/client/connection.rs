//! A connection to a receiver that knows whether a response to its last request has begun.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};

use hyper_util::client::legacy::connect::{Connected, Connection};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;

/// The transport of HTTP: TCP, or TLS over it.
pub(super) trait Carrier: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Carrier for T {}

/// A connection that observes its traffic above TLS. A TLS message therefore does not count as a byte of a response.
pub(super) struct Watched {
    carrier: Box<dyn Carrier>,
    traffic: Traffic,
}

impl Watched {
    pub(super) fn new(carrier: impl Carrier + 'static) -> Self {
        Self {
            carrier: Box::new(carrier),
            traffic: Traffic {
                made: Instant::now(),
                last: Arc::new(Mutex::new(Last::NothingCame)),
            },
        }
    }
}

/// The traffic on a connection. In HTTP/1.1, requests and responses alternate. Bytes written after a response are
/// therefore the next request.
#[derive(Debug, Clone)]
pub(super) struct Traffic {
    made: Instant,
    last: Arc<Mutex<Last>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Last {
    NothingCame,
    Answer(AnswerStart),
    NextRequest,
}

/// The first bytes of a response.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum AnswerStart {
    Nothing,
    /// A frame of the type SETTINGS or GOAWAY on stream 0 (RFC 9113, sections 4.1, 6.5 and 6.8).
    Http2,
    /// A TLS record of the type alert or handshake (RFC 8446, section 5.1).
    Tls,
    Other,
}

impl AnswerStart {
    fn of(bytes: &[u8]) -> Self {
        match bytes {
            [] => Self::Nothing,
            [0, _, _, 4 | 7, _, 0, 0, 0, 0, ..] => Self::Http2,
            [0x15 | 0x16, 3, ..] => Self::Tls,
            _ => Self::Other,
        }
    }
}

impl Traffic {
    fn has_read(&self, bytes: &[u8]) {
        let mut last = self.last();
        if !matches!(*last, Last::Answer(_)) {
            *last = Last::Answer(AnswerStart::of(bytes));
        }
    }

    fn has_written(&self) {
        let mut last = self.last();
        // Only bytes that follow a response are a next request.
        if matches!(*last, Last::Answer(AnswerStart::Other)) {
            *last = Last::NextRequest;
        }
    }

    /// Whether no byte has come for a request that began at `began`, on a kept connection. Such a connection is older
    /// than the request, or has carried another one before.
    pub(super) fn is_unanswered_on_kept(&self, began: Instant) -> bool {
        match *self.last() {
            Last::NothingCame => self.made < began,
            last => last == Last::NextRequest,
        }
    }

    /// The first bytes of the response to the last request.
    pub(super) fn answer_start(&self) -> AnswerStart {
        match *self.last() {
            Last::Answer(start) => start,
            Last::NothingCame | Last::NextRequest => AnswerStart::Nothing,
        }
    }

    fn last(&self) -> MutexGuard<'_, Last> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Connection for Watched {
    fn connected(&self) -> Connected {
        Connected::new().extra(self.traffic.clone())
    }
}

impl AsyncRead for Watched {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.carrier).poll_read(cx, buf))?;
        let came = &buf.filled()[before..];
        if !came.is_empty() {
            self.traffic.has_read(came);
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Watched {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.traffic.has_written();
        Pin::new(&mut self.carrier).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.traffic.has_written();
        Pin::new(&mut self.carrier).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.carrier.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.carrier).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.carrier).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, duplex};

    use super::*;

    #[tokio::test]
    async fn only_a_request_after_an_answer_or_on_an_older_connection_is_on_a_kept_one() {
        let (ours, mut theirs) = duplex(64);
        let mut watched = Watched::new(ours);
        let traffic = watched.traffic.clone();
        let made = traffic.made;
        let later = made + Duration::from_millis(1);
        let is_kept = |began| traffic.is_unanswered_on_kept(began);
        watched.write_all(b"POST /1").await.unwrap();
        assert_eq!((is_kept(made), is_kept(later)), (false, true));
        theirs.write_all(b"HTTP/1.1 200 OK").await.unwrap();
        watched.read_exact(&mut [0; 15]).await.unwrap();
        assert_eq!((is_kept(made), is_kept(later)), (false, false));
        watched.write_all(b"POST /2").await.unwrap();
        assert_eq!((is_kept(made), is_kept(later)), (true, true));
        theirs.write_all(b"H").await.unwrap();
        watched.read_exact(&mut [0; 1]).await.unwrap();
        assert_eq!((is_kept(made), is_kept(later)), (false, false));
    }

    #[test]
    fn the_first_bytes_of_an_answer_tell_other_protocols_apart() {
        for (bytes, start) in [
            (&b""[..], AnswerStart::Nothing),
            (b"HTTP/1.1 200 OK", AnswerStart::Other),
            (
                b"\x00\x00\x06\x04\x00\x00\x00\x00\x00\x00\x03",
                AnswerStart::Http2,
            ),
            (b"\x00\x00\x08\x07\x00\x00\x00\x00\x00", AnswerStart::Http2),
            (b"\x15\x03\x01\x00\x02\x02\x46", AnswerStart::Tls),
            (b"\x00\x00", AnswerStart::Other),
        ] {
            assert_eq!(AnswerStart::of(bytes), start, "{bytes:?}");
        }
    }

    #[tokio::test]
    async fn an_end_is_no_byte_of_an_answer() {
        let (ours, mut theirs) = duplex(64);
        let mut watched = Watched::new(ours);
        let traffic = watched.traffic.clone();
        theirs.write_all(b"x").await.unwrap();
        watched.read_exact(&mut [0; 1]).await.unwrap();
        watched.write_all(b"POST /2").await.unwrap();
        drop(theirs);
        assert_eq!(watched.read(&mut [0; 1]).await.unwrap(), 0);
        assert!(traffic.is_unanswered_on_kept(traffic.made));
    }
}
