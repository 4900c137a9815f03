//! Cross-origin requests of browsers (CORS, the Fetch standard). Only the origins of a setting are allowed, and never with
//! credentials: a page sends an API key in `Authorization`.
//!
//! Own code and not actix-cors: that answers a refused preflight with a text, and every other error of the API is a problem
//! document.

use actix_web::body::BoxBody;
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::Method;
use actix_web::http::header::{self, HeaderValue};
use actix_web::middleware::Next;
use actix_web::{Error, HttpResponse};

use crate::config::CorsOrigins;

/// The methods that a page may use.
const METHODS: &str = "GET, HEAD, POST, PUT, PATCH, DELETE";

/// The headers that a page may send.
const HEADERS: &str = "Authorization, Content-Type, Idempotency-Key, If-Match, If-None-Match, Last-Event-ID, \
     Traceparent, Tracestate, X-Org-Id, X-Request-Id";

/// The headers that a page may read, besides those that it always may.
const EXPOSED: &str = "ETag, Location, Retry-After, X-Request-Id";

/// The seconds for which a browser keeps the answer to a preflight request. No browser keeps it for longer than this.
const MAX_AGE: &str = "7200";

/// Answers preflight requests of allowed origins, and lets their pages read responses. Requests of other origins pass without
/// the headers, so a browser does not show the response to their pages.
pub(crate) async fn allow(
    origins: CorsOrigins,
    request: ServiceRequest,
    next: Next<BoxBody>,
) -> Result<ServiceResponse, Error> {
    if origins.are_none() {
        return next.call(request).await;
    }
    let origin = origins.allowed(request.headers());
    let is_preflight = *request.method() == Method::OPTIONS
        && request
            .headers()
            .contains_key(header::ACCESS_CONTROL_REQUEST_METHOD);
    let mut response = match &origin {
        Some(_) if is_preflight => request.into_response(
            HttpResponse::NoContent()
                .insert_header((header::ACCESS_CONTROL_ALLOW_METHODS, METHODS))
                .insert_header((header::ACCESS_CONTROL_ALLOW_HEADERS, HEADERS))
                .insert_header((header::ACCESS_CONTROL_MAX_AGE, MAX_AGE))
                .finish(),
        ),
        _ => next.call(request).await?,
    };
    let headers = response.headers_mut();
    headers.append(header::VARY, HeaderValue::from_static("Origin"));
    if let Some(origin) = origin {
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
        if !is_preflight {
            let exposed = HeaderValue::from_static(EXPOSED);
            headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, exposed);
        }
    }
    Ok(response)
}
