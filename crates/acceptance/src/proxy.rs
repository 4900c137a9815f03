//! A wire to a peer that can be cut, or made silent, and mended.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// How the wire is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wire {
    /// Bytes pass.
    Whole,
    /// Connections end and new ones are refused at once.
    Cut,
    /// Connections stay and say nothing.
    Silent,
}

/// A proxy before a peer.
#[derive(Clone)]
pub struct Proxy {
    address: SocketAddr,
    wire: Arc<watch::Sender<Wire>>,
}

impl Proxy {
    /// A whole wire to `peer`.
    ///
    /// # Errors
    /// When there is no port.
    pub async fn before(peer: SocketAddr) -> anyhow::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let (wire, state) = watch::channel(Wire::Whole);
        tokio::spawn(async move {
            while let Ok((near, _)) = listener.accept().await {
                let state = state.clone();
                tokio::spawn(async move {
                    if *state.borrow() == Wire::Cut {
                        return;
                    }
                    if let Ok(far) = TcpStream::connect(peer).await {
                        let (near_in, near_out) = near.into_split();
                        let (far_in, far_out) = far.into_split();
                        tokio::select! {
                            () = pass(near_in, far_out, state.clone()) => {}
                            () = pass(far_in, near_out, state) => {}
                        }
                    }
                });
            }
        });
        Ok(Self {
            address,
            wire: Arc::new(wire),
        })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Changes the wire.
    pub fn set(&self, wire: Wire) {
        self.wire.send_replace(wire);
    }
}

async fn pass(
    mut from: tokio::net::tcp::OwnedReadHalf,
    mut to: tokio::net::tcp::OwnedWriteHalf,
    mut wire: watch::Receiver<Wire>,
) {
    let mut buffer = vec![0; 16 * 1024];
    loop {
        let read = tokio::select! {
            cut = wire.wait_for(|wire| *wire == Wire::Cut) => { drop(cut); return }
            read = from.read(&mut buffer) => read,
        };
        let Ok(length @ 1..) = read else { return };
        if wire.wait_for(|wire| *wire != Wire::Silent).await.is_err() || *wire.borrow() == Wire::Cut
        {
            return;
        }
        if to.write_all(&buffer[..length]).await.is_err() {
            return;
        }
    }
}
