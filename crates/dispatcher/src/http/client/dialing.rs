//! One TCP connection to a host with several addresses (RFC 8305). The next address is tried 250 ms after the one
//! before, or at once when that one has failed. The first address that connects wins.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use futures::stream::{FuturesUnordered, StreamExt as _};
use socket2::{SockRef, TcpKeepalive};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep_until, timeout};

use super::connect_error::ConnectError;
use super::connect_phases::ConnectPhases;
use crate::http::ssrf_resolver::{Addresses, NotAllowed};

/// The time for which an address is tried alone, before the next one is tried beside it.
const HEAD_START: Duration = Duration::from_millis(250);

/// The longest time of a connection attempt: two SYNs may get lost on the way.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// The most addresses that are tried. A name with hundreds of dead addresses must not make Hookline flood them.
const MOST: usize = 8;

/// The interval of probes on a silent connection, and the longest time for which sent bytes may stay unacknowledged.
const KEEPALIVE: Duration = Duration::from_secs(15);

/// Dials the addresses of a host, and notes the phases.
///
/// # Errors
/// The first failure, when none of them connects.
pub(super) async fn dial(
    mut addresses: Addresses,
    port: u16,
    phases: &ConnectPhases,
) -> Result<TcpStream, ConnectError> {
    let mut dialling = FuturesUnordered::new();
    let mut left = MOST;
    let mut next_at = Instant::now();
    let mut failed = None;
    loop {
        let waits = !dialling.is_empty() && Instant::now() < next_at;
        tokio::select! {
            biased;
            Some(result) = dialling.next(), if !dialling.is_empty() => match result {
                Ok(stream) => {
                    // An address that disqualifies this one may have arrived meanwhile.
                    addresses.check_all()?;
                    phases.connected(peer_of(&stream));
                    return Ok(stream);
                }
                Err(why) => {
                    failed.get_or_insert(why);
                    next_at = Instant::now();
                }
            },
            next = addresses.next(), if !waits && left > 0 => match next? {
                Some(address) => {
                    if left == MOST && addresses.is_resolved() {
                        phases.resolved();
                    }
                    phases.dialling(address);
                    left -= 1;
                    next_at = Instant::now() + HEAD_START;
                    dialling.push(connect((address, port).into()));
                }
                None => left = 0,
            },
            () = sleep_until(next_at), if waits && left > 0 => {}
        }
        if left == 0 && dialling.is_empty() {
            return Err(failed.unwrap_or_else(|| NotAllowed.into()));
        }
    }
}

fn peer_of(stream: &TcpStream) -> Option<IpAddr> {
    Some(stream.peer_addr().ok()?.ip())
}

async fn connect(address: SocketAddr) -> Result<TcpStream, ConnectError> {
    let stream = timeout(CONNECT_TIMEOUT, TcpStream::connect(address))
        .await
        .map_err(|_| ConnectError::Late(CONNECT_TIMEOUT))?
        .map_err(ConnectError::Tcp)?;
    set_up(&stream).map_err(ConnectError::Tcp)?;
    Ok(stream)
}

fn set_up(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let keepalive = TcpKeepalive::new()
        .with_time(KEEPALIVE)
        .with_interval(KEEPALIVE);
    let socket = SockRef::from(stream);
    socket.set_tcp_keepalive(&keepalive)?;
    #[cfg(target_os = "linux")]
    socket.set_tcp_user_timeout(Some(2 * KEEPALIVE))?;
    Ok(())
}
