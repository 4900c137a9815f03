//! A tunnel from a Unix socket to a PostgreSQL server over TLS.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::ServerName;
use socket2::{SockRef, TcpKeepalive};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, copy_bidirectional};
use tokio::net::{TcpStream, UnixListener, UnixStream};
use tokio::task::JoinHandle;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::greeting;

/// The `SSLRequest` message: its length and the code 80877103
/// (<https://www.postgresql.org/docs/current/protocol-message-formats.html>).
const SSL_REQUEST: [u8; 8] = [0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x2f];

/// The deadline of the TLS handshake.
const CONNECT: Duration = Duration::from_secs(4);

pub(super) struct TlsServer {
    pub(super) host: String,
    pub(super) port: u16,
    /// The name in its certificate.
    pub(super) name: ServerName<'static>,
    pub(super) connector: TlsConnector,
}

/// Carries connections until it is dropped.
pub(in crate::backend::postgres) struct Tunnel {
    folder: TempDir,
    carrying: JoinHandle<()>,
}

impl Drop for Tunnel {
    fn drop(&mut self) {
        self.carrying.abort();
    }
}

impl Tunnel {
    /// Listens where libpq looks for `port`, in a folder that only this user may enter.
    pub(super) fn start(server: TlsServer, port: u16) -> io::Result<Self> {
        let folder = tempfile::Builder::new().prefix("hookline-").tempdir()?;
        let listener = UnixListener::bind(folder.path().join(format!(".s.PGSQL.{port}")))?;
        let carrying = tokio::spawn(accept(listener, Arc::new(server)));
        Ok(Self { folder, carrying })
    }

    pub(super) fn folder(&self) -> &Path {
        self.folder.path()
    }
}

async fn accept(listener: UnixListener, server: Arc<TlsServer>) {
    loop {
        match listener.accept().await {
            Ok((client, _)) => {
                tokio::spawn(carry(client, Arc::clone(&server)));
            }
            // Too many open files, say: that passes.
            Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
        }
    }
}

/// Ends when either side ends. libpq notices, and its caller gets the error.
async fn carry(mut client: UnixStream, server: Arc<TlsServer>) {
    let dialled = tokio::time::timeout(CONNECT, server.dial()).await;
    let ended = match dialled.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())) {
        Ok(stream) => relay(&mut client, stream).await,
        Err(why) => refuse(&mut client, &why).await,
    };
    if let Err(why) = ended {
        tracing::debug!(error = %why, "a connection to the database broke off");
    }
}

async fn relay(client: &mut UnixStream, mut server: TlsStream<TcpStream>) -> io::Result<()> {
    let start = greeting::start(client).await?;
    server.write_all(&start).await?;
    let answer = greeting::answer(&mut server).await?;
    client.write_all(&answer).await?;
    copy_bidirectional(client, &mut server).await.map(drop)
}

impl TlsServer {
    async fn dial(&self) -> io::Result<TlsStream<TcpStream>> {
        let mut stream = TcpStream::connect((&*self.host, self.port)).await?;
        notice_when_it_is_gone(&stream)?;
        stream.write_all(&SSL_REQUEST).await?;
        match stream.read_u8().await? {
            b'S' => self.connector.connect(self.name.clone(), stream).await,
            _ => Err(io::Error::other("the server speaks no TLS")),
        }
    }
}

/// As with libpq's own connections; see `with_timeouts`.
fn notice_when_it_is_gone(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let socket = SockRef::from(stream);
    let keepalive = TcpKeepalive::new()
        .with_time(Duration::from_secs(5))
        .with_interval(Duration::from_secs(2))
        .with_retries(2);
    socket.set_tcp_keepalive(&keepalive)?;
    #[cfg(target_os = "linux")]
    socket.set_tcp_user_timeout(Some(Duration::from_secs(4)))?;
    Ok(())
}

/// Answers as a server would that refuses, with the class of failed connections (08006), so that
/// the reason reaches the log.
async fn refuse(client: &mut UnixStream, why: &io::Error) -> io::Result<()> {
    greeting::start(client).await?;
    client.write_all(&greeting::refusal(why)).await
}
