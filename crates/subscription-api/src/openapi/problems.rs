//! The documented error responses, with a real error as the example.

use std::time::Duration;

use actix_web::ResponseError as _;
use hookline_core::access::{Forbidden, Scope};
use hookline_core::violations::Violations;
use hookline_runtime::hosts::Misdirected;
use serde_json::Value;
use utoipa::ToSchema as _;
use utoipa::openapi::header::{Header, HeaderBuilder};
use utoipa::openapi::{ContentBuilder, Object, Ref, RefOr, Response, ResponseBuilder, Type};

use crate::error::problem::{PROBLEM_JSON, Problem};
use crate::error::{ApiError, RateLimit};
use crate::extract::body::MAX_BODY;

/// An error response and its name in the document.
pub(super) struct Documented {
    pub(super) name: &'static str,
    pub(super) status: u16,
    pub(super) response: Response,
}

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
        ("TooLarge", ApiError::TooLarge(MAX_BODY)),
        ("NotJson", ApiError::NotJson),
        ("Invalid", violation.into()),
        (
            "TooManyRequests",
            ApiError::RateLimited(RateLimit::Requests, Duration::ZERO),
        ),
        ("Internal", ApiError::Internal(String::new())),
        ("Unavailable", ApiError::DeadlinePassed),
        ("Loop", ApiError::LoopDetected),
    ];
    let misdirected = documented(
        "Misdirected",
        Misdirected.status_code().as_u16(),
        Some(Misdirected.problem()),
    );
    errors
        .into_iter()
        .map(|(name, error)| {
            let problem = serde_json::to_value(error.problem()).ok();
            let mut documented = documented(name, error.status_code().as_u16(), problem);
            if let Some((header, _)) = error.header() {
                let headers = &mut documented.response.headers;
                headers.insert(header.to_string(), RefOr::T(text("")));
            }
            documented
        })
        .chain([misdirected])
        .collect()
}

fn documented(name: &'static str, status: u16, problem: Option<Value>) -> Documented {
    let title = problem
        .as_ref()
        .and_then(|problem| problem["title"].as_str());
    let title = title.unwrap_or_default().to_owned();
    let content = ContentBuilder::new()
        .schema(Some(Ref::from_schema_name(Problem::name())))
        .example(problem)
        .build();
    let response = ResponseBuilder::new()
        .description(title)
        .content(PROBLEM_JSON, content);
    Documented {
        name,
        status,
        response: response.build(),
    }
}

/// Adds the header that every response has.
pub(super) fn add_request_id(response: &mut Response) {
    let id = text(
        "The `X-Request-Id` of the request, if it is 1 to 128 visible ASCII characters; otherwise a new one",
    );
    response
        .headers
        .insert("X-Request-Id".to_owned(), RefOr::T(id));
}

fn text(description: &str) -> Header {
    let header = HeaderBuilder::new().schema(Some(Object::with_type(Type::String)));
    let description = (!description.is_empty()).then_some(description);
    header.description(description).build()
}
