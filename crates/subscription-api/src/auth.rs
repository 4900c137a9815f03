//! Who asks, for which organization, and whether the key's scopes reach that far.
//!
//! It runs before the body is read and before the path's id is looked at, so that who has no key
//! learns nothing and costs little.

use std::future::{Ready, ready};
use std::time::{Instant, SystemTime};

use actix_web::body::BoxBody;
use actix_web::dev::{Payload, ServiceRequest, ServiceResponse};
use actix_web::http::Method;
use actix_web::http::header::{self, HeaderMap, HeaderName, HeaderValue};
use actix_web::middleware::Next;
use actix_web::{Error, FromRequest, HttpMessage as _, HttpRequest};
use hookline_core::access::{Forbidden, Scope};
use hookline_core::ids::{KeyId, OrganizationId};
use hookline_core::timestamp::Timestamp;
use hookline_runtime::http::Connection;
use hookline_store::{KeyHash, of_key};

use crate::error::ApiError;
use crate::in_flight::Underway;
use crate::server::Service;
use crate::tries::Try;

/// Names the organization of a request.
pub(crate) const ORGANIZATION: HeaderName = HeaderName::from_static("x-org-id");

/// Whoever asks, once the key has been found good. The only way to an organization.
#[derive(Debug, Clone)]
pub(crate) struct Caller {
    /// The organization that the request is about.
    pub(crate) organization: OrganizationId,
    /// The key, for what is limited by key.
    pub(crate) key: KeyId,
}

impl FromRequest for Caller {
    type Error = ApiError;
    type Future = Ready<Result<Self, ApiError>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        let caller = request.extensions().get::<Caller>().cloned();
        ready(caller.ok_or_else(|| ApiError::Internal("a route that asks for no key".to_owned())))
    }
}

/// Lets a request in whose key has the scope `changing`, or [`Scope::Read`] where it only reads.
pub(crate) async fn enter(
    service: Service,
    changing: Scope,
    request: ServiceRequest,
    next: Next<BoxBody>,
) -> Result<ServiceResponse, Error> {
    let scope = match *request.method() {
        Method::GET | Method::HEAD => Scope::Read,
        _ => changing,
    };
    let (caller, _underway) = match admitted(&service, scope, &request).await {
        Ok(admitted) => admitted,
        Err(refusal) => return Ok(request.error_response(refusal)),
    };
    let key = caller.key;
    request.extensions_mut().insert(caller);
    let mut response = of_key(key, next.call(request)).await?;
    response
        .headers_mut()
        .insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(response)
}

/// Who comes without a good key costs the same whatever is wrong with it: also where there is none
/// a hash is made and the store is asked.
async fn admitted(
    service: &Service,
    scope: Scope,
    request: &ServiceRequest,
) -> Result<(Caller, Underway), ApiError> {
    let headers = request.headers();
    let key = bearer(headers);
    let presented = Try {
        key: KeyHash::of(key.unwrap_or_default()),
        from: request
            .peer_addr()
            .map(|peer| service.api.proxies.caller(peer.ip(), headers)),
    };
    let (now, clock) = (Timestamp::from(SystemTime::now()), Instant::now());
    let Service { api, tries, .. } = service;
    let lookup = tries.turn(presented).await;
    let access = api.store.access_of(presented.key, now).await?;
    drop(lookup);
    let Some(access) = access.filter(|_| key.is_some()) else {
        return Err(match tries.failed(presented, clock) {
            Ok(()) => ApiError::Unauthorized,
            Err(wait) => ApiError::TooManyTries { wait },
        });
    };
    tries.succeeded(presented);
    if let Some(connection) = request.conn_data::<Connection>() {
        connection.trust();
    }
    service
        .requests
        .take(access.key, clock)
        .map_err(|wait| ApiError::TooFast { wait })?;
    service.last_use.note(&api.store, access.key, now);
    let organization = access.enter(named_organization(headers)?, scope)?.clone();
    let underway = service
        .in_flight
        .begin(access.key, api.settings.max_requests_per_key)
        .ok_or(ApiError::TooManyRequests)?;
    let caller = Caller {
        organization,
        key: access.key,
    };
    Ok((caller, underway))
}

/// The key of `Authorization: Bearer <key>`; the scheme's case does not matter (RFC 9110, 11.1).
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

fn named_organization(headers: &HeaderMap) -> Result<Option<&str>, Forbidden> {
    let mut all = headers.get_all(ORGANIZATION);
    match (all.next(), all.next()) {
        (None, _) => Ok(None),
        (Some(only), None) => std::str::from_utf8(only.as_bytes())
            .map(Some)
            .map_err(|_| Forbidden::Organization),
        (Some(_), Some(_)) => Err(Forbidden::Organization),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key_in(values: &[&'static str]) -> Option<String> {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(header::AUTHORIZATION, HeaderValue::from_static(value));
        }
        bearer(&headers).map(str::to_owned)
    }

    #[test]
    fn a_key_comes_after_bearer_in_any_case() {
        for good in ["Bearer k", "bearer k", "BEARER   k", "Bearer k "] {
            assert_eq!(key_in(&[good]).as_deref(), Some("k"), "{good}");
        }
    }

    #[test]
    fn what_is_no_single_bearer_key_is_none() {
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
