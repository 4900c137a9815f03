//! A TCP proxy before a peer. Its wire can be cut, made silent, and mended.

use std::net::{Ipv4Addr, SocketAddr};
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// The state of the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wire {
    /// Bytes pass.
    Whole,
    /// Connections end and new ones are refused at once.
    Cut,
    /// Connections stay and say nothing.
    Silent,
    /// Bytes pass until a client says these ones. They reach the peer. Its answer ends that connection and is lost;
    /// from then on the wire is whole.
    Losing(&'static [u8]),
    /// Bytes pass until a client says these ones. They reach the peer; from then on the wire is silent.
    SilentAfter(&'static [u8]),
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
        let wire = Arc::new(watch::channel(Wire::Whole).0);
        let proxied = Arc::clone(&wire);
        tokio::spawn(async move {
            while let Ok((near, _)) = listener.accept().await {
                let wire = Arc::clone(&proxied);
                tokio::spawn(async move {
                    if *wire.borrow() == Wire::Cut {
                        return;
                    }
                    if let Ok(far) = TcpStream::connect(peer).await {
                        connect(near, far, &wire).await;
                    }
                });
            }
        });
        Ok(Self { address, wire })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// How the wire is now.
    pub fn wire(&self) -> Wire {
        *self.wire.borrow()
    }

    /// Changes the wire.
    pub fn set(&self, wire: Wire) {
        self.wire.send_replace(wire);
    }
}

/// Passes bytes both ways until one of them ends.
async fn connect(near: TcpStream, far: TcpStream, wire: &watch::Sender<Wire>) {
    for stream in [&near, &far] {
        // Small messages must not wait for others (RFC 896), or every measured time would be the proxy's. If this call
        // fails, the stream fails, too.
        let _ = stream.set_nodelay(true);
    }
    let (near_in, near_out) = near.into_split();
    let (far_in, far_out) = far.into_split();
    let doomed = AtomicBool::new(false);
    let out = pass(near_in, far_out, wire.subscribe(), |bytes| {
        if is_last_word(wire, bytes) {
            doomed.store(true, Ordering::Relaxed);
        }
        fall_silent(wire, bytes);
        ControlFlow::Continue(())
    });
    let back = pass(far_in, near_out, wire.subscribe(), |_| {
        match doomed.load(Ordering::Relaxed) {
            true => ControlFlow::Break(()),
            false => ControlFlow::Continue(()),
        }
    });
    tokio::select! {
        () = out => {}
        () = back => {}
    }
}

/// Whether these bytes are the ones that a `Losing` wire waits for. It is true for one connection only.
fn is_last_word(wire: &watch::Sender<Wire>, bytes: &[u8]) -> bool {
    wire.send_if_modified(|wire| match *wire {
        Wire::Losing(word) if bytes.windows(word.len()).any(|part| part == word) => {
            *wire = Wire::Whole;
            true
        }
        _ => false,
    })
}

fn fall_silent(wire: &watch::Sender<Wire>, bytes: &[u8]) {
    wire.send_if_modified(|wire| match *wire {
        Wire::SilentAfter(word) if bytes.windows(word.len()).any(|part| part == word) => {
            *wire = Wire::Silent;
            true
        }
        _ => false,
    });
}

async fn pass(
    mut from: tokio::net::tcp::OwnedReadHalf,
    mut to: tokio::net::tcp::OwnedWriteHalf,
    mut wire: watch::Receiver<Wire>,
    look: impl Fn(&[u8]) -> ControlFlow<()>,
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
        if look(&buffer[..length]).is_break() || to.write_all(&buffer[..length]).await.is_err() {
            return;
        }
    }
}
