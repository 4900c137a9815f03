//! What came of one request to a receiver.

use std::fmt;
use std::time::Duration;

use serde::Serialize;

/// How much of a receiver's answer is read and kept, in bytes.
pub const MAX_RESPONSE_BYTES: usize = 16 * 1024;

/// One finished request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The receiver answered.
    Answered(Answer),
    /// No whole answer came.
    Failed(Failure),
}

/// A receiver's answer.
#[derive(Clone, PartialEq, Eq)]
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// The first [`MAX_RESPONSE_BYTES`] of the body; what is not UTF-8, and NUL, is U+FFFD.
    pub body: String,
    /// The wait that a 429 or 503 asks for.
    pub retry_after: Option<Duration>,
    /// The target of a redirect, in a form that the log may show; none where the answer names none.
    pub location: Option<String>,
}

impl Answer {
    /// The error of an answer that is no success.
    fn complaint(&self) -> String {
        let status = self.status;
        match (status, &self.location) {
            (301 | 302 | 303 | 307 | 308, Some(location)) => format!(
                "the receiver answered {status} and redirects to {location}; redirects are not followed: change the \
                 subscription's URL"
            ),
            (301 | 302 | 303 | 307 | 308, None) => format!(
                "the receiver answered {status}, a redirect without a valid Location; redirects are not followed"
            ),
            _ => format!("the receiver answered {status}"),
        }
    }
}

/// What a receiver says is between it and its owner: it does not show itself.
impl fmt::Debug for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Answer")
            .field("status", &self.status)
            .field("retry_after", &self.retry_after)
            .finish_non_exhaustive()
    }
}

/// Why there is no answer, or not a whole one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// The kind, for programs.
    pub kind: FailureKind,
    /// The same in words. Never a resolved address: a subscriber could map our network with it.
    pub message: String,
    /// The status, where one came before the failure.
    pub status: Option<u16>,
}

/// The contract's `error.kind`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum FailureKind {
    /// The deadline passed: connect, answer and body together.
    Timeout,
    /// The name does not resolve to an address that may be called.
    Dns,
    /// No connection.
    Connect,
    /// No TLS session, or a certificate that does not hold.
    Tls,
    /// The URL names an address that must not be called.
    BlockedAddress,
    /// A whole answer with a status that is no 2xx.
    HttpStatus,
    /// The answer broke off or is no HTTP.
    Response,
}

impl FailureKind {
    const ALL: [FailureKind; 7] = [
        FailureKind::Timeout,
        FailureKind::Dns,
        FailureKind::Connect,
        FailureKind::Tls,
        FailureKind::BlockedAddress,
        FailureKind::HttpStatus,
        FailureKind::Response,
    ];

    /// The name in logs and in the store.
    pub fn as_str(self) -> &'static str {
        match self {
            FailureKind::Timeout => "timeout",
            FailureKind::Dns => "dns",
            FailureKind::Connect => "connect",
            FailureKind::Tls => "tls",
            FailureKind::BlockedAddress => "blocked_address",
            FailureKind::HttpStatus => "http_status",
            FailureKind::Response => "response",
        }
    }

    /// The kind of this name, if it is one.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == name)
    }
}

impl Outcome {
    /// Whether the receiver has it: a 2xx, whole or as far as it is read.
    pub fn is_success(&self) -> bool {
        matches!(self, Outcome::Answered(answer) if (200..300).contains(&answer.status))
    }

    /// The receiver says that it is gone for good (410, RFC 9110 section 15.5.11).
    pub fn is_gone(&self) -> bool {
        matches!(self, Outcome::Answered(answer) if answer.status == 410)
    }

    /// The error of the log entry; none for a success.
    pub fn error(&self) -> Option<(FailureKind, String)> {
        match self {
            Outcome::Answered(_) if self.is_success() => None,
            Outcome::Answered(answer) => Some((FailureKind::HttpStatus, answer.complaint())),
            Outcome::Failed(failure) => Some((failure.kind, failure.message.clone())),
        }
    }

    /// The body, where the receiver answered.
    pub fn body(&self) -> Option<&str> {
        match self {
            Outcome::Answered(answer) => Some(&answer.body),
            Outcome::Failed(_) => None,
        }
    }

    /// The status, where one came.
    pub fn status(&self) -> Option<u16> {
        match self {
            Outcome::Answered(answer) => Some(answer.status),
            Outcome::Failed(failure) => failure.status,
        }
    }
}

/// A body's text as the log keeps it: neither PostgreSQL's text nor a terminal takes NUL.
pub fn printable(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).replace('\0', "\u{fffd}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error_of(status: u16, location: Option<&str>) -> Option<String> {
        let answer = Outcome::Answered(Answer {
            status,
            body: String::new(),
            retry_after: None,
            location: location.map(Into::into),
        });
        answer.error().map(|(_, message)| message)
    }

    #[test]
    fn a_redirect_names_its_target_and_is_not_followed() {
        let moved = error_of(308, Some("/hooks/")).unwrap();
        assert!(
            moved.contains("308 and redirects to /hooks/; redirects are not followed"),
            "{moved}"
        );
        let nowhere = error_of(302, None).unwrap();
        assert!(nowhere.contains("redirects are not followed"), "{nowhere}");
        assert_eq!(error_of(304, None).unwrap(), "the receiver answered 304");
        assert_eq!(error_of(201, Some("/made")), None);
    }

    #[test]
    fn what_is_not_utf8_and_nul_become_the_replacement_character() {
        assert_eq!(
            printable(b"a\0b\xffc\xed\xa0\x80"),
            "a\u{fffd}b\u{fffd}c\u{fffd}\u{fffd}\u{fffd}"
        );
    }
}
