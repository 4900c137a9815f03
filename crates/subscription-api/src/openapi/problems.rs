//! Every error that a call with a key can answer with, shown as it really looks.

use actix_web::ResponseError as _;
use hookline_core::access::{Forbidden, Scope};
use hookline_core::violations::Violations;
use utoipa::ToSchema as _;
use utoipa::openapi::header::HeaderBuilder;
use utoipa::openapi::{ContentBuilder, Object, Ref, Response, ResponseBuilder, Type};

use crate::body::SUBSCRIPTION;
use crate::error::ApiError;
use crate::problem::{PROBLEM_JSON, Problem};

/// An error under the name that calls refer to it by.
pub(super) struct Documented {
    /// The name.
    pub(super) name: &'static str,
    /// The status.
    pub(super) status: u16,
    /// The answer.
    pub(super) response: Response,
}

/// All of them.
pub(super) fn all() -> Vec<Documented> {
    let violation = Violations::one("events[1]", "is there twice");
    let errors = [
        ("Malformed", ApiError::Malformed("EOF while parsing".into())),
        ("Unauthorized", ApiError::Unauthorized),
        ("Forbidden", Forbidden::Scope(Scope::Write).into()),
        ("NotFound", ApiError::NotFound),
        ("SlowBody", ApiError::SlowBody),
        (
            "Conflict",
            ApiError::Conflict("the subscription is inactive"),
        ),
        ("PreconditionFailed", ApiError::PreconditionFailed),
        ("TooLarge", ApiError::TooLarge(SUBSCRIPTION)),
        ("NotJson", ApiError::NotJson),
        ("Invalid", violation.into()),
        ("TooManyRequests", ApiError::TooManyRequests),
        ("Internal", ApiError::Internal(String::new())),
        ("Unavailable", ApiError::DeadlinePassed),
        ("Loop", ApiError::Circle),
    ];
    errors
        .into_iter()
        .map(|(name, error)| documented(name, &error))
        .collect()
}

fn documented(name: &'static str, error: &ApiError) -> Documented {
    let problem = error.problem();
    let content = ContentBuilder::new()
        .schema(Some(Ref::from_schema_name(Problem::name())))
        .example(serde_json::to_value(&problem).ok())
        .build();
    let mut response = ResponseBuilder::new()
        .description(problem.title)
        .content(PROBLEM_JSON, content);
    if let Some((header, _)) = error.header() {
        let text = HeaderBuilder::new().schema(Some(Object::with_type(Type::String)));
        response = response.header(header.as_str(), text.build());
    }
    Documented {
        name,
        status: error.status_code().as_u16(),
        response: response.build(),
    }
}
