//! An error as a caller reads it.

use hookline_core::violations::Violation;
use serde::Serialize;
use utoipa::ToSchema;

/// The media type of every error (RFC 9457).
pub(crate) const PROBLEM_JSON: &str = "application/problem+json";

/// An error as a caller reads it (RFC 9457).
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Problem {
    /// Names the kind of problem, for programs.
    #[serde(rename = "type")]
    #[schema(example = "urn:hookline:problem:validation")]
    pub(crate) kind: &'static str,
    /// The kind in words.
    pub(crate) title: &'static str,
    /// The HTTP status.
    #[schema(example = 422)]
    pub(crate) status: u16,
    /// This very problem in words.
    pub(crate) detail: String,
    /// Every bad field, or the first ones: at most 100 and 64 KiB. There only when the status is 422.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) errors: Vec<FieldError>,
}

/// One bad field.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct FieldError {
    /// Its path; empty for the whole body.
    #[schema(example = "events[1]")]
    field: String,
    /// What is wrong, and what would be right.
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
