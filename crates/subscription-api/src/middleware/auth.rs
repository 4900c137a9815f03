//! Who asks, for which organization, and whether the key's scopes reach that far.
//!
//! It runs before the body is read and before the path's id is looked at, so that who has no key
//! learns nothing and costs little.

use std::time::{Instant, SystemTime};

use actix_web::body::BoxBody;
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::Method;
use actix_web::http::header::{self, HeaderMap, HeaderName, HeaderValue};
use actix_web::middleware::Next;
use actix_web::{Error, HttpMessage as _};
use hookline_core::access::{Forbidden, Scope};
use hookline_core::timestamp::Timestamp;
use hookline_runtime::http::Connection;
use hookline_store::{KeyHash, of_key};

use crate::error::ApiError;
use crate::extract::caller::{Caller, bearer};
use crate::limits::concurrency::Underway;
use crate::limits::failed_auth::Try;
use crate::state::AppState;

/// Names the organization of a request.
pub(crate) const ORGANIZATION: HeaderName = HeaderName::from_static("x-org-id");

/// Lets a request in whose key has the scope `changing`, or [`Scope::Read`] where it only reads.
pub(crate) async fn enter(
    service: AppState,
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
    service: &AppState,
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
    let AppState { api, tries, .. } = service;
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
