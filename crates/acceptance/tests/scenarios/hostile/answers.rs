//! Answers that no honest server gives.

use std::sync::Arc;

use anyhow::{Context as _, ensure};
use hookline_testkit::deployment::Deployment;
use hookline_testkit::raw_receiver::{RawReceiver, read_request};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::{outcome_of, tests};

/// Sends `first`, then `rest` for as long as the connection lasts.
async fn flood(first: &'static str, rest: &'static str) -> anyhow::Result<RawReceiver> {
    RawReceiver::with(move |mut connection| async move {
        read_request(&mut connection).await?;
        connection.write_all(first.as_bytes()).await?;
        let many = rest.repeat(64);
        loop {
            connection.write_all(many.as_bytes()).await?;
        }
    })
    .await
}

pub(super) async fn endless_heads_and_broken_ones_are_response_errors_at_once(
    deployment: Arc<Deployment>,
) -> anyhow::Result<()> {
    let mut receivers = vec![
        flood("HTTP/1.1 200 OK\r\n", "X-More: yes\r\n").await?,
        flood("HTTP/1.1 200 OK\r\nX-Long: ", "aaaaaaaaaaaaaaaa").await?,
        flood("HTTP/1.1 200 OK", "ok ok ok ok ").await?,
        flood("", "aaaaaaaaaaaaaaaa").await?,
        flood(
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5;",
            "aaaaaaaa",
        )
        .await?,
    ];
    for bytes in [
        // The preface of HTTP/2 and an empty settings frame.
        &b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0"[..],
        b"\0\0\0\x04\0\0\0\0\0",
        b"HTTP/2 200\r\n\r\n",
        b"HTTP/9.9 200 OK\r\n\r\n",
        b"HTTP/1.1 99999 OK\r\n\r\n",
        b"HTTP/1.1 -1 OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999999\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\nX\0Y: 1\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX: a\0b\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n: 1\r\n\r\n",
        b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03",
    ] {
        receivers.push(RawReceiver::answering(bytes).await?);
    }
    let urls: Vec<_> = receivers.iter().map(RawReceiver::url).collect();
    let entries = tests(&deployment, &urls).await?;
    for (index, entry) in entries.iter().enumerate() {
        let (status, kind, _) = outcome_of(entry);
        ensure!(
            (status, kind) == ("failed", Some("response")),
            "receiver {index}: {entry}"
        );
    }
    Ok(())
}

/// Reads `count` bytes of the request, says `bytes` and breaks the connection off.
async fn closing(count: usize, bytes: &'static [u8], end: End) -> anyhow::Result<RawReceiver> {
    RawReceiver::with(move |mut connection: TcpStream| async move {
        if count == usize::MAX {
            read_request(&mut connection).await?;
        } else {
            connection.read_exact(&mut vec![0; count]).await?;
        }
        connection.write_all(bytes).await?;
        if end == End::Reset {
            connection.set_zero_linger()?;
        }
        Ok(())
    })
    .await
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    /// As one says goodbye.
    Closed,
    /// As a machine that has forgotten us does.
    Reset,
}

pub(super) async fn a_receiver_that_closes_at_any_stage_is_logged(
    deployment: Arc<Deployment>,
) -> anyhow::Result<()> {
    const ALL: usize = usize::MAX;
    let stages: [(usize, &[u8]); 8] = [
        (0, b""),
        (1, b""),
        (100, b""),
        (ALL, b""),
        (ALL, b"HTT"),
        (ALL, b"HTTP/1.1 200 OK\r\nContent-Len"),
        (ALL, b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhel"),
        (
            ALL,
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhel",
        ),
    ];
    let mut receivers = Vec::new();
    for end in [End::Closed, End::Reset] {
        for (count, bytes) in stages {
            receivers.push(closing(count, bytes, end).await?);
        }
    }
    let urls: Vec<_> = receivers.iter().map(RawReceiver::url).collect();
    let entries = tests(&deployment, &urls).await?;
    for (index, entry) in entries.iter().enumerate() {
        let (status, kind, _) = outcome_of(entry);
        // A receiver that resets a connection at once may be faster than the dispatcher notices the connection.
        let no_connection = index == stages.len() && kind == Some("connect");
        ensure!(
            status == "failed" && (kind == Some("response") || no_connection),
            "stage {index}: {entry}"
        );
    }
    Ok(())
}

/// A gzip file of 1 GiB of zeros. After one literal zero come copies of 258 bytes, 13 bits each
/// (RFC 1951, 3.2.6). Eight of them are 13 bytes that repeat.
pub(super) fn bomb() -> Vec<u8> {
    const COPIES: usize = (1 << 30) / 258;
    let mut bits = Bits::default();
    // The last block, with fixed codes; a literal zero; and then up to a whole byte.
    bits.push([1, 1, 0]);
    bits.push([0, 0, 1, 1, 0, 0, 0, 0]);
    // Length 258 is code 285 (11000101), distance 1 is code 0 (00000).
    let copy = [1, 1, 0, 0, 0, 1, 0, 1, 0, 0, 0, 0, 0];
    for _ in 0..COPIES {
        bits.push(copy);
    }
    bits.push([0; 7]);
    let mut file = vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0xff];
    file.extend(bits.bytes);
    file.extend([0; 8]);
    file
}

#[derive(Default)]
struct Bits {
    bytes: Vec<u8>,
    count: usize,
}

impl Bits {
    fn push<const N: usize>(&mut self, bits: [u8; N]) {
        for bit in bits {
            if self.count.is_multiple_of(8) {
                self.bytes.push(0);
            }
            if let Some(last) = self.bytes.last_mut() {
                *last |= bit << (self.count % 8);
            }
            self.count += 1;
        }
    }
}

pub(super) async fn a_compressed_response_is_not_decompressed(
    deployment: Arc<Deployment>,
) -> anyhow::Result<()> {
    let bomb = Arc::new(bomb());
    let length = bomb.len();
    let receiver = RawReceiver::with(move |mut connection| {
        let bomb = Arc::clone(&bomb);
        async move {
            let request = read_request(&mut connection).await?;
            let asked = String::from_utf8_lossy(&request).to_ascii_lowercase();
            let status = match asked.contains("accept-encoding") {
                true => "400 No",
                false => "200 OK",
            };
            let head = format!(
                "HTTP/1.1 {status}\r\nContent-Encoding: gzip\r\nContent-Length: {length}\r\n\r\n"
            );
            connection.write_all(head.as_bytes()).await?;
            Ok(connection.write_all(&bomb).await?)
        }
    })
    .await?;
    let entries = tests(&deployment, &[receiver.url()]).await?;
    ensure!(
        outcome_of(&entries[0]) == ("success", None, Some(200)),
        "{}",
        entries[0]
    );
    let kept = entries[0]["response_body"].as_str().context("no body")?;
    ensure!(kept.starts_with('\u{1f}'), "it was undone: {kept:.40}");
    ensure!(kept.chars().count() <= 16 * 1024, "{}", kept.len());
    Ok(())
}
