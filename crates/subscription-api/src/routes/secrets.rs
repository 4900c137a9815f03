//! A subscription's next secret. The one answer that ever shows a secret, and only one of ours.

use actix_web::http::StatusCode;
use actix_web::{HttpResponse, web};
use hookline_core::ids::{OrganizationId, SubscriptionId};
use hookline_core::secret::Secret;
use hookline_core::subscription::{Addressed, Precondition, Revision, SecretRotation};
use hookline_store::{Rotated, Rotation, StoreError};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::error::ApiError;
use crate::extract::body::{Body, SUBSCRIPTION};
use crate::extract::caller::Caller;
use crate::extract::conditions::Conditions;
use crate::extract::idempotency::{IdempotencyKey, KeptAnswer, Turn, give_back, making};
use crate::extract::path_id::PathId;
use crate::state::AppState;

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
/// the overlap. A repeat with the same `Idempotency-Key` shows the secret again while the
/// subscription is as the first request left it.
#[utoipa::path(
    post, path = "/webhooks/{id}/secret/rotate", tag = "Subscriptions",
    operation_id = "rotateWebhookSecret",
    params(
        ("id" = i64, Path, description = "The subscription"),
        ("If-Match" = Option<String>, Header, description = "Entity tags of the subscription; 412 if it is at none of them"),
        crate::schemas::IdempotencyParameter,
    ),
    request_body(content = crate::schemas::SecretRotationBody, content_type = "application/json"),
    responses(
        (status = 200, description = "It is done", body = SecretRotated),
        (status = 409, description = "The first request with this key still runs, or its secret is not shown any more"),
        (status = 412, description = "The subscription is not as If-Match says"),
    ),
    security(("api_key" = ["write"]))
)]
pub(crate) async fn rotate(
    caller: Caller,
    service: web::Data<AppState>,
    PathId(id): PathId,
    conditions: Conditions,
    key: IdempotencyKey,
    body: Body<SUBSCRIPTION>,
) -> Result<HttpResponse, ApiError> {
    let SecretRotation { secret, overlap } = body.parse_if_any(SecretRotation::from_json)?;
    let owner = caller.organization;
    let claim = match key.begin(&service, body.bytes()).await? {
        Turn::First(claim) => claim,
        Turn::Repeat(kept) => return again(&service, owner, id, kept).await,
    };
    let (secret, shown) = match secret {
        Some(given) => (given, None),
        None => {
            let made = Secret::from_random(rand::random());
            let shown = made.expose().to_owned();
            (made, Some(shown))
        }
    };
    let rotation = Rotation { secret, overlap };
    let is_shown = shown.is_some();
    let making = making(
        claim,
        hookline_clock::now(),
        move |rotated: &Option<Rotated>| {
            let kept = KeptRotation::of(rotated.as_ref()?, is_shown);
            Some(KeptAnswer::new(StatusCode::OK, &kept))
        },
    );
    let store = &service.api.store;
    let rotated = store.rotate_secret(owner.clone(), conditions.on(id), rotation, making);
    let rotated = match rotated.await {
        // The key is as good as new: nothing was done.
        Err(StoreError::Stale) => {
            give_back(&service, claim).await?;
            return Err(ApiError::PreconditionFailed);
        }
        rotated => rotated?.ok_or(ApiError::NotFound)?,
    };
    let until = rotated.previous_valid_until;
    Ok(HttpResponse::Ok().json(SecretRotated {
        secret: shown,
        previous_valid_until: until.map(|until| until.to_string()),
    }))
}

/// The answer of a rotation without its secret, which stands sealed in the subscription.
#[derive(Serialize, Deserialize)]
struct KeptRotation {
    previous_valid_until: Option<String>,
    /// Where the secret is ours, the revision that has it.
    shown_at: Option<String>,
}

impl KeptRotation {
    fn of(rotated: &Rotated, is_shown: bool) -> Self {
        let until = rotated.previous_valid_until;
        Self {
            previous_valid_until: until.map(|until| until.to_string()),
            shown_at: is_shown.then(|| rotated.revision.to_string()),
        }
    }
}

/// The answer of the first request once more. A later revision may have another secret.
async fn again(
    service: &AppState,
    owner: OrganizationId,
    id: SubscriptionId,
    kept: KeptAnswer,
) -> Result<HttpResponse, ApiError> {
    let internal = |why: String| ApiError::Internal(why);
    let kept: KeptRotation =
        serde_json::from_str(&kept.body).map_err(|why| internal(why.to_string()))?;
    let secret = match kept.shown_at {
        None => None,
        Some(revision) => {
            let revision = revision
                .parse::<Revision>()
                .map_err(|_| internal(revision.clone()))?;
            let precondition = Precondition::OneOf(vec![revision]);
            let secret = service
                .api
                .store
                .secret(owner, Addressed { id, precondition });
            match secret.await {
                Err(StoreError::Stale) => {
                    return Err(ApiError::Conflict(
                        "the secret was rotated, and the subscription has changed since; the secret is not shown any more",
                    ));
                }
                secret => Some(secret?.ok_or(ApiError::NotFound)?),
            }
        }
    };
    Ok(HttpResponse::Ok().json(SecretRotated {
        secret: secret.map(|secret| secret.expose().to_owned()),
        previous_valid_until: kept.previous_valid_until,
    }))
}
