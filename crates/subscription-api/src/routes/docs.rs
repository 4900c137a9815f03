//! The API's own description, for programs and for people.

use actix_web::HttpResponse;
use actix_web::http::header;

use crate::openapi;

/// Reads `openapi.json` next to it and shows it.
const PAGE: &str = include_str!("../docs.html");

/// The page loads nothing from elsewhere and calls nobody but us.
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; \
                      connect-src 'self'; base-uri 'none'; form-action 'none'; \
                      frame-ancestors 'none'";

/// The OpenAPI document.
#[utoipa::path(
    get, path = "/openapi.json", tag = "Operation", operation_id = "openapi",
    responses((status = 200, description = "OpenAPI 3.1", content_type = "application/json",
        body = serde_json::Value))
)]
pub(crate) async fn openapi() -> HttpResponse {
    HttpResponse::Ok()
        .content_type("application/json")
        .body(openapi::document())
}

/// The same as a page.
#[utoipa::path(
    get, path = "/docs", tag = "Operation", operation_id = "docs",
    responses((status = 200, description = "A page", content_type = "text/html", body = String))
)]
pub(crate) async fn page() -> HttpResponse {
    HttpResponse::Ok()
        .insert_header((header::CONTENT_SECURITY_POLICY, POLICY))
        .content_type("text/html; charset=utf-8")
        .body(PAGE)
}

/// Leads a browser from the bare address to the documentation.
pub(crate) async fn home() -> HttpResponse {
    HttpResponse::SeeOther()
        .insert_header((header::LOCATION, "/docs"))
        .finish()
}
