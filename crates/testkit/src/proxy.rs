//! A TCP proxy in front of a server. Its link can be cut, made silent, and mended.

use std::net::{Ipv4Addr, SocketAddr};
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// The state of the link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Link {
    /// Bytes pass.
    Up,
    /// Connections end and new ones are refused at once.
    Cut,
    /// Connections stay and say nothing.
    Silent,
    /// Bytes pass until a client says these ones. They reach the server. Its answer ends that connection and is lost;
    /// from then on the link is open.
    LosesResponseTo(&'static [u8]),
    /// Bytes pass until a client says these ones. They reach the server; from then on the link is silent.
    SilentAfter(&'static [u8]),
}

/// A proxy in front of a server.
#[derive(Clone)]
pub struct Proxy {
    address: SocketAddr,
    link: Arc<watch::Sender<Link>>,
}

impl Proxy {
    /// An open link to `upstream`.
    pub async fn start(upstream: SocketAddr) -> anyhow::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let link = Arc::new(watch::channel(Link::Up).0);
        let proxied = Arc::clone(&link);
        tokio::spawn(async move {
            while let Ok((near, _)) = listener.accept().await {
                let link = Arc::clone(&proxied);
                tokio::spawn(async move {
                    if *link.borrow() == Link::Cut {
                        return;
                    }
                    if let Ok(far) = TcpStream::connect(upstream).await {
                        connect(near, far, &link).await;
                    }
                });
            }
        });
        Ok(Self { address, link })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// How the link is now.
    pub fn link(&self) -> Link {
        *self.link.borrow()
    }

    /// Changes the link.
    pub fn set(&self, link: Link) {
        self.link.send_replace(link);
    }
}

/// Passes bytes both ways until one of them ends.
async fn connect(near: TcpStream, far: TcpStream, link: &watch::Sender<Link>) {
    for stream in [&near, &far] {
        // Small messages must not wait for others (RFC 896), or every measured time would be the proxy's. If this call
        // fails, the stream fails, too.
        let _ = stream.set_nodelay(true);
    }
    let (near_in, near_out) = near.into_split();
    let (far_in, far_out) = far.into_split();
    let loses_response = AtomicBool::new(false);
    let out = pass(near_in, far_out, link.subscribe(), |bytes| {
        if is_awaited(link, bytes) {
            loses_response.store(true, Ordering::Relaxed);
        }
        silence_after(link, bytes);
        ControlFlow::Continue(())
    });
    let back = pass(far_in, near_out, link.subscribe(), |_| match loses_response
        .load(Ordering::Relaxed)
    {
        true => ControlFlow::Break(()),
        false => ControlFlow::Continue(()),
    });
    tokio::select! {
        () = out => {}
        () = back => {}
    }
}

/// Whether these bytes are the ones that a `LosesResponseTo` link waits for. It is true for one connection only.
fn is_awaited(link: &watch::Sender<Link>, bytes: &[u8]) -> bool {
    link.send_if_modified(|link| match *link {
        Link::LosesResponseTo(word) if bytes.windows(word.len()).any(|part| part == word) => {
            *link = Link::Up;
            true
        }
        _ => false,
    })
}

fn silence_after(link: &watch::Sender<Link>, bytes: &[u8]) {
    link.send_if_modified(|link| match *link {
        Link::SilentAfter(word) if bytes.windows(word.len()).any(|part| part == word) => {
            *link = Link::Silent;
            true
        }
        _ => false,
    });
}

async fn pass(
    mut from: tokio::net::tcp::OwnedReadHalf,
    mut to: tokio::net::tcp::OwnedWriteHalf,
    mut link: watch::Receiver<Link>,
    look: impl Fn(&[u8]) -> ControlFlow<()>,
) {
    let mut buffer = vec![0; 16 * 1024];
    loop {
        let read = tokio::select! {
            cut = link.wait_for(|link| *link == Link::Cut) => { drop(cut); return }
            read = from.read(&mut buffer) => read,
        };
        let Ok(length @ 1..) = read else { return };
        if link.wait_for(|link| *link != Link::Silent).await.is_err() || *link.borrow() == Link::Cut
        {
            return;
        }
        if look(&buffer[..length]).is_break() || to.write_all(&buffer[..length]).await.is_err() {
            return;
        }
    }
}
