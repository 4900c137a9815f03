//! The outcome of one request to a receiver.

use std::fmt;
use std::time::Duration;

use serde::Serialize;

/// The bytes of a response body that are read and kept.
pub const MAX_RESPONSE_BYTES: usize = 16 * 1024;

/// One finished request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AttemptOutcome {
    Answered(ReceiverResponse),
    /// No complete response came.
    Failed(RequestFailure),
}

#[derive(Clone, PartialEq, Eq)]
pub struct ReceiverResponse {
    pub status: u16,
    /// The first [`MAX_RESPONSE_BYTES`] of the body; what is not UTF-8, and NUL, is U+FFFD.
    pub body: String,
    /// The wait that a 429 or 503 asks for.
    pub retry_after: Option<Duration>,
    /// The target of a redirect, in a form that the log may show.
    pub location: Option<String>,
}

impl ReceiverResponse {
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

/// The body is private to the receiver's owner, so Debug omits it.
impl fmt::Debug for ReceiverResponse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReceiverResponse")
            .field("status", &self.status)
            .field("retry_after", &self.retry_after)
            .finish_non_exhaustive()
    }
}

/// A request without a complete response.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestFailure {
    pub kind: FailureKind,
    /// The same in words. Never a resolved address: a subscriber could map our network with it.
    pub message: String,
    /// The status, where one came before the failure.
    pub status: Option<u16>,
}

/// The contract's `error.kind`.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, strum::IntoStaticStr, strum::EnumString,
)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum FailureKind {
    /// The deadline passed: connect, answer and body together.
    Timeout,
    /// The name does not resolve to an address that may be called.
    Dns,
    /// No connection.
    Connect,
    /// No TLS session, or an invalid certificate.
    Tls,
    /// The URL names an address that must not be called.
    BlockedAddress,
    /// A complete response with a status other than 2xx.
    HttpStatus,
    /// The response broke off or is not HTTP.
    Response,
}

impl FailureKind {
    /// The rule of a text that must be a kind.
    pub const RULE: &'static str =
        "must be timeout, dns, connect, tls, blocked_address, http_status or response";

    /// The name in logs and in the store.
    pub fn as_str(self) -> &'static str {
        self.into()
    }

    /// The kind of this name, if it is one.
    pub fn parse(name: &str) -> Option<Self> {
        name.parse().ok()
    }

    /// Whether no request was made because of the target's name or address. Times, or an address, would then tell
    /// internal names from names that do not exist.
    pub fn hides_target(self) -> bool {
        matches!(self, Self::Dns | Self::BlockedAddress)
    }
}

impl AttemptOutcome {
    /// A 2xx, with the body complete or read up to the limit.
    pub fn is_success(&self) -> bool {
        matches!(self, AttemptOutcome::Answered(answer) if (200..300).contains(&answer.status))
    }

    /// 410: the receiver is gone for good (RFC 9110, section 15.5.11).
    pub fn is_gone(&self) -> bool {
        matches!(self, AttemptOutcome::Answered(answer) if answer.status == 410)
    }

    /// The error of the log entry; none for a success.
    pub fn error(&self) -> Option<(FailureKind, String)> {
        match self {
            AttemptOutcome::Answered(_) if self.is_success() => None,
            AttemptOutcome::Answered(answer) => Some((FailureKind::HttpStatus, answer.complaint())),
            AttemptOutcome::Failed(failure) => Some((failure.kind, failure.message.clone())),
        }
    }

    pub fn body(&self) -> Option<&str> {
        match self {
            AttemptOutcome::Answered(answer) => Some(&answer.body),
            AttemptOutcome::Failed(_) => None,
        }
    }

    /// Whether the log shows neither address nor times.
    pub fn hides_target(&self) -> bool {
        matches!(self, AttemptOutcome::Failed(failure) if failure.kind.hides_target())
    }

    /// The duration of an attempt as the log shows it: whole seconds where milliseconds would tell internal names from
    /// names that do not exist.
    pub fn shown_duration(&self, took: Duration) -> Duration {
        match self.hides_target() {
            true => Duration::from_secs(took.as_secs()),
            false => took,
        }
    }

    /// The status, where one came.
    pub fn status(&self) -> Option<u16> {
        match self {
            AttemptOutcome::Answered(answer) => Some(answer.status),
            AttemptOutcome::Failed(failure) => failure.status,
        }
    }
}

/// A body as the log keeps it. Neither PostgreSQL's text nor a terminal accepts NUL.
pub fn printable(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).replace('\0', "\u{fffd}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error_of(status: u16, location: Option<&str>) -> Option<String> {
        let answer = AttemptOutcome::Answered(ReceiverResponse {
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
    fn a_name_that_is_not_called_shows_its_duration_in_whole_seconds() {
        let took = Duration::from_millis(5_999);
        let shown = |kind| {
            let message = String::new();
            AttemptOutcome::Failed(RequestFailure {
                kind,
                message,
                status: None,
            })
            .shown_duration(took)
        };
        for hidden in [FailureKind::Dns, FailureKind::BlockedAddress] {
            assert_eq!(shown(hidden), Duration::from_secs(5));
        }
        for kind in [FailureKind::Timeout, FailureKind::Connect, FailureKind::Tls] {
            assert_eq!(shown(kind), took);
        }
    }

    #[test]
    fn what_is_not_utf8_and_nul_become_the_replacement_character() {
        assert_eq!(
            printable(b"a\0b\xffc\xed\xa0\x80"),
            "a\u{fffd}b\u{fffd}c\u{fffd}\u{fffd}\u{fffd}"
        );
    }
}
