//! The network between Hookline and the broker, which a test can cut or freeze.

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use url::Url;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Network {
    Passing,
    /// Connections are open and nothing comes through.
    Frozen,
    /// Connections break at once.
    Cut,
}

/// The proxy replaces this text by bytes that are not UTF-8, which lapin would not send.
pub(crate) const GARBLED: &str = "to-be-garbled";

pub(crate) struct Proxy {
    address: SocketAddr,
    network: watch::Sender<Network>,
}

impl Proxy {
    pub(crate) async fn to(broker: &Url) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("bind");
        let address = listener.local_addr().expect("an address");
        let host = broker.host_str().expect("a host").to_owned();
        let target = Arc::new((host, broker.port().unwrap_or(5672)));
        let (network, state) = watch::channel(Network::Passing);
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(carry(client, Arc::clone(&target), state.clone()));
            }
        });
        Self { address, network }
    }

    /// The same broker by way of the proxy.
    pub(crate) fn url(&self, broker: &Url) -> Url {
        let mut url = broker.clone();
        url.set_host(Some("127.0.0.1")).expect("a host");
        url.set_port(Some(self.address.port())).expect("a port");
        url
    }

    pub(crate) fn set(&self, network: Network) {
        self.network.send_replace(network);
    }
}

async fn carry(client: TcpStream, target: Arc<(String, u16)>, mut state: watch::Receiver<Network>) {
    let mut cut = state.clone();
    let carried = async {
        state
            .wait_for(|state| *state == Network::Passing)
            .await
            .ok()?;
        let broker = TcpStream::connect((target.0.as_str(), target.1))
            .await
            .ok()?;
        let (from_client, to_client) = client.into_split();
        let (from_broker, to_broker) = broker.into_split();
        let there = pipe(from_client, to_broker, state.clone());
        let back = pipe(from_broker, to_client, state.clone());
        tokio::select! {
            ended = there => ended,
            ended = back => ended,
        }
    };
    tokio::select! {
        _ = carried => {}
        _ = cut.wait_for(|state| *state == Network::Cut) => {}
    }
}

async fn pipe(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    mut state: watch::Receiver<Network>,
) -> Option<()> {
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let count = from
            .read(&mut buffer)
            .await
            .ok()
            .filter(|count| *count > 0)?;
        state
            .wait_for(|state| *state == Network::Passing)
            .await
            .ok()?;
        garble(&mut buffer[..count]);
        to.write_all(&buffer[..count]).await.ok()?;
    }
}

fn garble(bytes: &mut [u8]) {
    let marked = |bytes: &[u8]| {
        let length = GARBLED.len();
        let mut windows = bytes.windows(length);
        let start = windows.position(|window| window == GARBLED.as_bytes())?;
        Some(start..start + length)
    };
    while let Some(place) = marked(bytes) {
        bytes[place].fill(0xff);
    }
}
