//! The one place that chooses a status, but for 421, which `hookline_runtime::hosts` answers on both listeners.
//!
//! This file alone writes the words of an error that a caller reads: the words of a store or a broker name
//! tables and addresses, so they go to the log and never into an answer.

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
use hookline_store::StoreError;

use problem::{FieldError, PROBLEM_JSON, Problem};

/// The most bytes of violations that one answer lists, as JSON: a control character takes six.
const MAX_LISTED_BYTES: usize = 60 * 1024;

/// Why a request was not done.
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
        "the organization has nothing of this id; the header X-Org-Id chooses another organization of the API key"
    )]
    NotFound,
    #[error("there is no such path; GET /docs lists those that there are")]
    NoSuchPath,
    #[error("{0}")]
    Conflict(&'static str),
    #[error("the subscription is not as If-Match says: read it and its ETag again")]
    PreconditionFailed,
    #[error("this path answers {0}")]
    MethodNotAllowed(String),
    #[error("the body must have at most {0} bytes")]
    TooLarge(usize),
    #[error("the body must be JSON; send it with `Content-Type: application/json`")]
    NotJson,
    #[error("the header Content-Type is missing; send `Content-Type: application/json`")]
    NoType,
    #[error("the body must be sent as it is, without the header Content-Encoding")]
    EncodedBody,
    #[error("{}", validation_detail(.0))]
    Invalid(Violations),
    #[error("the API key has too many requests under way; try again shortly")]
    TooManyRequests,
    #[error(
        "the bodies of the API key's requests under way are too large together; try again shortly"
    )]
    TooManyBytes,
    #[error(
        "answers to the API key wait to be read and are too large together; read them and try again"
    )]
    TooManyUnread,
    #[error("the API key has been used too often; try again later")]
    TooFast { wait: Duration },
    #[error(
        "the API key is not valid, and this address has sent too many such keys; try again later"
    )]
    TooManyTries { wait: Duration },
    #[error("the organization has sent too many test events; try again later")]
    TooManyTests { wait: Duration },
    #[error("the organization has retried too many deliveries by hand; try again later")]
    TooManyRetries { wait: Duration },
    #[error("the organization has published too many events; try again later")]
    TooManyEvents { wait: Duration },
    #[error(
        "as much is stored of the organization's events as may be; older ones are forgotten in time"
    )]
    Full,
    #[error("the request came from Hookline itself; it does not call itself in a circle")]
    Circle,
    #[error("a part of the service is not available; try again shortly")]
    Unavailable(String),
    #[error("the body did not come in time, and the request has had no effect; send it again")]
    SlowBody,
    #[error("the request took too long; try again shortly")]
    DeadlinePassed,
    #[error(
        "a part of the service did not answer, and the request may have taken effect all the same: \
         check before it is sent again; events with the same event_id or Idempotency-Key are safe to repeat"
    )]
    OutcomeUnknown(String),
    #[error("not ready yet; waiting for: {}", .0.join(", "))]
    NotReady(Vec<&'static str>),
    #[error("something went wrong here; it was logged")]
    Internal(String),
}

fn validation_detail(violations: &Violations) -> String {
    match violations.count() {
        1 => "a field is not valid".to_owned(),
        count => format!("{count} fields are not valid"),
    }
}

impl ApiError {
    fn choose(&self) -> (StatusCode, &'static str, &'static str) {
        match self {
            Self::Malformed(_) | Self::EmptyBody | Self::BrokenBody(_) => (
                StatusCode::BAD_REQUEST,
                "urn:hookline:problem:malformed",
                "Bad Request",
            ),
            Self::Unauthorized => (
                StatusCode::UNAUTHORIZED,
                "urn:hookline:problem:unauthorized",
                "Unauthorized",
            ),
            Self::Forbidden(_) | Self::OtherOrganization { .. } => (
                StatusCode::FORBIDDEN,
                "urn:hookline:problem:forbidden",
                "Forbidden",
            ),
            Self::NotFound | Self::NoSuchPath => (
                StatusCode::NOT_FOUND,
                "urn:hookline:problem:not-found",
                "Not Found",
            ),
            Self::SlowBody => (
                StatusCode::REQUEST_TIMEOUT,
                "urn:hookline:problem:request-timeout",
                "Request Timeout",
            ),
            Self::Conflict(_) => (
                StatusCode::CONFLICT,
                "urn:hookline:problem:conflict",
                "Conflict",
            ),
            Self::PreconditionFailed => (
                StatusCode::PRECONDITION_FAILED,
                "urn:hookline:problem:precondition-failed",
                "Precondition Failed",
            ),
            Self::MethodNotAllowed(_) => (
                StatusCode::METHOD_NOT_ALLOWED,
                "urn:hookline:problem:method-not-allowed",
                "Method Not Allowed",
            ),
            Self::TooLarge(_) => (
                StatusCode::PAYLOAD_TOO_LARGE,
                "urn:hookline:problem:too-large",
                "Content Too Large",
            ),
            Self::NotJson | Self::NoType | Self::EncodedBody => (
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                "urn:hookline:problem:unsupported-media-type",
                "Unsupported Media Type",
            ),
            Self::Invalid(_) => (
                StatusCode::UNPROCESSABLE_ENTITY,
                "urn:hookline:problem:validation",
                "Unprocessable Content",
            ),
            Self::TooManyRequests
            | Self::TooManyBytes
            | Self::TooManyUnread
            | Self::TooFast { .. }
            | Self::TooManyTries { .. }
            | Self::TooManyTests { .. }
            | Self::TooManyRetries { .. }
            | Self::TooManyEvents { .. }
            | Self::Full => (
                StatusCode::TOO_MANY_REQUESTS,
                "urn:hookline:problem:too-many-requests",
                "Too Many Requests",
            ),
            Self::Circle => (
                StatusCode::LOOP_DETECTED,
                "urn:hookline:problem:loop",
                "Loop Detected",
            ),
            Self::Unavailable(_)
            | Self::DeadlinePassed
            | Self::OutcomeUnknown(_)
            | Self::NotReady(_) => (
                StatusCode::SERVICE_UNAVAILABLE,
                "urn:hookline:problem:unavailable",
                "Service Unavailable",
            ),
            Self::Internal(_) => (
                StatusCode::INTERNAL_SERVER_ERROR,
                "urn:hookline:problem:internal",
                "Internal Server Error",
            ),
        }
    }

    /// The cause, for the log alone.
    pub(crate) fn cause(&self) -> Option<&str> {
        match self {
            Self::Unavailable(cause) | Self::OutcomeUnknown(cause) | Self::Internal(cause) => {
                Some(cause)
            }
            _ => None,
        }
    }

    /// The error for a request that changes something: a lost answer does not say whether the store
    /// or the broker took it.
    pub(crate) fn of_a_change(&self) -> Option<Self> {
        match self {
            Self::Unavailable(cause) => Some(Self::OutcomeUnknown(cause.clone())),
            Self::DeadlinePassed => Some(Self::OutcomeUnknown(self.to_string())),
            _ => None,
        }
    }

    /// The body of the answer.
    pub(crate) fn problem(&self) -> Problem {
        let (status, kind, title) = self.choose();
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
            kind,
            title,
            status: status.as_u16(),
            detail,
            errors,
        }
    }

    /// A further header of the answer.
    pub(crate) fn header(&self) -> Option<(header::HeaderName, HeaderValue)> {
        match self {
            Self::Unauthorized => Some((
                header::WWW_AUTHENTICATE,
                HeaderValue::from_static("Bearer realm=\"hookline\""),
            )),
            Self::MethodNotAllowed(allow) => {
                Some((header::ALLOW, HeaderValue::from_str(allow).ok()?))
            }
            Self::TooManyRequests | Self::TooManyBytes | Self::TooManyUnread => {
                Some((header::RETRY_AFTER, HeaderValue::from_static("1")))
            }
            Self::TooFast { wait }
            | Self::TooManyTries { wait }
            | Self::TooManyTests { wait }
            | Self::TooManyRetries { wait }
            | Self::TooManyEvents { wait } => {
                // Rounded up: a client that comes back then is answered.
                let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
                Some((header::RETRY_AFTER, seconds.max(1).into()))
            }
            // Nothing is wrong with the request, and the same one is taken once there is room.
            Self::Full => Some((header::RETRY_AFTER, HeaderValue::from_static("60"))),
            Self::Unavailable(_)
            | Self::DeadlinePassed
            | Self::OutcomeUnknown(_)
            | Self::NotReady(_) => Some((header::RETRY_AFTER, HeaderValue::from_static("2"))),
            _ => None,
        }
    }
}

/// As many as there is room for.
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
        self.choose().0
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
    fn what_a_store_or_broker_says_stays_inside() {
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
    fn a_store_that_is_away_is_503_and_one_that_refuses_is_500() {
        let status = |error: StoreError| ApiError::from(error).status_code().as_u16();
        assert_eq!(status(StoreError::Unavailable(String::new())), 503);
        assert_eq!(status(StoreError::NotMigrated), 503);
        assert_eq!(status(StoreError::Refused(String::new())), 500);
        assert_eq!(status(StoreError::Corrupt(String::new())), 500);
    }

    #[test]
    fn an_answer_lists_a_hundred_violations_and_counts_all() {
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
    fn an_answer_is_at_most_64_kib_whatever_the_names_are() {
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
