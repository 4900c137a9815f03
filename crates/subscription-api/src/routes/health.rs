//! Health checks: liveness and readiness.

use actix_web::{HttpResponse, web};
use serde_json::json;

use crate::error::ApiError;
use crate::state::AppState;

/// Check that the process is running.
#[utoipa::path(
    get, path = "/healthz", tag = "Operation", operation_id = "healthz",
    responses((status = 200, description = "The process is running", content_type = "application/json",
        body = serde_json::Value, example = json!({"status": "ok"})))
)]
pub(crate) async fn alive() -> HttpResponse {
    HttpResponse::Ok().json(json!({"status": "ok"}))
}

/// Check that the service is ready.
///
/// 503 names the parts that are not ready, such as the store.
#[utoipa::path(
    get, path = "/readyz", tag = "Operation", operation_id = "readyz",
    responses(
        (status = 200, description = "The service is ready", content_type = "application/json",
            body = serde_json::Value, example = json!({"status": "ready"})),
        (status = 503, description = "A part is not ready", content_type = "application/problem+json",
            body = crate::error::problem::Problem),
    )
)]
pub(crate) async fn ready(state: web::Data<AppState>) -> Result<HttpResponse, ApiError> {
    let report = state.api.readiness.report();
    if report.is_ready() {
        return Ok(HttpResponse::Ok().json(json!({"status": "ready"})));
    }
    let waiting = report.parts.into_iter().filter(|(_, ready)| !ready);
    Err(ApiError::NotReady(waiting.map(|(part, _)| part).collect()))
}
