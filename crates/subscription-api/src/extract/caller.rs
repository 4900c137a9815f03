//! The authenticated caller. `middleware::auth` puts it into the request; it is the only source of an organization.

use std::future::{Ready, ready};

use actix_web::dev::Payload;
use actix_web::http::header::{self, HeaderMap};
use actix_web::{FromRequest, HttpMessage as _, HttpRequest};
use hookline_core::ids::{KeyId, OrganizationId};

use crate::error::ApiError;

/// The caller of a request with a valid API key.
#[derive(Debug, Clone)]
pub(crate) struct Caller {
    /// The organization that the request is for.
    pub(crate) organization: OrganizationId,
    /// The key, which limits count by.
    pub(crate) key: KeyId,
}

impl FromRequest for Caller {
    type Error = ApiError;
    type Future = Ready<Result<Self, ApiError>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        let caller = request.extensions().get::<Caller>().cloned();
        ready(caller.ok_or_else(|| {
            ApiError::Internal("a route without authentication reads the caller".to_owned())
        }))
    }
}

/// The key of `Authorization: Bearer <key>`. The scheme is case-insensitive (RFC 9110, 11.1).
pub(crate) fn bearer(headers: &HeaderMap) -> Option<&str> {
    let mut all = headers.get_all(header::AUTHORIZATION);
    let (Some(only), None) = (all.next(), all.next()) else {
        return None;
    };
    let (scheme, key) = only.to_str().ok()?.split_once(' ')?;
    let key = key.trim();
    let well_formed = !key.is_empty() && !key.contains(char::is_whitespace);
    (scheme.eq_ignore_ascii_case("bearer") && well_formed).then_some(key)
}

#[cfg(test)]
mod tests {
    use actix_web::http::header::HeaderValue;

    use super::*;

    fn key_in(values: &[&'static str]) -> Option<String> {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(header::AUTHORIZATION, HeaderValue::from_static(value));
        }
        bearer(&headers).map(str::to_owned)
    }

    #[test]
    fn a_key_follows_bearer_in_any_case() {
        for good in ["Bearer k", "bearer k", "BEARER   k", "Bearer k "] {
            assert_eq!(key_in(&[good]).as_deref(), Some("k"), "{good}");
        }
    }

    #[test]
    fn anything_but_one_bearer_key_is_none() {
        for bad in [
            "",
            "k",
            "Bearer",
            "Bearer ",
            "Basic k",
            "Bearer a b",
            "Bearerk",
        ] {
            assert_eq!(key_in(&[bad]), None, "{bad:?}");
        }
        assert_eq!(key_in(&[]), None);
        assert_eq!(key_in(&["Bearer a", "Bearer b"]), None);
    }
}
