//! A connection to a receiver, which knows whether an answer to its last request has begun.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::task::{Context, Poll, ready};

use hyper_util::client::legacy::connect::{Connected, Connection};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;

/// What carries HTTP: TCP, or TLS over it.
pub(super) trait Carrier: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Carrier for T {}

/// A connection whose traffic is watched above TLS, so that a TLS message is no byte of an answer.
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
                last: Arc::new(AtomicU8::new(NOTHING_CAME)),
            },
        }
    }
}

/// What has gone over a connection. HTTP/1.1 has requests and answers by turns, so what is written
/// after an answer is the next request.
#[derive(Debug, Clone)]
pub(super) struct Traffic {
    made: Instant,
    last: Arc<AtomicU8>,
}

const NOTHING_CAME: u8 = 0;
const ANSWER: u8 = 1;
const NEXT_REQUEST: u8 = 2;

impl Traffic {
    fn has_read(&self) {
        self.last.store(ANSWER, Ordering::Release);
    }

    fn has_written(&self) {
        let (from, to) = (ANSWER, NEXT_REQUEST);
        // Only what follows an answer is a next request.
        let _ = self
            .last
            .compare_exchange(from, to, Ordering::AcqRel, Ordering::Acquire);
    }

    /// Whether no byte has come for a request that began then, on a connection that is older or has
    /// carried another one before.
    pub(super) fn is_unanswered_on_kept(&self, began: Instant) -> bool {
        match self.last.load(Ordering::Acquire) {
            NOTHING_CAME => self.made < began,
            last => last == NEXT_REQUEST,
        }
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
        if buf.filled().len() > before {
            self.traffic.has_read();
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
