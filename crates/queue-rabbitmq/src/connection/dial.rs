//! One attempt to connect.
//!
//! lapin runs a connection on a thread of its own that waits for the handshake for ever: given up
//! on, it would hold its socket until a frozen broker wakes, and we try again and again. So we
//! keep a hand on the socket and hang up.

use std::io;
use std::net::{Shutdown, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use lapin::tcp::{AMQPUriTcpExt, AsyncTcpStream, OwnedTLSConfig, TLSConfig};
use lapin::uri::{AMQPScheme, AMQPUri};
use lapin::{Connection, ConnectionProperties};

use crate::connection::broker_url::Address;
use crate::connection::refusal;
use crate::error::HostFault;

/// `name` is what the broker's operator sees.
pub(crate) async fn dial(
    address: &Address,
    host: &AMQPUri,
    name: &str,
) -> Result<Connection, HostFault> {
    let runtime = lapin::runtime::default_runtime().map_err(HostFault::Connect)?;
    let line = Arc::new(Line::default());
    let kept = Arc::clone(&line);
    let tls = OwnedTLSConfig {
        cert_chain: address.roots.clone(),
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
                kept.hold(duplicate(socket.get_ref())?)?;
            }
            Ok(match uri.scheme {
                AMQPScheme::AMQP => stream,
                AMQPScheme::AMQPS => stream.into_tls(&uri.authority.host, tls.as_ref()).await?,
            })
        },
        properties,
    );
    match tokio::time::timeout(address.connect_timeout, connecting).await {
        Ok(connected) => {
            line.let_go();
            connected.map_err(refusal::of_connection)
        }
        Err(_) => {
            line.hang_up();
            Err(HostFault::NoAnswer(address.connect_timeout))
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

/// The socket of an attempt, once it has one.
#[derive(Default)]
struct Line(Mutex<Attempt>);

#[derive(Default)]
struct Attempt {
    socket: Option<TcpStream>,
    given_up: bool,
}

impl Line {
    fn hold(&self, socket: Option<TcpStream>) -> io::Result<()> {
        let mut attempt = self.attempt();
        if attempt.given_up {
            return Err(io::ErrorKind::TimedOut.into());
        }
        attempt.socket = socket;
        Ok(())
    }

    fn let_go(&self) {
        self.attempt().socket = None;
    }

    fn hang_up(&self) {
        let mut attempt = self.attempt();
        attempt.given_up = true;
        if let Some(socket) = attempt.socket.take() {
            // It fails when the other side was quicker, which is as good.
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

    async fn listen(scheme: &str) -> (TcpListener, Address) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let url = format!("{scheme}://u:p@127.0.0.1:{port}/%2f?connection_timeout=300");
        (listener, Address::parse(&url, "test".into()).unwrap())
    }

    #[tokio::test]
    async fn amqps_begins_with_a_tls_handshake() {
        let (listener, address) = listen("amqps").await;
        let dialling =
            tokio::spawn(async move { dial(&address, &address.hosts[0], "test").await.is_err() });
        let (mut socket, _) = listener.accept().await.unwrap();
        let mut first = [0; 2];
        socket.read_exact(&mut first).await.unwrap();
        assert_eq!(first, [0x16, 0x03], "a TLS record of a handshake");
        drop(socket);
        assert!(dialling.await.unwrap());
    }

    #[tokio::test]
    async fn a_broker_that_does_not_answer_is_given_up_on_and_hung_up_on() {
        let (listener, address) = listen("amqp").await;
        let dialling = tokio::spawn(async move { dial(&address, &address.hosts[0], "test").await });
        let (mut socket, _) = listener.accept().await.unwrap();
        let mut said = Vec::new();
        socket.read_to_end(&mut said).await.unwrap();
        assert_eq!(said, b"AMQP\x00\x00\x09\x01");
        let error = dialling.await.unwrap().unwrap_err();
        assert!(matches!(error, HostFault::NoAnswer(_)), "{error}");
    }
}
