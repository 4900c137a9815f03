//! Bodies of requests: JSON of a limited size.

use actix_web::dev::Payload;
use actix_web::http::header::{self, HeaderMap};
use actix_web::{FromRequest, HttpMessage as _, HttpRequest, web};
use bytes::{Bytes, BytesMut};
use futures::StreamExt as _;
use futures::future::LocalBoxFuture;
use hookline_core::violations::Violations;
use serde_json::Value;

use crate::error::ApiError;
use crate::extract::caller::Caller;
use crate::extract::query::Query;
use crate::extract::strict_json;
use crate::limits::memory::{BudgetExceeded, Reservation};
use crate::state::AppState;

/// Bytes of a body, except of `POST /events`.
pub(crate) const MAX_BODY: usize = 64 * 1024;

/// Bytes of a body of `POST /events`.
pub(crate) const MAX_EVENTS_BODY: usize = 8 * 1024 * 1024;

const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// The bytes of a JSON body of at most `LIMIT` bytes.
#[derive(Debug)]
pub(crate) struct Body<const LIMIT: usize> {
    bytes: Bytes,
    _memory: Reservation,
}

impl<const LIMIT: usize> Body<LIMIT> {
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The bytes; an error where the body is missing or only white space.
    pub(crate) fn required(&self) -> Result<&[u8], ApiError> {
        match self.bytes.trim_ascii().is_empty() {
            true => Err(ApiError::EmptyBody),
            false => Ok(&self.bytes),
        }
    }

    /// Parses the body with `parse`. A repeated name is a violation, too.
    pub(crate) fn parse<T>(
        &self,
        parse: impl FnOnce(Value) -> Result<T, Violations>,
    ) -> Result<T, ApiError> {
        let (value, mut violations) = strict_json::read(self.required()?)
            .map_err(|error| ApiError::Malformed(error.to_string()))?;
        let parsed = parse(value).map_err(|bad| violations.append(bad));
        Ok(violations.into_result(parsed.ok())?)
    }

    /// As [`Body::parse`], for a body that may be left out.
    pub(crate) fn parse_optional<T: Default>(
        &self,
        parse: impl FnOnce(Value) -> Result<T, Violations>,
    ) -> Result<T, ApiError> {
        match self.bytes.is_empty() {
            true => Ok(T::default()),
            false => self.parse(parse),
        }
    }
}

/// The body of a call without fields: no body, or an object without members. A field would be ignored, so it is an error.
pub(crate) struct NoFields;

impl FromRequest for NoFields {
    type Error = ApiError;
    type Future = LocalBoxFuture<'static, Result<Self, ApiError>>;

    fn from_request(request: &HttpRequest, payload: &mut Payload) -> Self::Future {
        let query = Query::read(request.query_string()).finish();
        let body = Body::<MAX_BODY>::from_request(request, payload);
        Box::pin(async move {
            query?;
            body.await?.parse_optional(no_fields)?;
            Ok(Self)
        })
    }
}

fn no_fields(value: Value) -> Result<(), Violations> {
    let Value::Object(fields) = value else {
        return Err(Violations::one("", "must be left out, or be {}"));
    };
    let mut violations = Violations::default();
    for name in fields.keys() {
        violations.add(name, "is not a field of this call, which takes none");
    }
    violations.into_result(Some(()))
}

impl<const LIMIT: usize> FromRequest for Body<LIMIT> {
    type Error = ApiError;
    type Future = LocalBoxFuture<'static, Result<Self, ApiError>>;

    fn from_request(request: &HttpRequest, payload: &mut Payload) -> Self::Future {
        let reservation = check_type(request.headers())
            .and_then(|()| check_length(request.headers(), LIMIT))
            .and_then(|()| reservation(request));
        let payload = payload.take();
        Box::pin(async move { read(payload, reservation?).await })
    }
}

async fn read<const LIMIT: usize>(
    mut payload: Payload,
    mut reservation: Reservation,
) -> Result<Body<LIMIT>, ApiError> {
    let mut bytes = BytesMut::new();
    while let Some(chunk) = payload.next().await {
        let chunk = chunk.map_err(|error| ApiError::BrokenBody(error.to_string()))?;
        if bytes.len() + chunk.len() > LIMIT {
            return Err(ApiError::TooLarge(LIMIT));
        }
        reservation.try_grow(chunk.len()).map_err(rejection)?;
        bytes.extend_from_slice(&chunk);
    }
    if bytes.starts_with(BYTE_ORDER_MARK) {
        let rule =
            "it begins with a byte order mark (U+FEFF), which JSON must not have (RFC 8259, 8.1)";
        return Err(ApiError::Malformed(rule.to_owned()));
    }
    Ok(Body {
        bytes: bytes.freeze(),
        _memory: reservation,
    })
}

fn rejection(exceeded: BudgetExceeded) -> ApiError {
    match exceeded {
        BudgetExceeded::Key => ApiError::BodyMemoryExceeded,
        BudgetExceeded::Total => {
            ApiError::Unavailable("the memory budget of bodies is used up".to_owned())
        }
    }
}

/// The memory of this request, of which nothing is reserved yet.
fn reservation(request: &HttpRequest) -> Result<Reservation, ApiError> {
    let state = request.app_data::<web::Data<AppState>>();
    let extensions = request.extensions();
    state
        .zip(extensions.get::<Caller>())
        .map(|(state, caller)| state.body_memory.reservation(Some(caller.key)))
        .ok_or_else(|| ApiError::Internal("a route without authentication reads a body".to_owned()))
}

/// Requires `application/json`, with or without parameters. A missing body needs no type; its reader decides whether it
/// may be missing.
fn check_type(headers: &HeaderMap) -> Result<(), ApiError> {
    let has_body = headers.contains_key(header::TRANSFER_ENCODING)
        || headers
            .get(header::CONTENT_LENGTH)
            .is_some_and(|length| length != "0");
    if !has_body {
        return Ok(());
    }
    let encoded = headers
        .get(header::CONTENT_ENCODING)
        .is_some_and(|encoding| encoding != "identity");
    if encoded {
        return Err(ApiError::EncodedBody);
    }
    let media_type = headers.get(header::CONTENT_TYPE).ok_or(ApiError::NoType)?;
    let essence = media_type.to_str().unwrap_or_default().split(';').next();
    match essence.unwrap_or_default().trim() {
        json if json.eq_ignore_ascii_case("application/json") => Ok(()),
        _ => Err(ApiError::NotJson),
    }
}

/// Rejects a body by its `Content-Length` before it is read.
fn check_length(headers: &HeaderMap, limit: usize) -> Result<(), ApiError> {
    let length = headers
        .get(header::CONTENT_LENGTH)
        .and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    match length {
        Some(length) if length > limit as u64 => Err(ApiError::TooLarge(limit)),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use actix_web::http::header::HeaderValue;

    use super::*;

    const BODY: (header::HeaderName, &str) = (header::CONTENT_LENGTH, "2");

    fn accepted(headers: &[(header::HeaderName, &'static str)]) -> bool {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.insert(name.clone(), HeaderValue::from_static(value));
        }
        check_type(&map).is_ok()
    }

    #[test]
    fn a_body_is_application_json_with_or_without_parameters() {
        for good in [
            "application/json",
            "Application/JSON",
            "application/json; charset=utf-8",
            "application/json;x=y",
        ] {
            assert!(accepted(&[BODY, (header::CONTENT_TYPE, good)]), "{good}");
        }
        for bad in [
            "",
            "text/plain",
            "application/problem+json",
            "application/jsonp",
            "application/json, text/plain",
        ] {
            assert!(!accepted(&[BODY, (header::CONTENT_TYPE, bad)]), "{bad}");
        }
    }

    #[test]
    fn a_body_without_a_type_or_with_an_encoding_is_rejected() {
        assert!(accepted(&[]));
        let form = (header::CONTENT_TYPE, "application/x-www-form-urlencoded");
        assert!(accepted(&[(header::CONTENT_LENGTH, "0"), form]));
        assert!(!accepted(&[BODY]));
        assert!(!accepted(&[(header::TRANSFER_ENCODING, "chunked")]));
        let json = (header::CONTENT_TYPE, "application/json");
        assert!(!accepted(&[BODY, json, (header::CONTENT_ENCODING, "gzip")]));
    }
}
