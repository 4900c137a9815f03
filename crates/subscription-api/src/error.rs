//! Errors, and the only place that chooses their status. Only 421 is chosen elsewhere: `hookline_runtime::hosts` answers
//! it on both listeners.
//!
//! Errors of the store or the broker name tables and addresses. Their text goes to the log and never into a response.

pub(crate) mod problem;

use std::time::Duration;

use actix_web::body::BoxBody;
use actix_web::http::StatusCode;
use actix_web::http::header::{self, HeaderValue};
use actix_web::{HttpResponse, ResponseError};
use hookline_core::access::Forbidden;
use hookline_core::ids::OrganizationId;
use hookline_core::violations::Violations;
use hookline_queue::QueueError;
use hookline_runtime::request_id::RequestId;
use hookline_store::StoreError;

use problem::{FieldError, PROBLEM_JSON, Problem};

/// Bytes of JSON of the violations in a response; a control character takes six.
const MAX_LISTED_BYTES: usize = 60 * 1024;

/// Why a request failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ApiError {
    #[error("the body is not valid JSON: {0}")]
    Malformed(String),
    #[error("the body is empty; this call takes JSON")]
    EmptyBody,
    #[error("the body cannot be read to its end: {0}")]
    BrokenBody(String),
    #[error("a valid API key is needed: `Authorization: Bearer <api key>`")]
    Unauthorized,
    #[error(transparent)]
    Forbidden(#[from] Forbidden),
    #[error(
        "{field} is {named}, and the request is for {of_request}; send each organization's events in a request \
         of its own, with the header X-Org-Id"
    )]
    OtherOrganization {
        field: String,
        named: OrganizationId,
        of_request: OrganizationId,
    },
    #[error(
        "the organization has nothing with this id; the header X-Org-Id selects another organization of the API key"
    )]
    NotFound,
    #[error("there is no such path; GET /docs lists all paths")]
    NoSuchPath,
    #[error("{0}")]
    Conflict(&'static str),
    #[error("the subscription does not match If-Match: read it and its ETag again")]
    PreconditionFailed,
    #[error("this path answers {0}")]
    MethodNotAllowed(String),
    #[error("the body must have at most {0} bytes")]
    TooLarge(usize),
    #[error("the body must be JSON; send it with `Content-Type: application/json`")]
    NotJson,
    #[error("the header Content-Type is missing; send `Content-Type: application/json`")]
    NoType,
    #[error("the body must be sent without the header Content-Encoding")]
    EncodedBody,
    #[error("{}", validation_detail(.0))]
    Invalid(Violations),
    #[error("the API key has too many active requests; try again shortly")]
    TooManyConcurrent,
    #[error(
        "the bodies of the API key's active requests are too large together; try again shortly"
    )]
    BodyMemoryExceeded,
    #[error("the API key's unread responses are too large together; read them and try again")]
    ResponseMemoryExceeded,
    #[error("the organization has too many open streams; close one and try again")]
    TooManyStreams,
    #[error("{0}; try again later")]
    RateLimited(RateLimit, Duration),
    #[error(
        "the organization's stored events have reached its storage quota; retention removes old events in time"
    )]
    StorageQuotaExceeded,
    #[error("Hookline sent this request; it does not call itself in a loop")]
    LoopDetected,
    #[error("a part of the service is not available; try again shortly")]
    Unavailable(String),
    #[error("the body did not arrive in time, and the request has had no effect; send it again")]
    SlowBody,
    #[error("the request took too long; try again shortly")]
    DeadlinePassed,
    #[error(
        "a part of the service did not answer, and the request may have had an effect: check before sending it \
         again; events with the same event_id or Idempotency-Key are safe to repeat"
    )]
    OutcomeUnknown(String),
    #[error("not ready yet; waiting for: {}", .0.join(", "))]
    NotReady(Vec<&'static str>),
    #[error("internal error; the log has the cause")]
    Internal(String),
}

/// A rate limit that a client can exceed.
#[derive(Debug, Clone, Copy, thiserror::Error)]
pub(crate) enum RateLimit {
    #[error("the API key has sent too many requests")]
    Requests,
    #[error("the API key is not valid, and this address has sent too many invalid keys")]
    FailedAuth,
    #[error("the organization has sent too many test events")]
    TestEvents,
    #[error("the organization has retried too many deliveries manually")]
    Retries,
    #[error("the organization has published too many events")]
    Events,
}

fn validation_detail(violations: &Violations) -> String {
    match violations.count() {
        1 => "a field is not valid".to_owned(),
        count => format!("{count} fields are not valid"),
    }
}

impl ApiError {
    /// The status, the end of `type`, and the title: the reason phrase of RFC 9110.
    #[rustfmt::skip]
    fn kind(&self) -> (StatusCode, &'static str, &'static str) {
        match self {
            Self::Malformed(_) | Self::EmptyBody | Self::BrokenBody(_) =>
                (StatusCode::BAD_REQUEST, "malformed", "Bad Request"),
            Self::Unauthorized =>
                (StatusCode::UNAUTHORIZED, "unauthorized", "Unauthorized"),
            Self::Forbidden(_) | Self::OtherOrganization { .. } =>
                (StatusCode::FORBIDDEN, "forbidden", "Forbidden"),
            Self::NotFound | Self::NoSuchPath =>
                (StatusCode::NOT_FOUND, "not-found", "Not Found"),
            Self::MethodNotAllowed(_) =>
                (StatusCode::METHOD_NOT_ALLOWED, "method-not-allowed", "Method Not Allowed"),
            Self::SlowBody =>
                (StatusCode::REQUEST_TIMEOUT, "request-timeout", "Request Timeout"),
            Self::Conflict(_) =>
                (StatusCode::CONFLICT, "conflict", "Conflict"),
            Self::PreconditionFailed =>
                (StatusCode::PRECONDITION_FAILED, "precondition-failed", "Precondition Failed"),
            Self::TooLarge(_) =>
                (StatusCode::PAYLOAD_TOO_LARGE, "too-large", "Content Too Large"),
            Self::NotJson | Self::NoType | Self::EncodedBody =>
                (StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported-media-type", "Unsupported Media Type"),
            Self::Invalid(_) =>
                (StatusCode::UNPROCESSABLE_ENTITY, "validation", "Unprocessable Content"),
            Self::TooManyConcurrent | Self::BodyMemoryExceeded | Self::ResponseMemoryExceeded
            | Self::RateLimited(..) | Self::StorageQuotaExceeded | Self::TooManyStreams =>
                (StatusCode::TOO_MANY_REQUESTS, "too-many-requests", "Too Many Requests"),
            Self::LoopDetected =>
                (StatusCode::LOOP_DETECTED, "loop", "Loop Detected"),
            Self::Unavailable(_) | Self::DeadlinePassed | Self::OutcomeUnknown(_) | Self::NotReady(_) =>
                (StatusCode::SERVICE_UNAVAILABLE, "unavailable", "Service Unavailable"),
            Self::Internal(_) =>
                (StatusCode::INTERNAL_SERVER_ERROR, "internal", "Internal Server Error"),
        }
    }

    /// The cause, which only the log shows.
    pub(crate) fn cause(&self) -> Option<&str> {
        match self {
            Self::Unavailable(cause) | Self::OutcomeUnknown(cause) | Self::Internal(cause) => {
                Some(cause)
            }
            _ => None,
        }
    }

    /// The error for a request that changes something, if its outcome is unknown: without a response, the store or the
    /// broker may have made the change.
    pub(crate) fn after_a_change(&self) -> Option<Self> {
        match self {
            Self::Unavailable(cause) => Some(Self::OutcomeUnknown(cause.clone())),
            Self::DeadlinePassed => Some(Self::OutcomeUnknown(self.to_string())),
            _ => None,
        }
    }

    pub(crate) fn problem(&self) -> Problem {
        let (status, kind, title) = self.kind();
        let errors = match self {
            Self::Invalid(violations) => listed(violations),
            _ => Vec::new(),
        };
        let mut detail = self.to_string();
        if let Self::Invalid(violations) = self
            && violations.count() > errors.len()
        {
            detail.push_str(&format!("; errors lists the first {}", errors.len()));
        }
        Problem {
            kind: format!("urn:hookline:problem:{kind}"),
            title,
            status: status.as_u16(),
            detail,
            request_id: RequestId::current(),
            errors,
        }
    }

    /// A header of the response, besides those that all problems have.
    pub(crate) fn header(&self) -> Option<(header::HeaderName, HeaderValue)> {
        match self {
            Self::Unauthorized => Some((
                header::WWW_AUTHENTICATE,
                HeaderValue::from_static("Bearer realm=\"hookline\""),
            )),
            Self::MethodNotAllowed(allow) => {
                Some((header::ALLOW, HeaderValue::from_str(allow).ok()?))
            }
            Self::TooManyConcurrent | Self::BodyMemoryExceeded | Self::ResponseMemoryExceeded => {
                Some((header::RETRY_AFTER, HeaderValue::from_static("1")))
            }
            Self::RateLimited(_, wait) => {
                // Rounded up, so that the limit has room when the client comes back.
                let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
                Some((header::RETRY_AFTER, seconds.max(1).into()))
            }
            Self::TooManyStreams => Some((header::RETRY_AFTER, HeaderValue::from_static("5"))),
            Self::StorageQuotaExceeded => {
                Some((header::RETRY_AFTER, HeaderValue::from_static("60")))
            }
            Self::Unavailable(_)
            | Self::DeadlinePassed
            | Self::OutcomeUnknown(_)
            | Self::NotReady(_) => Some((header::RETRY_AFTER, HeaderValue::from_static("2"))),
            _ => None,
        }
    }
}

/// As many violations as fit.
fn listed(violations: &Violations) -> Vec<FieldError> {
    let mut room = MAX_LISTED_BYTES;
    let mut errors = Vec::new();
    for violation in violations.iter() {
        let size = serde_json::to_string(violation).map_or(usize::MAX, |json| json.len() + 1);
        let Some(rest) = room.checked_sub(size) else {
            break;
        };
        room = rest;
        errors.push(violation.into());
    }
    errors
}

impl ResponseError for ApiError {
    fn status_code(&self) -> StatusCode {
        self.kind().0
    }

    fn error_response(&self) -> HttpResponse<BoxBody> {
        let mut response = HttpResponse::build(self.status_code());
        response.insert_header((header::CACHE_CONTROL, "no-store"));
        response.insert_header((header::X_CONTENT_TYPE_OPTIONS, "nosniff"));
        if let Some(header) = self.header() {
            response.insert_header(header);
        }
        response.content_type(PROBLEM_JSON).json(self.problem())
    }
}

impl From<Violations> for ApiError {
    fn from(violations: Violations) -> Self {
        Self::Invalid(violations)
    }
}

impl From<StoreError> for ApiError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Unavailable(_) | StoreError::NotMigrated | StoreError::Unsuitable(_) => {
                Self::Unavailable(error.to_string())
            }
            StoreError::Stale => Self::PreconditionFailed,
            StoreError::Refused(_) | StoreError::Corrupt(_) => Self::Internal(error.to_string()),
        }
    }
}

impl From<QueueError> for ApiError {
    fn from(error: QueueError) -> Self {
        Self::Unavailable(error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(error: ApiError) -> String {
        serde_json::to_string_pretty(&error.problem()).unwrap()
    }

    #[test]
    fn a_validation_problem_names_every_bad_field() {
        let mut violations = Violations::one("name", "is missing");
        violations.add("events[1]", "is there twice");
        insta::assert_snapshot!(shown(violations.into()), @r#"
        {
          "type": "urn:hookline:problem:validation",
          "title": "Unprocessable Content",
          "status": 422,
          "detail": "2 fields are not valid",
          "errors": [
            {
              "field": "name",
              "message": "is missing"
            },
            {
              "field": "events[1]",
              "message": "is there twice"
            }
          ]
        }
        "#);
    }

    #[test]
    fn texts_of_the_store_and_the_broker_are_not_in_the_response() {
        let leaks = "select * from api_keys at 10.0.0.7";
        for error in [
            ApiError::Unavailable(leaks.to_owned()),
            ApiError::Internal(leaks.to_owned()),
        ] {
            assert_eq!(error.cause(), Some(leaks));
            assert!(!shown(error).contains("select"));
        }
        insta::assert_snapshot!(shown(ApiError::Unavailable(leaks.to_owned())), @r#"
        {
          "type": "urn:hookline:problem:unavailable",
          "title": "Service Unavailable",
          "status": 503,
          "detail": "a part of the service is not available; try again shortly"
        }
        "#);
    }

    #[test]
    fn an_unavailable_store_is_503_and_a_permanent_error_is_500() {
        let status = |error: StoreError| ApiError::from(error).status_code().as_u16();
        assert_eq!(status(StoreError::Unavailable(String::new())), 503);
        assert_eq!(status(StoreError::NotMigrated), 503);
        assert_eq!(status(StoreError::Refused(String::new())), 500);
        assert_eq!(status(StoreError::Corrupt(String::new())), 500);
    }

    #[test]
    fn a_response_lists_100_violations_and_counts_all() {
        let mut violations = Violations::default();
        for index in 0..10_001 {
            violations.add(format!("[{index}]"), "is bad");
        }
        let problem = ApiError::from(violations).problem();
        assert_eq!(problem.errors.len(), 100);
        assert_eq!(
            problem.detail,
            "10001 fields are not valid; errors lists the first 100"
        );
    }

    #[test]
    fn a_response_is_at_most_64_kib_although_names_are_long() {
        let mut violations = Violations::default();
        for _ in 0..10_001 {
            violations.add("\u{1}".repeat(65_536), "is bad");
        }
        let answer = shown(violations.into());
        assert!(
            (30_000..=65_536).contains(&answer.len()),
            "{}",
            answer.len()
        );
    }
}
