//! Test events: one event of any type to one subscription, whatever its `events`, also while it is inactive, without retries.

use std::time::{Duration, Instant};

use actix_web::http::StatusCode;
use actix_web::{HttpRequest, HttpResponse, web};
use hookline_core::delivery::AttemptTask;
use hookline_core::event::{InvalidEvent, MAX_EVENT_BYTES};
use hookline_core::ids::EventId;
use hookline_core::test_call::TestEnvelope;
use hookline_queue::Scheduled;
use hookline_store::IncomingEvent;
use serde::Serialize;
use utoipa::ToSchema;
use uuid::Uuid;

use crate::error::{ApiError, RateLimit};
use crate::extract::body::Body;
use crate::extract::caller::Caller;
use crate::extract::idempotency::{IdempotencyKey, StoredResponse, create_once};
use crate::extract::path_id::PathSubscription;
use crate::routes::events::trace_of;
use crate::state::AppState;

/// Bytes of a body: the largest event, and room for spaces.
const MAX_TEST_BODY: usize = MAX_EVENT_BYTES + 1024;

/// The test event and its delivery. The log entry has both ids.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct TestSent {
    #[schema(example = "evt_test_67e5504410b1426f9247bb680e5fe0c8")]
    event_id: String,
    #[schema(value_type = String, format = "uuid")]
    delivery_id: Uuid,
}

/// Send a test event to a subscription.
///
/// An event for this subscription only, whatever its `events`, also while it is inactive: by default `workflow.completed` with
/// a short text. `data` reaches the receiver byte for byte. The event has at most 256 KiB, is not retried, and appears in the
/// subscription's logs. 429 with `Retry-After` beyond the limit of an organization, by default
/// 60 a minute.
#[utoipa::path(
    post, path = "/webhooks/{id}/test", tag = "Subscriptions", operation_id = "testWebhook",
    params(
        ("id" = i64, Path, description = "The subscription"),
        crate::schemas::parameters::IdempotencyParameter,
    ),
    request_body(content = crate::schemas::bodies::TestCallBody, content_type = "application/json"),
    responses(
        (status = 202, description = "The attempt starts", body = TestSent),
        (status = 409, description = "The first request with this Idempotency-Key is still running"),
    ),
    security(("api_key" = ["write"]))
)]
pub(crate) async fn send(
    caller: Caller,
    state: web::Data<AppState>,
    PathSubscription(id): PathSubscription,
    key: IdempotencyKey,
    request: HttpRequest,
    body: Body<MAX_TEST_BODY>,
) -> Result<HttpResponse, ApiError> {
    let now = hookline_clock::now();
    let envelope = TestEnvelope {
        id: EventId::parse(format!("evt_test_{}", Uuid::new_v4().simple()))
            .map_err(|error| ApiError::Internal(error.to_string()))?,
        organization: caller.organization.clone(),
        timestamp: now,
    };
    let text = match body.bytes() {
        [] => body.bytes(),
        _ => body.required()?,
    };
    let event = envelope.into_event(text).map_err(|error| match error {
        InvalidEvent::Fields(violations) => violations.into(),
        InvalidEvent::Malformed { why, .. } => ApiError::Malformed(why),
    })?;
    state
        .rate_limits
        .test_events
        .try_acquire(caller.organization.clone(), Instant::now())
        .map_err(|wait| ApiError::RateLimited(RateLimit::TestEvents, wait))?;
    key.once(&state, body.bytes(), async |claim| {
        let event_id = event.id.as_str().to_owned();
        let incoming = IncomingEvent {
            event,
            trace: trace_of(&request),
        };
        let response = move |task: &AttemptTask| {
            let sent = TestSent {
                event_id,
                delivery_id: task.delivery.0,
            };
            StoredResponse::new(StatusCode::ACCEPTED, &sent)
        };
        let stored = response.clone();
        let making = create_once(claim, now, |task: &Option<_>| task.as_ref().map(stored));
        let task = state.api.store.create_test(id, incoming, making).await?;
        let task = task.ok_or(ApiError::NotFound)?;
        let scheduled = Scheduled {
            task,
            delay: Duration::ZERO,
        };
        state.api.publisher.wake(&[scheduled]);
        Ok(response(&task).into())
    })
    .await
}
