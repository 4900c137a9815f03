//! A connection to a receiver that knows whether a response to its last request has begun.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use hyper_util::client::legacy::connect::{Connected, Connection};
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;

use super::connect_phases::ConnectPhases;

/// The transport of HTTP: TCP, or TLS over it.
pub(super) trait Transport: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Transport for T {}

/// A connection that observes its traffic above TLS. A TLS message therefore does not count as a byte of a response.
pub(super) struct ObservedConnection {
    transport: Box<dyn Transport>,
    traffic: ConnectionTraffic,
}

impl ObservedConnection {
    /// A connection that is ready for requests.
    pub(super) fn new(transport: impl Transport + 'static, phases: Arc<ConnectPhases>) -> Self {
        Self {
            transport: Box::new(transport),
            traffic: ConnectionTraffic {
                made: Instant::now(),
                phases,
                last: Arc::new(Mutex::new(LastTraffic::Nothing)),
            },
        }
    }
}

/// The traffic on a connection. In HTTP/1.1, requests and responses alternate. Bytes written after a response are
/// therefore the next request.
#[derive(Debug, Clone)]
pub(super) struct ConnectionTraffic {
    made: Instant,
    phases: Arc<ConnectPhases>,
    last: Arc<Mutex<LastTraffic>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum LastTraffic {
    Nothing,
    Response(ResponseStart, Instant),
    NextRequest,
}

/// The first bytes of a response.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ResponseStart {
    Nothing,
    /// A frame of the type SETTINGS or GOAWAY on stream 0 (RFC 9113, sections 4.1, 6.5 and 6.8).
    Http2,
    /// A TLS record of the type alert or handshake (RFC 8446, section 5.1).
    Tls,
    Other,
}

impl ResponseStart {
    fn of(bytes: &[u8]) -> Self {
        match bytes {
            [] => Self::Nothing,
            [0, _, _, 4 | 7, _, 0, 0, 0, 0, ..] => Self::Http2,
            [0x15 | 0x16, 3, ..] => Self::Tls,
            _ => Self::Other,
        }
    }
}

impl ConnectionTraffic {
    fn on_read(&self, bytes: &[u8]) {
        let mut last = self.last.lock();
        if !matches!(*last, LastTraffic::Response(..)) {
            *last = LastTraffic::Response(ResponseStart::of(bytes), Instant::now());
        }
    }

    fn on_write(&self) {
        let mut last = self.last.lock();
        // Only bytes that follow a response are a next request.
        if matches!(*last, LastTraffic::Response(ResponseStart::Other, _)) {
            *last = LastTraffic::NextRequest;
        }
    }

    /// Whether no byte has come for a request that began at `began`, on a kept connection. Such a connection is older
    /// than the request, or has carried another one before.
    pub(super) fn is_unanswered_on_kept(&self, began: Instant) -> bool {
        match *self.last.lock() {
            LastTraffic::Nothing => self.made < began,
            last => last == LastTraffic::NextRequest,
        }
    }

    /// The time of the first byte of the response to the last request. Interim responses count.
    pub(super) fn first_byte(&self) -> Option<Instant> {
        match *self.last.lock() {
            LastTraffic::Response(_, at) => Some(at),
            LastTraffic::Nothing | LastTraffic::NextRequest => None,
        }
    }

    /// The time from which it carries requests.
    pub(super) fn made(&self) -> Instant {
        self.made
    }

    pub(super) fn phases(&self) -> &Arc<ConnectPhases> {
        &self.phases
    }

    /// The first bytes of the response to the last request.
    pub(super) fn response_start(&self) -> ResponseStart {
        match *self.last.lock() {
            LastTraffic::Response(start, _) => start,
            LastTraffic::Nothing | LastTraffic::NextRequest => ResponseStart::Nothing,
        }
    }
}

impl Connection for ObservedConnection {
    fn connected(&self) -> Connected {
        Connected::new().extra(self.traffic.clone())
    }
}

impl AsyncRead for ObservedConnection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.transport).poll_read(cx, buf))?;
        let received = &buf.filled()[before..];
        if !received.is_empty() {
            self.traffic.on_read(received);
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for ObservedConnection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.traffic.on_write();
        Pin::new(&mut self.transport).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.traffic.on_write();
        Pin::new(&mut self.transport).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.transport.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.transport).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.transport).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, duplex};

    use super::*;

    #[tokio::test]
    async fn a_request_counts_as_on_a_kept_connection_only_after_a_response_or_on_an_older_connection()
     {
        let (ours, mut theirs) = duplex(64);
        let mut connection = ObservedConnection::new(ours, ConnectPhases::begin());
        let traffic = connection.traffic.clone();
        let made = traffic.made;
        let later = made + Duration::from_millis(1);
        let is_kept = |began| traffic.is_unanswered_on_kept(began);
        connection.write_all(b"POST /1").await.unwrap();
        assert_eq!((is_kept(made), is_kept(later)), (false, true));
        theirs.write_all(b"HTTP/1.1 200 OK").await.unwrap();
        connection.read_exact(&mut [0; 15]).await.unwrap();
        assert_eq!((is_kept(made), is_kept(later)), (false, false));
        connection.write_all(b"POST /2").await.unwrap();
        assert_eq!((is_kept(made), is_kept(later)), (true, true));
        theirs.write_all(b"H").await.unwrap();
        connection.read_exact(&mut [0; 1]).await.unwrap();
        assert_eq!((is_kept(made), is_kept(later)), (false, false));
    }

    #[test]
    fn the_first_bytes_of_a_response_identify_other_protocols() {
        for (bytes, start) in [
            (&b""[..], ResponseStart::Nothing),
            (b"HTTP/1.1 200 OK", ResponseStart::Other),
            (
                b"\x00\x00\x06\x04\x00\x00\x00\x00\x00\x00\x03",
                ResponseStart::Http2,
            ),
            (
                b"\x00\x00\x08\x07\x00\x00\x00\x00\x00",
                ResponseStart::Http2,
            ),
            (b"\x15\x03\x01\x00\x02\x02\x46", ResponseStart::Tls),
            (b"\x00\x00", ResponseStart::Other),
        ] {
            assert_eq!(ResponseStart::of(bytes), start, "{bytes:?}");
        }
    }

    #[tokio::test]
    async fn the_end_of_a_stream_is_no_byte_of_a_response() {
        let (ours, mut theirs) = duplex(64);
        let mut connection = ObservedConnection::new(ours, ConnectPhases::begin());
        let traffic = connection.traffic.clone();
        theirs.write_all(b"x").await.unwrap();
        connection.read_exact(&mut [0; 1]).await.unwrap();
        connection.write_all(b"POST /2").await.unwrap();
        drop(theirs);
        assert_eq!(connection.read(&mut [0; 1]).await.unwrap(), 0);
        assert!(traffic.is_unanswered_on_kept(traffic.made));
    }
}
