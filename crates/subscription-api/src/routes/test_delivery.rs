//! Test events: one event to one subscription, whatever its event types, also while it is inactive, without retries.

use std::time::{Duration, Instant};

use actix_web::http::StatusCode;
use actix_web::{HttpRequest, HttpResponse, web};
use hookline_core::delivery::AttemptTask;
use hookline_core::event::{Event, InvalidEvent, MissingId};
use hookline_core::event_type::EventType;
use hookline_core::ids::OrganizationId;
use hookline_core::timestamp::Timestamp;
use hookline_queue::Scheduled;
use hookline_store::IncomingEvent;
use serde::Serialize;
use serde_json::json;
use utoipa::ToSchema;
use uuid::Uuid;

use crate::error::{ApiError, RateLimit};
use crate::extract::body::NoFields;
use crate::extract::caller::Caller;
use crate::extract::idempotency::{Idempotency, IdempotencyKey, StoredResponse, create_once};
use crate::extract::path_id::PathSubscription;
use crate::routes::events::trace_of;
use crate::state::AppState;

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
/// A `workflow.completed` event for this subscription only, whatever its `events`, also while it is inactive. It is not
/// retried, and appears in the subscription's logs. 429 with `Retry-After` beyond the limit of an organization, by default
/// 60 a minute.
#[utoipa::path(
    post, path = "/webhooks/{id}/test", tag = "Subscriptions", operation_id = "testWebhook",
    params(
        ("id" = i64, Path, description = "The subscription"),
        crate::schemas::parameters::IdempotencyParameter,
    ),
    request_body(content = crate::schemas::bodies::NoFieldsBody, content_type = "application/json"),
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
    _: NoFields,
) -> Result<HttpResponse, ApiError> {
    state
        .rate_limits
        .test_events
        .try_acquire(caller.organization.clone(), Instant::now())
        .map_err(|wait| ApiError::RateLimited(RateLimit::TestEvents, wait))?;
    let claim = match key.begin(&state, b"").await? {
        Idempotency::First(claim) => claim,
        Idempotency::Repeat(stored) => return Ok(stored.into()),
    };
    let now = hookline_clock::now();
    let event = test_event(&caller.organization, Uuid::new_v4(), now)
        .map_err(|error| ApiError::Internal(error.to_string()))?;
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
}

fn test_event(
    organization: &OrganizationId,
    id: Uuid,
    now: Timestamp,
) -> Result<Event, InvalidEvent> {
    let event = json!({
        "event_id": format!("evt_test_{}", id.simple()),
        "event_type": EventType::WorkflowCompleted,
        "workflow_id": "wf_test",
        "organization_id": organization,
        "timestamp": now,
        "data": {"test": true, "message": "This is a test event from Hookline."},
    });
    Event::from_json(event.to_string().as_bytes(), MissingId::Refused)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_test_event_is_a_valid_event() {
        let organization = OrganizationId::parse("org \"1\"").unwrap();
        let now = Timestamp::parse("2025-12-21T10:30:00Z").unwrap();
        let event = test_event(&organization, Uuid::nil(), now).unwrap();
        insta::assert_snapshot!(std::str::from_utf8(&event.body).unwrap(), @r#"{"event_id":"evt_test_00000000000000000000000000000000","event_type":"workflow.completed","workflow_id":"wf_test","organization_id":"org \"1\"","timestamp":"2025-12-21T10:30:00Z","data":{"message":"This is a test event from Hookline.","test":true}}"#);
    }
}
