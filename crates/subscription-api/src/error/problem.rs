//! The body of an error response (RFC 9457).

use hookline_core::violations::Violation;
use hookline_runtime::request_id::RequestId;
use serde::Serialize;
use utoipa::ToSchema;

pub(crate) const PROBLEM_JSON: &str = "application/problem+json";

/// An error (RFC 9457).
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Problem {
    /// The kind of problem, for programs. It stays the same in later versions.
    #[serde(rename = "type")]
    #[schema(example = "urn:hookline:problem:validation")]
    pub(crate) kind: String,
    /// The reason phrase of the status.
    pub(crate) title: &'static str,
    /// The HTTP status.
    #[schema(example = 422)]
    pub(crate) status: u16,
    /// What is wrong with this request, and how to correct it.
    pub(crate) detail: String,
    /// The `X-Request-Id` of the response, which the log has, too.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = String, required = false, nullable = false, example = "9b2c1d8e-6f0a-4b3c-9d5e-2a7f8c1b0e4d")]
    pub(crate) request_id: Option<RequestId>,
    /// The invalid fields: at most the first 100, and at most 64 KiB. Only with status 422.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) errors: Vec<FieldError>,
}

/// An invalid field.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct FieldError {
    /// The path of the field, such as `events[1]`. Empty for the whole body.
    #[schema(example = "events[1]")]
    field: String,
    /// The rule that the value breaks.
    message: String,
}

impl From<&Violation> for FieldError {
    fn from(violation: &Violation) -> Self {
        Self {
            field: violation.field.clone(),
            message: violation.message.clone(),
        }
    }
}
