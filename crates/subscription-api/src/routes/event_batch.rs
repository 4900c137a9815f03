//! The body of `POST /events`: one event or an array of events. All violations are reported at once.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use bytes::Bytes;
use hookline_core::event::{Event, InvalidEvent, MAX_EVENT_BYTES, MissingId};
use hookline_core::ids::{EventId, OrganizationId};
use hookline_core::violations::Violations;
use hookline_core::wire::{AtMost, MAX_EVENTS};
use hookline_store::RequestDigest;
use serde_json::value::RawValue;
use uuid::Uuid;

use crate::error::ApiError;

pub(super) fn is_array(body: &[u8]) -> bool {
    body.trim_ascii_start().starts_with(b"[")
}

/// The ids of events without an `event_id`.
#[derive(Clone, Copy)]
pub(super) enum GeneratedIds<'a> {
    Random,
    /// From the digest of the request, the index and the text of the event.
    Derived(&'a RequestDigest),
}

impl GeneratedIds<'_> {
    fn at(self, index: usize, event: &RawValue) -> Result<EventId, Violations> {
        match self {
            Self::Random => EventId::parse(format!("evt_{}", Uuid::new_v4().simple()))
                .map_err(|why| Violations::one("event_id", why)),
            Self::Derived(digest) => Ok(EventId::of_request(digest, index, event.get().as_bytes())),
        }
    }
}

pub(super) fn parse(body: &[u8], ids: GeneratedIds<'_>) -> Result<Vec<Event>, ApiError> {
    let malformed = |error: serde_json::Error| ApiError::Malformed(error.to_string());
    if is_array(body) {
        let array = serde_json::from_slice(body).map_err(malformed)?;
        Ok(parse_array(&array, ids)?)
    } else {
        let item: &RawValue = serde_json::from_slice(body).map_err(malformed)?;
        Ok(vec![parse_event(item, ids.at(0, item)?)?])
    }
}

fn parse_array(
    array: &AtMost<MAX_EVENTS, &RawValue>,
    ids: GeneratedIds<'_>,
) -> Result<Vec<Event>, Violations> {
    let items = &array.items;
    if items.is_empty() || array.more {
        let rule = format_args!("must be 1 to {MAX_EVENTS} events").to_string();
        return Err(Violations::one("", rule));
    }
    let mut violations = Violations::default();
    let mut events = Vec::with_capacity(items.len());
    for (index, item) in items.iter().enumerate() {
        match ids.at(index, item).and_then(|id| parse_event(item, id)) {
            Ok(event) => events.push(event),
            Err(inner) => violations.nest(&format!("[{index}]"), inner),
        }
    }
    let events = violations.into_result(Some(events))?;
    check_ids(&events)?;
    Ok(events)
}

/// Rejects two bodies with one id: the store would keep the first, and the caller would not learn that the second is lost.
fn check_ids(events: &[Event]) -> Result<(), Violations> {
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

fn parse_event(item: &RawValue, given: EventId) -> Result<Event, Violations> {
    if !item.get().starts_with('{') {
        return Err(Violations::one("", "must be a JSON object"));
    }
    let event = Event::from_json(item.get().as_bytes(), MissingId::Given(given));
    let event = event.map_err(|why| match why {
        InvalidEvent::Fields(violations) => violations,
        malformed @ InvalidEvent::Malformed { .. } => Violations::one("", malformed),
    })?;
    // A generated id makes the event longer, and ingest accepts at most this size.
    if event.body.len() > MAX_EVENT_BYTES {
        let rule = format_args!("must have at most {MAX_EVENT_BYTES} bytes, with its event_id");
        return Err(Violations::one("", rule));
    }
    Ok(event)
}

/// The events as one JSON array, with the bodies that receivers get.
pub(super) fn batch(events: &[Event]) -> Bytes {
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

    fn violations(body: &str) -> String {
        match parse(body.as_bytes(), GeneratedIds::Random).unwrap_err() {
            ApiError::Invalid(violations) => violations.to_string(),
            other => format!("{other:?}"),
        }
    }

    #[test]
    fn a_batch_is_an_array_of_the_bodies_that_receivers_get() {
        let events = parse(
            format!(" [{EVENT} ,\n{EVENT}]").as_bytes(),
            GeneratedIds::Random,
        )
        .unwrap();
        assert_eq!(batch(&events), format!("[{EVENT},{EVENT}]"));
        let single = parse(EVENT.as_bytes(), GeneratedIds::Random).unwrap();
        assert_eq!(batch(&single), format!("[{EVENT}]"));
    }

    #[test]
    fn each_event_without_an_id_gets_a_new_one() {
        let without = EVENT.replace(r#""event_id":"e","#, "");
        let events = parse(
            format!("[{without},{without}]").as_bytes(),
            GeneratedIds::Random,
        )
        .unwrap();
        assert_ne!(events[0].id, events[1].id);
        assert!(events[0].id.as_str().starts_with("evt_"));
        assert_eq!(events[0].id.as_str().len(), 36);
    }

    #[test]
    fn an_event_that_is_too_long_with_its_generated_id_is_rejected() {
        let sized = |bytes: usize| {
            let without = EVENT.replace(r#""event_id":"e","#, "");
            let padding = "x".repeat(bytes - without.len());
            without.replace("1.10", &format!(r#"1.10,"p":"{padding}""#))
        };
        let given = r#""event_id":"evt_","#.len() + 32;
        let longest = MAX_EVENT_BYTES - given - r#","p":"""#.len();
        assert_eq!(
            parse(sized(longest).as_bytes(), GeneratedIds::Random).unwrap()[0]
                .body
                .len(),
            MAX_EVENT_BYTES
        );
        assert_eq!(
            violations(&sized(longest + 1)),
            "must have at most 262144 bytes, with its event_id"
        );
    }

    #[test]
    fn the_violations_of_all_events_are_reported_at_once() {
        let bad = EVENT.replace("workflow.failed", "x");
        insta::assert_snapshot!(violations(&format!("[{EVENT},{bad},7,{{}}]")), @"[1].event_type: must be one of workflow.started, workflow.completed, workflow.failed, workflow.step.started, workflow.step.completed, workflow.step.failed; [2]: must be a JSON object; [3].data: is missing; [3].event_type: is missing; [3].workflow_id: is missing; [3].organization_id: is missing; [3].timestamp: is missing");
        insta::assert_snapshot!(violations(&bad), @"event_type: must be one of workflow.started, workflow.completed, workflow.failed, workflow.step.started, workflow.step.completed, workflow.step.failed");
        insta::assert_snapshot!(violations("7"), @"must be a JSON object");
    }

    #[test]
    fn two_bodies_with_one_id_in_one_request_are_rejected() {
        let other = EVENT.replace("1.10", "1.1");
        let twice = format!("[{EVENT},{EVENT}]");
        assert!(parse(twice.as_bytes(), GeneratedIds::Random).is_ok());
        assert_eq!(
            violations(&format!("[{EVENT},{EVENT},{other}]")),
            "[2].event_id: is that of [0], which has another body"
        );
    }

    #[test]
    fn a_request_has_1_to_1000_events() {
        let array = |count: usize| format!("[{}]", vec![EVENT; count].join(","));
        assert!(parse(array(1_000).as_bytes(), GeneratedIds::Random).is_ok());
        for count in [0, 1_001] {
            assert_eq!(violations(&array(count)), "must be 1 to 1000 events");
        }
    }

    #[test]
    fn text_that_is_not_json_is_malformed() {
        for bad in ["", " ", "{", "[1,]", "{} x", "[] []", "nope", "[\u{1}]"] {
            assert!(violations(bad).starts_with("Malformed"), "{bad:?}");
        }
        assert!(matches!(
            parse(b"[\"\xff\"]", GeneratedIds::Random),
            Err(ApiError::Malformed(_))
        ));
        // Also after the last event that counts.
        let long = format!("[{}1,]", "{},".repeat(MAX_EVENTS));
        assert!(violations(&long).starts_with("Malformed"));
    }

    proptest! {
        #[test]
        fn any_bytes_are_events_or_an_error(bytes: Vec<u8>, text in r#"[\[\]{}",:0-9a-e ]{0,40}"#) {
            let _ = parse(&bytes, GeneratedIds::Random);
            let _ = parse(text.as_bytes(), GeneratedIds::Random);
        }
    }
}
