//! The message of a failed request: its cause, and the necessary action of the receiver's owner. No message names an
//! address: with one, a customer could map the internal network.

use std::error::Error;
use std::io;

use hookline_core::outcome::{FailureKind, RequestFailure};

use crate::http::client::{self, ConnectError, MAX_HEAD, MAX_HEADERS, ResponseStart};
use crate::http::ssrf_resolver::NotAllowed;

/// The text of hyper for a head with too many headers or bytes.
const TOO_LARGE: &str = "message head is too large";

pub(super) fn of(error: &client::Error) -> RequestFailure {
    let connect_error = chain(error).find_map(|cause| cause.downcast_ref::<ConnectError>());
    let tls = chain(error).find_map(|cause| cause.downcast_ref::<rustls::Error>());
    let (kind, message) = match (connect_error, tls) {
        (Some(ConnectError::NotAllowed(why @ NotAllowed)), _) => (FailureKind::Dns, why.to_string()),
        (Some(why @ ConnectError::Late(_)), _) => (FailureKind::Timeout, why.to_string()),
        (_, Some(tls)) => (FailureKind::Tls, client::tls_failure(tls)),
        (Some(ConnectError::Tls(_)), _) => (
            FailureKind::Tls,
            "no TLS session: the receiver closed the connection during the handshake; either this port does not serve \
             TLS, or its TLS settings refuse Hookline (TLS 1.2 and 1.3, HTTP/1.1)"
                .to_owned(),
        ),
        (Some(ConnectError::Tcp(why)), _) => {
            let message = match why.kind() {
                io::ErrorKind::ConnectionRefused => "the connection was refused",
                _ => "no connection",
            };
            (FailureKind::Connect, message.to_owned())
        }
        (None, None) => (FailureKind::Response, of_head(error)),
    };
    RequestFailure {
        kind,
        message,
        status: None,
    }
}

/// The reason why a response has no readable head.
fn of_head(error: &client::Error) -> String {
    let start = client::response_start(error);
    match start {
        ResponseStart::Http2 => {
            return "the receiver speaks only HTTP/2 on this port; Hookline sends HTTP/1.1: let the receiver accept \
                    HTTP/1.1, too"
                .to_owned();
        }
        ResponseStart::Tls => {
            return "the receiver speaks TLS on this port: the subscription's URL must begin with https://".to_owned();
        }
        ResponseStart::Nothing | ResponseStart::Other => {}
    }
    let http = chain(error).find_map(|cause| cause.downcast_ref::<hyper::Error>());
    match http {
        // hyper reports the kind of this error to servers only.
        Some(why) if why.is_parse() && why.to_string().starts_with(TOO_LARGE) => format!(
            "the head of the answer is too large: more than {MAX_HEADERS} headers or {} KiB",
            MAX_HEAD / 1024
        ),
        Some(why) if why.is_parse() => {
            "the answer is not valid HTTP/1.1: its status line or a header cannot be read"
                .to_owned()
        }
        _ if start == ResponseStart::Nothing => {
            "the receiver closed the connection without an answer".to_owned()
        }
        _ => {
            "the receiver closed the connection in the middle of the head of its answer".to_owned()
        }
    }
}

/// The reason why the body of a response is incomplete.
pub(super) fn of_body(error: &hyper::Error) -> &'static str {
    let is_malformed = chain(error)
        .filter_map(|cause| cause.downcast_ref::<io::Error>())
        .any(|why| {
            matches!(
                why.kind(),
                io::ErrorKind::InvalidInput | io::ErrorKind::InvalidData
            )
        });
    if is_malformed {
        "the body of the answer is not valid HTTP/1.1: its chunks cannot be read"
    } else {
        "the answer broke off: the receiver closed the connection in the middle of the body"
    }
}

/// The error and all errors inside it. An `io::Error` does not return the error that it wraps as its source.
fn chain<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), |&cause| {
        let wrapped = cause
            .downcast_ref::<io::Error>()
            .and_then(io::Error::get_ref);
        match wrapped {
            Some(inner) => Some(inner),
            None => cause.source(),
        }
    })
}
