//! Publishing over HTTP, for publishers without a broker client. The events of a request are one message in the queue, so
//! all of them are durable or none is.

use std::time::Instant;

use actix_web::{HttpRequest, HttpResponse, web};
use hookline_core::event::Event;
use hookline_core::ids::OrganizationId;
use hookline_core::trace::TraceParent;
use hookline_core::wire;
use hookline_queue::{Author, PublishedEvents};
use serde::Serialize;
use utoipa::ToSchema;

use crate::error::{ApiError, RateLimit};
use crate::extract::body::{Body, MAX_EVENTS_BODY};
use crate::extract::caller::Caller;
use crate::extract::idempotency::IdempotencyKey;
use crate::routes::event_batch::{GeneratedIds, batch, is_array, parse};
use crate::state::AppState;

/// The events that are now durable.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Accepted {
    /// The ids of the events, in the order of the request.
    #[schema(example = json!(["evt_abc123"]))]
    accepted: Vec<String>,
}

/// Publish an event, or an array of at most 1,000.
///
/// After 202, all events of the request are durable. After an error, none was accepted, except that a 503 may leave the
/// outcome unknown. An `event_id` that exists already is the same event, and the first body counts. Hookline generates a
/// missing `event_id`: with an `Idempotency-Key` from the key, the event and its index, so the request can be repeated
/// after a 503 or a lost response. The same key with another body within 24 hours is 422. 429 with `Retry-After` beyond
/// the rate limit of an organization, by default 10,000 events a second and 20,000 at once.
#[utoipa::path(
    post, path = "/events", tag = "Events", operation_id = "publishEvents",
    request_body(content = crate::schemas::bodies::EventsBody, content_type = "application/json"),
    params(
        ("traceparent" = Option<String>, Header,
            description = "W3C trace context; requests to receivers continue the trace"),
        crate::schemas::parameters::IdempotencyParameter,
    ),
    responses((status = 202, description = "The events are durable", body = Accepted)),
    security(("api_key" = ["publish"]))
)]
pub(crate) async fn publish(
    caller: Caller,
    state: web::Data<AppState>,
    key: IdempotencyKey,
    request: HttpRequest,
    body: Body<MAX_EVENTS_BODY>,
) -> Result<HttpResponse, ApiError> {
    let generated_ids = match key.digest() {
        Some(digest) => GeneratedIds::Derived(digest),
        None => GeneratedIds::Random,
    };
    let events = parse(body.required()?, generated_ids)?;
    check_organization(&caller.organization, &events, body.bytes())?;
    if let Some(limit) = &state.rate_limits.events {
        let count = u32::try_from(events.len()).unwrap_or(u32::MAX);
        limit
            .try_acquire_many(caller.organization.clone(), count, Instant::now())
            .map_err(|wait| ApiError::RateLimited(RateLimit::Events, wait))?;
    }
    if let Some(limit) = state.api.config.max_stored_bytes {
        let store = &state.api.store;
        if store.stored_bytes(caller.organization.clone()).await? >= limit {
            return Err(ApiError::StorageQuotaExceeded);
        }
    }
    key.check(&state, body.bytes()).await?;
    let accepted = events
        .iter()
        .map(|event| event.id.as_str().to_owned())
        .collect();
    let message = PublishedEvents {
        body: batch(&events),
        content_type: Some(wire::JSON_BATCH.to_owned()),
        author: Author::Hookline,
        trace: trace_of(&request),
        // The rate limit above has counted them, so ingest does not.
        due: Some(hookline_clock::now()),
    };
    state.api.publisher.publish_events(message).await?;
    Ok(HttpResponse::Accepted().json(Accepted { accepted }))
}

pub(crate) fn trace_of(request: &HttpRequest) -> Option<TraceParent> {
    let value = request.headers().get("traceparent")?;
    TraceParent::parse(value.to_str().ok()?)
}

/// An error that names the first event of another organization, if there is one.
fn check_organization(
    organization: &OrganizationId,
    events: &[Event],
    body: &[u8],
) -> Result<(), ApiError> {
    let other = |event: &Event| event.organization != *organization;
    let Some(index) = events.iter().position(other) else {
        return Ok(());
    };
    let field = match is_array(body) {
        true => format!("[{index}].organization_id"),
        false => "organization_id".to_owned(),
    };
    Err(ApiError::OtherOrganization {
        field,
        named: events[index].organization.clone(),
        of_request: organization.clone(),
    })
}
