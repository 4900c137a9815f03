//! The rotation of a subscription's secret. Its response, and that of a creation, show a secret that Hookline generated.

use actix_web::http::StatusCode;
use actix_web::{HttpResponse, web};
use hookline_core::secret::Secret;
use hookline_core::subscription::SecretRotation;
use hookline_store::{Rotation, RotationResult};
use serde::Serialize;
use utoipa::ToSchema;

use crate::error::ApiError;
use crate::extract::body::{Body, MAX_BODY};
use crate::extract::caller::Caller;
use crate::extract::conditions::Conditions;
use crate::extract::idempotency::{IdempotencyKey, StoredResponse, create_once};
use crate::extract::path_id::PathSubscription;
use crate::state::AppState;

/// The result of a rotation.
#[derive(Serialize, ToSchema)]
pub(crate) struct SecretRotated {
    /// The generated secret, shown only once; null if the request had a secret.
    #[schema(
        required = true,
        example = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSwMfKQ9r8GKYo="
    )]
    secret: Option<String>,
    /// The end of the overlap, until which the old secret signs, too. Null without an old secret or an overlap.
    #[schema(required = true, format = DateTime, example = "2025-12-22T10:30:00Z")]
    previous_valid_until: Option<String>,
}

/// Rotate the secret of a subscription.
///
/// Without `secret`, Hookline generates a secret of 32 random bytes and shows it only in this response. During
/// `overlap_seconds` both secrets sign: `webhook-signature` has the signature of the new secret and then of the old one,
/// `X-Webhook-Signature` is that of the new one, and `X-Webhook-Signature-Previous` that of the old one. A second rotation
/// ends the older of the two secrets. A change or removal of the secret ends the overlap. A repeat with the same
/// `Idempotency-Key` shows the secret again.
#[utoipa::path(
    post, path = "/webhooks/{id}/secret/rotate", tag = "Subscriptions",
    operation_id = "rotateWebhookSecret",
    params(
        ("id" = i64, Path, description = "The subscription"),
        ("If-Match" = Option<String>, Header, description = "Entity tags; 412 if the subscription matches none of them"),
        crate::schemas::parameters::IdempotencyParameter,
    ),
    request_body(content = crate::schemas::bodies::SecretRotationBody, content_type = "application/json"),
    responses(
        (status = 200, description = "The secret was rotated", body = SecretRotated),
        (status = 409, description = "The first request with this Idempotency-Key is still running"),
        (status = 412, description = "The subscription does not match If-Match"),
    ),
    security(("api_key" = ["write"]))
)]
pub(crate) async fn rotate(
    caller: Caller,
    state: web::Data<AppState>,
    PathSubscription(id): PathSubscription,
    conditions: Conditions,
    key: IdempotencyKey,
    body: Body<MAX_BODY>,
) -> Result<HttpResponse, ApiError> {
    let SecretRotation { secret, overlap } = body.parse_optional(SecretRotation::from_json)?;
    key.once(&state, body.bytes(), async |claim| {
        let (secret, shown) = match secret {
            Some(given) => (given, None),
            None => {
                let made = Secret::from_random(rand::random());
                let shown = made.expose().to_owned();
                (made, Some(shown))
            }
        };
        let rotation = Rotation { secret, overlap };
        let response = move |rotated: &RotationResult| {
            let until = rotated.previous_valid_until;
            let shown = SecretRotated {
                secret: shown.clone(),
                previous_valid_until: until.map(|until| until.to_string()),
            };
            StoredResponse::new(StatusCode::OK, &shown)
        };
        let stored = response.clone();
        let making = create_once(
            claim,
            hookline_clock::now(),
            move |rotated: &Option<RotationResult>| rotated.as_ref().map(stored),
        );
        let store = &state.api.store;
        let rotated = store.rotate_secret(caller.organization, conditions.on(id), rotation, making);
        let rotated = rotated.await?.ok_or(ApiError::NotFound)?;
        Ok(response(&rotated).into())
    })
    .await
}
