//! One attempt to connect.
//!
//! lapin runs a connection on a thread of its own that waits for the handshake without a limit. An abandoned attempt would
//! hold its socket until a frozen broker wakes, and attempts are repeated. A duplicate of the socket is kept to shut the
//! attempt down.

use std::io;
use std::net::{Shutdown, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use lapin::tcp::{AMQPUriTcpExt, AsyncTcpStream, OwnedTLSConfig, TLSConfig};
use lapin::uri::{AMQPScheme, AMQPUri};
use lapin::{Connection, ConnectionProperties};

use crate::connection::broker_url::BrokerUrl;
use crate::connection::refusal;
use crate::error::HostFault;

/// `name` is the name of the connection in the broker's management.
pub(crate) async fn dial(
    url: &BrokerUrl,
    host: &AMQPUri,
    name: &str,
) -> Result<Connection, HostFault> {
    let runtime = lapin::runtime::default_runtime().map_err(HostFault::Connect)?;
    let socket = Arc::new(DialSocket::default());
    let kept = Arc::clone(&socket);
    let tls = OwnedTLSConfig {
        cert_chain: url.roots.clone(),
        ..OwnedTLSConfig::default()
    };
    let properties = ConnectionProperties::default().with_connection_name(name.into());
    let connecting = Connection::connector(
        host.clone(),
        runtime,
        async move |uri: AMQPUri, runtime| {
            let plain = AMQPUri {
                scheme: AMQPScheme::AMQP,
                ..uri.clone()
            };
            let stream = plain
                .connect_with_config_async(TLSConfig::default(), &runtime)
                .await?;
            if let AsyncTcpStream::Plain(socket) = &stream {
                kept.keep(duplicate(socket.get_ref())?)?;
            }
            Ok(match uri.scheme {
                AMQPScheme::AMQP => stream,
                AMQPScheme::AMQPS => stream.into_tls(&uri.authority.host, tls.as_ref()).await?,
            })
        },
        properties,
    );
    match tokio::time::timeout(url.connect_timeout, connecting).await {
        Ok(connected) => {
            socket.release();
            connected.map_err(refusal::of_connection)
        }
        Err(_) => {
            socket.shut_down();
            Err(HostFault::NoAnswer(url.connect_timeout))
        }
    }
}

#[cfg(unix)]
fn duplicate(socket: &tokio::net::TcpStream) -> io::Result<Option<TcpStream>> {
    use std::os::fd::AsFd;
    Ok(Some(socket.as_fd().try_clone_to_owned()?.into()))
}

#[cfg(not(unix))]
fn duplicate(_: &tokio::net::TcpStream) -> io::Result<Option<TcpStream>> {
    Ok(None)
}

/// The socket of an attempt, once it is open.
#[derive(Default)]
struct DialSocket(Mutex<Attempt>);

#[derive(Default)]
struct Attempt {
    socket: Option<TcpStream>,
    abandoned: bool,
}

impl DialSocket {
    fn keep(&self, socket: Option<TcpStream>) -> io::Result<()> {
        let mut attempt = self.attempt();
        if attempt.abandoned {
            return Err(io::ErrorKind::TimedOut.into());
        }
        attempt.socket = socket;
        Ok(())
    }

    fn release(&self) {
        self.attempt().socket = None;
    }

    fn shut_down(&self) {
        let mut attempt = self.attempt();
        attempt.abandoned = true;
        if let Some(socket) = attempt.socket.take() {
            // An error means that the other side closed it first.
            let _ = socket.shutdown(Shutdown::Both);
        }
    }

    fn attempt(&self) -> MutexGuard<'_, Attempt> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt;
    use tokio::net::TcpListener;

    use super::*;

    async fn listen(scheme: &str) -> (TcpListener, BrokerUrl) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let url = format!("{scheme}://u:p@127.0.0.1:{port}/%2f?connection_timeout=300");
        (listener, BrokerUrl::parse(&url, "test".into()).unwrap())
    }

    #[tokio::test]
    async fn amqps_begins_with_a_tls_handshake() {
        let (listener, url) = listen("amqps").await;
        let dialling =
            tokio::spawn(async move { dial(&url, &url.hosts[0], "test").await.is_err() });
        let (mut socket, _) = listener.accept().await.unwrap();
        let mut first = [0; 2];
        socket.read_exact(&mut first).await.unwrap();
        assert_eq!(first, [0x16, 0x03], "a TLS record of a handshake");
        drop(socket);
        assert!(dialling.await.unwrap());
    }

    #[tokio::test]
    async fn an_attempt_without_an_answer_ends_and_its_socket_is_closed() {
        let (listener, url) = listen("amqp").await;
        let dialling = tokio::spawn(async move { dial(&url, &url.hosts[0], "test").await });
        let (mut socket, _) = listener.accept().await.unwrap();
        let mut received = Vec::new();
        socket.read_to_end(&mut received).await.unwrap();
        assert_eq!(received, b"AMQP\x00\x00\x09\x01");
        let error = dialling.await.unwrap().unwrap_err();
        assert!(matches!(error, HostFault::NoAnswer(_)), "{error}");
    }
}
