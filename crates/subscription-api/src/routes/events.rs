//! Publishing over HTTP, for those without a broker client: all of a request's events are durable
//! or none is, because they go into the queue as one message.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::time::Instant;

use actix_web::{HttpRequest, HttpResponse, web};
use bytes::Bytes;
use hookline_core::event::{Event, InvalidEvent, MAX_EVENT_BYTES, MissingId};
use hookline_core::ids::{EventId, OrganizationId};
use hookline_core::trace::TraceParent;
use hookline_core::violations::Violations;
use hookline_core::wire::{self, AtMost, MAX_EVENTS};
use hookline_queue::{PublishedEvents, Writer};
use hookline_store::Digest;
use serde::Serialize;
use serde_json::value::RawValue;
use utoipa::ToSchema;
use uuid::Uuid;

use crate::error::ApiError;
use crate::extract::body::{Body, EVENTS};
use crate::extract::caller::Caller;
use crate::extract::idempotency::IdempotencyKey;
use crate::state::AppState;

/// The events that are durable now.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Accepted {
    /// Their ids, in the order in which the events were sent.
    #[schema(example = json!(["evt_abc123"]))]
    accepted: Vec<String>,
}

/// Publish an event, or an array of at most 1,000.
///
/// All of them are durable once this has answered, or none is. The same `event_id` again is the
/// same event: the first one counts. An event without an `event_id` is given one: with an
/// `Idempotency-Key` it follows from the key, the event and its index, so the request can be repeated
/// after a 503 or a lost answer. The same key with another body within 24 hours is 422. An organization may publish so many in a second, by
/// default 10,000, and 20,000 at once; then it is answered with 429 and `Retry-After`, and none of the
/// request's events is taken.
#[utoipa::path(
    post, path = "/events", tag = "Events", operation_id = "publishEvents",
    request_body(content = crate::schemas::EventsBody, content_type = "application/json"),
    params(
        ("traceparent" = Option<String>, Header,
            description = "W3C trace context; the trace goes on to the receivers"),
        crate::schemas::IdempotencyParameter,
    ),
    responses((status = 202, description = "They are durable", body = Accepted)),
    security(("api_key" = ["publish"]))
)]
pub(crate) async fn publish(
    caller: Caller,
    service: web::Data<AppState>,
    key: IdempotencyKey,
    request: HttpRequest,
    body: Body<EVENTS>,
) -> Result<HttpResponse, ApiError> {
    let given_ids = match key.digest() {
        Some(digest) => GivenIds::Derived(digest),
        None => GivenIds::Random,
    };
    let events = read(body.required()?, given_ids)?;
    are_of(&caller.organization, &events, body.bytes())?;
    service
        .published
        .take(&caller.organization, events.len(), Instant::now())
        .map_err(|wait| ApiError::TooManyEvents { wait })?;
    if let Some(limit) = service.api.settings.max_stored_bytes {
        let store = &service.api.store;
        if store.stored_bytes(caller.organization.clone()).await? >= limit {
            return Err(ApiError::Full);
        }
    }
    key.check(&service, body.bytes()).await?;
    let accepted = events
        .iter()
        .map(|event| event.id.as_str().to_owned())
        .collect();
    let message = PublishedEvents {
        body: batch(&events),
        content_type: Some(wire::JSON_BATCH.to_owned()),
        writer: Writer::Hookline,
        trace: trace_of(&request),
        // They were counted above, so their turn has come.
        turn: Some(hookline_clock::now()),
    };
    service.api.publisher.publish_events(message).await?;
    Ok(HttpResponse::Accepted().json(Accepted { accepted }))
}

/// The trace that the caller is in.
pub(crate) fn trace_of(request: &HttpRequest) -> Option<TraceParent> {
    let value = request.headers().get("traceparent")?;
    TraceParent::parse(value.to_str().ok()?)
}

/// Names the first event of another organization, where there is one.
fn are_of(organization: &OrganizationId, events: &[Event], body: &[u8]) -> Result<(), ApiError> {
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

fn is_array(body: &[u8]) -> bool {
    body.trim_ascii_start().starts_with(b"[")
}

/// The ids of events that come without one.
#[derive(Clone, Copy)]
enum GivenIds<'a> {
    Random,
    /// From the digest of the request, the index and the event as it is written.
    Derived(&'a Digest),
}

impl GivenIds<'_> {
    fn at(self, index: usize, event: &RawValue) -> Result<EventId, Violations> {
        match self {
            Self::Random => EventId::parse(format!("evt_{}", Uuid::new_v4().simple()))
                .map_err(|why| Violations::one("event_id", why)),
            Self::Derived(digest) => Ok(EventId::of_request(digest, index, event.get().as_bytes())),
        }
    }
}

fn read(body: &[u8], ids: GivenIds<'_>) -> Result<Vec<Event>, ApiError> {
    let malformed = |error: serde_json::Error| ApiError::Malformed(error.to_string());
    if is_array(body) {
        let array = serde_json::from_slice(body).map_err(malformed)?;
        Ok(many(&array, ids)?)
    } else {
        let item: &RawValue = serde_json::from_slice(body).map_err(malformed)?;
        Ok(vec![one(item, ids.at(0, item)?)?])
    }
}

fn many(
    array: &AtMost<MAX_EVENTS, &RawValue>,
    ids: GivenIds<'_>,
) -> Result<Vec<Event>, Violations> {
    let items = &array.items;
    if items.is_empty() || array.more {
        let rule = format_args!("must be 1 to {MAX_EVENTS} events").to_string();
        return Err(Violations::one("", rule));
    }
    let mut violations = Violations::default();
    let mut events = Vec::with_capacity(items.len());
    for (index, item) in items.iter().enumerate() {
        match ids.at(index, item).and_then(|given| one(item, given)) {
            Ok(event) => events.push(event),
            Err(inner) => violations.nest(&format!("[{index}]"), inner),
        }
    }
    let events = violations.into_result(Some(events))?;
    each_id_means_one_event(&events)?;
    Ok(events)
}

/// The first of two is kept, so the caller would never hear that the second one is lost.
fn each_id_means_one_event(events: &[Event]) -> Result<(), Violations> {
    let mut violations = Violations::default();
    let mut seen: HashMap<(&OrganizationId, &str), (usize, &Bytes)> = HashMap::new();
    for (index, event) in events.iter().enumerate() {
        match seen.entry((&event.organization, event.id.as_str())) {
            Entry::Vacant(entry) => drop(entry.insert((index, &event.body))),
            Entry::Occupied(entry) => {
                let (first, body) = entry.get();
                if *body != &event.body {
                    violations.add(
                        format!("[{index}].event_id"),
                        format_args!("is that of [{first}], which has another body"),
                    );
                }
            }
        }
    }
    violations.into_result(Some(()))
}

fn one(item: &RawValue, given: EventId) -> Result<Event, Violations> {
    if !item.get().starts_with('{') {
        return Err(Violations::one("", "must be a JSON object"));
    }
    let event = Event::from_json(item.get().as_bytes(), MissingId::Given(given));
    let event = event.map_err(|why| match why {
        InvalidEvent::Fields(violations) => violations,
        malformed @ InvalidEvent::Malformed { .. } => Violations::one("", malformed),
    })?;
    // An id that we give makes it longer, and ingest takes no more than a publisher may write.
    if event.body.len() > MAX_EVENT_BYTES {
        let rule = format_args!("must have at most {MAX_EVENT_BYTES} bytes, with its event_id");
        return Err(Violations::one("", rule));
    }
    Ok(event)
}

fn batch(events: &[Event]) -> Bytes {
    let bytes: usize = events.iter().map(|event| event.body.len() + 1).sum();
    let mut array = Vec::with_capacity(bytes + 1);
    for event in events {
        array.push(if array.is_empty() { b'[' } else { b',' });
        array.extend_from_slice(&event.body);
    }
    array.push(b']');
    array.into()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const EVENT: &str = r#"{"event_id":"e","event_type":"workflow.failed","workflow_id":"w","organization_id":"o","timestamp":"2025-12-21T10:30:00Z","data":{"n":1.10}}"#;

    fn complaint(body: &str) -> String {
        match read(body.as_bytes(), GivenIds::Random).unwrap_err() {
            ApiError::Invalid(violations) => violations.to_string(),
            other => format!("{other:?}"),
        }
    }

    #[test]
    fn a_batch_is_an_array_of_the_bytes_that_receivers_get() {
        let events = read(
            format!(" [{EVENT} ,\n{EVENT}]").as_bytes(),
            GivenIds::Random,
        )
        .unwrap();
        assert_eq!(batch(&events), format!("[{EVENT},{EVENT}]"));
        let single = read(EVENT.as_bytes(), GivenIds::Random).unwrap();
        assert_eq!(batch(&single), format!("[{EVENT}]"));
    }

    #[test]
    fn an_event_without_an_id_is_given_one_of_its_own() {
        let without = EVENT.replace(r#""event_id":"e","#, "");
        let events = read(
            format!("[{without},{without}]").as_bytes(),
            GivenIds::Random,
        )
        .unwrap();
        assert_ne!(events[0].id, events[1].id);
        assert!(events[0].id.as_str().starts_with("evt_"));
        assert_eq!(events[0].id.as_str().len(), 36);
    }

    #[test]
    fn an_event_that_its_given_id_makes_too_long_is_refused() {
        let sized = |bytes: usize| {
            let without = EVENT.replace(r#""event_id":"e","#, "");
            let padding = "x".repeat(bytes - without.len());
            without.replace("1.10", &format!(r#"1.10,"p":"{padding}""#))
        };
        let given = r#""event_id":"evt_","#.len() + 32;
        let longest = MAX_EVENT_BYTES - given - r#","p":"""#.len();
        assert_eq!(
            read(sized(longest).as_bytes(), GivenIds::Random).unwrap()[0]
                .body
                .len(),
            MAX_EVENT_BYTES
        );
        assert_eq!(
            complaint(&sized(longest + 1)),
            "must have at most 262144 bytes, with its event_id"
        );
    }

    #[test]
    fn the_violations_of_all_events_come_at_once() {
        let bad = EVENT.replace("workflow.failed", "x");
        insta::assert_snapshot!(complaint(&format!("[{EVENT},{bad},7,{{}}]")), @"[1].event_type: must be one of workflow.started, workflow.completed, workflow.failed, workflow.step.started, workflow.step.completed, workflow.step.failed; [2]: must be a JSON object; [3].data: is missing; [3].event_type: is missing; [3].workflow_id: is missing; [3].organization_id: is missing; [3].timestamp: is missing");
        insta::assert_snapshot!(complaint(&bad), @"event_type: must be one of workflow.started, workflow.completed, workflow.failed, workflow.step.started, workflow.step.completed, workflow.step.failed");
        insta::assert_snapshot!(complaint("7"), @"must be a JSON object");
    }

    #[test]
    fn two_bodies_under_one_id_in_one_request_are_refused() {
        let other = EVENT.replace("1.10", "1.1");
        let twice = format!("[{EVENT},{EVENT}]");
        assert!(read(twice.as_bytes(), GivenIds::Random).is_ok());
        assert_eq!(
            complaint(&format!("[{EVENT},{EVENT},{other}]")),
            "[2].event_id: is that of [0], which has another body"
        );
    }

    #[test]
    fn a_request_has_1_to_1000_events() {
        let array = |count: usize| format!("[{}]", vec![EVENT; count].join(","));
        assert!(read(array(1_000).as_bytes(), GivenIds::Random).is_ok());
        for count in [0, 1_001] {
            assert_eq!(complaint(&array(count)), "must be 1 to 1000 events");
        }
    }

    #[test]
    fn what_is_no_json_is_malformed() {
        for bad in ["", " ", "{", "[1,]", "{} x", "[] []", "nope", "[\u{1}]"] {
            assert!(complaint(bad).starts_with("Malformed"), "{bad:?}");
        }
        assert!(matches!(
            read(b"[\"\xff\"]", GivenIds::Random),
            Err(ApiError::Malformed(_))
        ));
        // Also behind the last event that counts.
        let long = format!("[{}1,]", "{},".repeat(MAX_EVENTS));
        assert!(complaint(&long).starts_with("Malformed"));
    }

    proptest! {
        #[test]
        fn any_bytes_are_events_or_an_error(bytes: Vec<u8>, text in r#"[\[\]{}",:0-9a-e ]{0,40}"#) {
            let _ = read(&bytes, GivenIds::Random);
            let _ = read(text.as_bytes(), GivenIds::Random);
        }
    }
}
