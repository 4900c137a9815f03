//! A client below HTTP: it sends bytes that no client library would send, and reads the answers.

use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::deployment::Deployment;
use crate::waiting::PATIENCE;

/// A connection to the API.
pub struct RawConnection {
    stream: TcpStream,
    read: Vec<u8>,
}

/// An answer as it came.
#[derive(Debug)]
pub struct RawResponse {
    pub status: u16,
    /// The lines of its head.
    pub head: String,
    pub body: Vec<u8>,
}

impl RawConnection {
    /// A new connection.
    pub async fn open(deployment: &Deployment) -> anyhow::Result<Self> {
        let stream = TcpStream::connect(deployment.api().trim_start_matches("http://")).await?;
        Ok(Self {
            stream,
            read: Vec::new(),
        })
    }

    /// Sends bytes. The server may stop reading before their end: an incomplete send is no failure.
    pub async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        let _ = timeout(PATIENCE, self.stream.write_all(bytes.as_ref())).await;
    }

    /// Waits until an answer begins, and reads none of it.
    pub async fn answer_begins(&self) -> anyhow::Result<()> {
        let begun = timeout(PATIENCE, self.stream.peek(&mut [0])).await;
        let bytes = begun.context("no answer and no end")??;
        ensure!(bytes > 0, "the connection has ended");
        Ok(())
    }

    /// Sends bytes one by one at this interval, until an answer begins or the connection ends.
    pub async fn drip(&mut self, bytes: &[u8], apart: Duration) -> anyhow::Result<()> {
        let mut buffer = [0; 1024];
        for byte in bytes {
            self.send([*byte]).await;
            match timeout(apart, self.stream.read(&mut buffer)).await {
                Err(_) => {}
                Ok(Ok(count)) if count > 0 => {
                    self.read.extend(&buffer[..count]);
                    return Ok(());
                }
                Ok(_) => return Ok(()),
            }
        }
        bail!("nobody minded {} bytes", bytes.len())
    }

    /// The next answer, or none when the connection ended before it began.
    pub async fn answer(&mut self) -> anyhow::Result<Option<RawResponse>> {
        let end = loop {
            if let Some(end) = position(&self.read, b"\r\n\r\n") {
                break end;
            }
            if !self.more().await? {
                ensure!(self.read.is_empty(), "a head broke off: {:?}", self.read);
                return Ok(None);
            }
        };
        let head = String::from_utf8(self.read[..end].to_vec())?.to_ascii_lowercase();
        let status = head.split(' ').nth(1).context("no status")?.parse()?;
        let length = head
            .lines()
            .find_map(|line| line.strip_prefix("content-length:"))
            .map_or(Ok(0), |length| length.trim().parse::<usize>())?;
        while self.read.len() < end + 4 + length {
            ensure!(self.more().await?, "a body broke off: {head}");
        }
        let rest = self.read.split_off(end + 4 + length);
        let body = std::mem::replace(&mut self.read, rest).split_off(end + 4);
        Ok(Some(RawResponse { status, head, body }))
    }

    /// The status of every answer until the connection ends.
    pub async fn statuses(&mut self) -> anyhow::Result<Vec<u16>> {
        let mut all = Vec::new();
        while let Some(answer) = self.answer().await? {
            all.push(answer.status);
        }
        Ok(all)
    }

    /// Reads on; false at the end, also where the peer reset what it did not want to read.
    async fn more(&mut self) -> anyhow::Result<bool> {
        let read = timeout(PATIENCE, self.stream.read_buf(&mut self.read)).await;
        let count = read.context("no answer and no end")?.unwrap_or_default();
        Ok(count > 0)
    }
}

fn position(bytes: &[u8], of: &[u8]) -> Option<usize> {
    bytes.windows(of.len()).position(|window| window == of)
}
