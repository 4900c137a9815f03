//! A subscription's next secret. The one answer that ever shows a secret, and only one of ours.

use actix_web::{HttpResponse, web};
use hookline_core::secret::Secret;
use hookline_core::subscription::SecretRotation;
use hookline_store::Rotation;
use serde::Serialize;
use utoipa::ToSchema;

use crate::auth::Caller;
use crate::body::{Body, SUBSCRIPTION};
use crate::error::ApiError;
use crate::routes::path_id::PathId;
use crate::server::Service;

/// What signs from now on.
#[derive(Serialize, ToSchema)]
pub(crate) struct SecretRotated {
    /// The new secret, shown this once; null when it was given.
    #[schema(
        required = true,
        example = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSwMfKQ9r8GKYo="
    )]
    secret: Option<String>,
    /// Until when the old secret signs, too; null when there was none, or no overlap.
    #[schema(required = true, format = DateTime, example = "2025-12-22T10:30:00Z")]
    previous_valid_until: Option<String>,
}

/// Rotate the secret of a subscription.
///
/// Without `secret`, a new one of 32 random bytes is made and shown, this once. For
/// `overlap_seconds` both sign: `webhook-signature` has the new one's signature and then the old
/// one's, `X-Webhook-Signature` is the new one's and `X-Webhook-Signature-Previous` the old one's.
/// Another rotation meanwhile ends the older of the two; a change or removal of the secret ends
/// the overlap.
#[utoipa::path(
    post, path = "/webhooks/{id}/secret/rotate", tag = "Subscriptions",
    operation_id = "rotateWebhookSecret",
    params(("id" = i64, Path, description = "The subscription")),
    request_body(content = crate::openapi::SecretRotationBody, content_type = "application/json"),
    responses((status = 200, description = "It is done", body = SecretRotated)),
    security(("api_key" = ["write"]))
)]
pub(crate) async fn rotate(
    caller: Caller,
    service: web::Data<Service>,
    PathId(id): PathId,
    body: Body<SUBSCRIPTION>,
) -> Result<HttpResponse, ApiError> {
    let SecretRotation { secret, overlap } = body.parse_if_any(SecretRotation::from_json)?;
    let (secret, shown) = match secret {
        Some(given) => (given, None),
        None => {
            let made = Secret::from_random(rand::random());
            let shown = made.expose().to_owned();
            (made, Some(shown))
        }
    };
    let rotation = Rotation { secret, overlap };
    let now = hookline_clock::now();
    let store = &service.api.store;
    let rotated = store.rotate_secret(caller.organization, id, rotation, now);
    let rotated = rotated.await?.ok_or(ApiError::NotFound)?;
    let until = rotated.previous_valid_until;
    Ok(HttpResponse::Ok().json(SecretRotated {
        secret: shown,
        previous_valid_until: until.map(|until| until.to_string()),
    }))
}
