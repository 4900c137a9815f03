//! The failure to make a connection.

use std::io;
use std::time::Duration;

use crate::http::ssrf_resolver::NotAllowed;

#[derive(Debug, thiserror::Error)]
pub(crate) enum ConnectError {
    #[error(transparent)]
    NotAllowed(#[from] NotAllowed),
    #[error("no connection within {} s", .0.as_secs())]
    Late(Duration),
    #[error("no connection")]
    Tcp(#[source] io::Error),
    #[error("no TLS session")]
    Tls(#[source] io::Error),
}
