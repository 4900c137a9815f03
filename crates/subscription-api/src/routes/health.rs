//! Whether the process lives, and whether it can work.

use actix_web::{HttpResponse, web};
use serde_json::json;

use crate::error::ApiError;
use crate::state::AppState;

/// Says that the process lives.
#[utoipa::path(
    get, path = "/healthz", tag = "Operation", operation_id = "healthz",
    responses((status = 200, description = "It lives", content_type = "application/json",
        body = serde_json::Value, example = json!({"status": "ok"})))
)]
pub(crate) async fn alive() -> HttpResponse {
    HttpResponse::Ok().json(json!({"status": "ok"}))
}

/// Says whether the service can do what it is for.
///
/// An answer of 503 names the parts that it waits for.
#[utoipa::path(
    get, path = "/readyz", tag = "Operation", operation_id = "readyz",
    responses(
        (status = 200, description = "It can work", content_type = "application/json",
            body = serde_json::Value, example = json!({"status": "ready"})),
        (status = 503, description = "A part is missing", content_type = "application/problem+json",
            body = crate::error::problem::Problem),
    )
)]
pub(crate) async fn ready(service: web::Data<AppState>) -> Result<HttpResponse, ApiError> {
    let report = service.api.readiness.report();
    if report.is_ready() {
        return Ok(HttpResponse::Ok().json(json!({"status": "ready"})));
    }
    let waiting = report.parts.into_iter().filter(|(_, ready)| !ready);
    Err(ApiError::NotReady(waiting.map(|(part, _)| part).collect()))
}
