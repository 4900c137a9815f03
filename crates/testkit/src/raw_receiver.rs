//! A receiver below HTTP: it takes each raw connection and behaves in ways that no server library would.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use anyhow::Context as _;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

/// A receiver on a port of loopback that misbehaves.
pub struct RawReceiver {
    port: u16,
}

impl RawReceiver {
    /// Hands each connection to `behaviour`. The connection ends with the future.
    pub async fn with<F, Fut>(behaviour: F) -> anyhow::Result<Self>
    where
        F: Fn(TcpStream) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = anyhow::Result<()>> + Send + 'static,
    {
        Self::at((Ipv4Addr::LOCALHOST, 0).into(), behaviour).await
    }

    /// The same at an address of loopback.
    pub async fn at<F, Fut>(address: SocketAddr, behaviour: F) -> anyhow::Result<Self>
    where
        F: Fn(TcpStream) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = anyhow::Result<()>> + Send + 'static,
    {
        let listener = TcpListener::bind(address).await?;
        let port = listener.local_addr()?.port();
        let behaviour = Arc::new(behaviour);
        tokio::spawn(async move {
            while let Ok((connection, _)) = listener.accept().await {
                // The other end sees the result.
                tokio::spawn(behaviour(connection));
            }
        });
        Ok(Self { port })
    }

    /// Reads each request, sends `bytes` unchecked, and closes the connection.
    pub async fn answering(bytes: impl Into<Vec<u8>>) -> anyhow::Result<Self> {
        let bytes: Arc<[u8]> = bytes.into().into();
        Self::with(move |mut connection| {
            let bytes = Arc::clone(&bytes);
            async move {
                read_request(&mut connection).await?;
                connection.write_all(&bytes).await?;
                Ok(connection.shutdown().await?)
            }
        })
        .await
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// Its URL, without TLS.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}/hook", self.port)
    }
}

/// Reads one whole request and returns its bytes.
pub async fn read_request(connection: &mut (impl AsyncRead + Unpin)) -> anyhow::Result<Vec<u8>> {
    let mut read = Vec::new();
    loop {
        anyhow::ensure!(
            connection.read_buf(&mut read).await? > 0,
            "the request broke off"
        );
        let Some(end) = read.windows(4).position(|window| window == b"\r\n\r\n") else {
            continue;
        };
        let head = std::str::from_utf8(&read[..end])?.to_ascii_lowercase();
        let length: usize = head
            .lines()
            .find_map(|line| line.strip_prefix("content-length:"))
            .context("a request without a length")?
            .trim()
            .parse()?;
        if read.len() >= end + 4 + length {
            return Ok(read);
        }
    }
}
