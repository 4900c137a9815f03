//! Authentication and authorization: the API key, the organization and the scope, and the limits of the key.
//!
//! It runs before the body is read and before the id in the path is parsed, so a request without a valid key learns
//! nothing and costs little.

use std::time::{Instant, SystemTime};

use actix_web::body::BoxBody;
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::Method;
use actix_web::http::header::{self, HeaderMap, HeaderName, HeaderValue};
use actix_web::middleware::Next;
use actix_web::{Error, HttpMessage as _};
use hookline_core::access::{Forbidden, Scope};
use hookline_core::ids::KeyId;
use hookline_core::timestamp::Timestamp;
use hookline_runtime::http::HttpConnection;
use hookline_store::{KeyHash, Store, with_key};
use tracing::Instrument as _;

use crate::error::{ApiError, RateLimit};
use crate::extract::caller::{Caller, bearer};
use crate::limits::concurrency::ConcurrencyGuard;
use crate::limits::failed_auth::PresentedKey;
use crate::state::AppState;

/// The header that names the organization of a request.
const ORGANIZATION: HeaderName = HeaderName::from_static("x-org-id");

/// Accepts a request if its key has the scope `write_scope`, or [`Scope::Read`] for GET and HEAD.
pub(crate) async fn authenticate(
    state: AppState,
    write_scope: Scope,
    request: ServiceRequest,
    next: Next<BoxBody>,
) -> Result<ServiceResponse, Error> {
    // The methods of a path are no secret: the OpenAPI document has them, too.
    if *request.method() == Method::OPTIONS {
        return next.call(request).await;
    }
    let scope = match *request.method() {
        Method::GET | Method::HEAD => Scope::Read,
        _ => write_scope,
    };
    let (caller, _guard) = match check(&state, scope, &request).await {
        Ok(accepted) => accepted,
        Err(error) => return Ok(request.error_response(error)),
    };
    let key = caller.key;
    request.extensions_mut().insert(caller);
    let mut response = with_key(key, next.call(request)).await?;
    response
        .headers_mut()
        .insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(response)
}

/// A request without a valid key takes the same work whatever is wrong with the key. A missing key is hashed and looked
/// up, too.
async fn check(
    state: &AppState,
    scope: Scope,
    request: &ServiceRequest,
) -> Result<(Caller, ConcurrencyGuard), ApiError> {
    let headers = request.headers();
    let key = bearer(headers);
    let AppState {
        api,
        failed_auth,
        rate_limits,
        ..
    } = state;
    let presented = PresentedKey {
        hash: KeyHash::of(key.unwrap_or_default()),
        address: request
            .peer_addr()
            .map(|peer| api.proxies.client_address(peer.ip(), headers)),
    };
    let (now, clock) = (Timestamp::from(SystemTime::now()), Instant::now());
    let lookup = failed_auth.acquire_lookup(presented).await;
    let access = api.store.access_of(presented.hash, now).await?;
    drop(lookup);
    let Some(access) = access.filter(|_| key.is_some()) else {
        return Err(match failed_auth.record_failure(presented, clock) {
            Ok(()) => ApiError::Unauthorized,
            Err(wait) => ApiError::RateLimited(RateLimit::FailedAuth, wait),
        });
    };
    failed_auth.record_success(presented);
    if let Some(connection) = request.conn_data::<HttpConnection>() {
        connection.trust();
    }
    rate_limits
        .requests
        .try_acquire(access.key, clock)
        .map_err(|wait| ApiError::RateLimited(RateLimit::Requests, wait))?;
    if rate_limits
        .key_use_writes
        .try_acquire(access.key, clock)
        .is_ok()
    {
        write_key_use(api.store.clone(), access.key, now);
    }
    let organization = access.enter(named_organization(headers)?, scope)?.clone();
    let guard = state
        .concurrency
        .try_acquire(access.key)
        .ok_or(ApiError::TooManyConcurrent)?;
    let caller = Caller {
        organization,
        key: access.key,
    };
    Ok((caller, guard))
}

/// Writes the time of use in the background: the request neither waits for it nor fails with it.
fn write_key_use(store: Store, key: KeyId, now: Timestamp) {
    let writing = async move {
        if let Err(why) = store.note_key_use(key, now).await {
            tracing::debug!(key.id = %key, error = %why, "failed to write the last use of a key");
        }
    };
    tokio::spawn(writing.in_current_span());
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
