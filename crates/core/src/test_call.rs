//! The event of a test call: of any type, with data of its caller's choice. The bytes of `data` pass as they were sent.

use serde_json::value::RawValue;

use crate::event::{Event, EventDraft, InvalidEvent, MAX_EVENT_BYTES, Members, parsed, too_large};
use crate::event_type::EventType;
use crate::ids::{EventId, OrganizationId, WorkflowId};
use crate::timestamp::Timestamp;
use crate::violations::Violations;

/// The type where the call gives none.
const DEFAULT_TYPE: EventType = EventType::WorkflowCompleted;

/// The data where the call gives none.
const DEFAULT_DATA: &str = r#"{"message":"This is a test event from Hookline.","test":true}"#;

/// The fields of an event that its caller does not choose.
#[derive(Debug, Clone)]
pub struct TestEnvelope {
    pub id: EventId,
    pub organization: OrganizationId,
    pub timestamp: Timestamp,
}

impl TestEnvelope {
    /// Reads the body of `POST /webhooks/{id}/test`, which may be empty.
    ///
    /// # Errors
    /// [`InvalidEvent`] naming every bad field, or for an event that is too long.
    pub fn into_event(self, body: &[u8]) -> Result<Event, InvalidEvent> {
        let malformed = |error: serde_json::Error| InvalidEvent::Malformed {
            format: "JSON",
            why: error.to_string(),
        };
        let body = if body.is_empty() { b"{}" } else { body };
        let whole: &RawValue = serde_json::from_slice(body).map_err(malformed)?;
        if !whole.get().starts_with('{') {
            return Err(Violations::one("", "must be a JSON object").into());
        }
        let members: Members<'_> = serde_json::from_str(whole.get()).map_err(malformed)?;
        let data = serde_json::from_str(DEFAULT_DATA).map_err(malformed)?;
        let event = self.draft(members, data).into_event()?;
        match event.body.len() <= MAX_EVENT_BYTES {
            true => Ok(event),
            false => Err(too_large().into()),
        }
    }

    fn draft<'a>(self, members: Members<'a>, default_data: &'a RawValue) -> EventDraft<'a> {
        let mut violations = Violations::default();
        let (mut event_type, mut data) = (None, None);
        for (name, value) in members.0 {
            let place = match name.as_ref() {
                "event_type" => &mut event_type,
                "data" => &mut data,
                _ => {
                    violations.add(name, "is not a field of a test call");
                    continue;
                }
            };
            if place.replace(value).is_some() {
                violations.add(name, "is there twice");
            }
        }
        let event_type = match event_type {
            None => Some(DEFAULT_TYPE),
            given => parsed(&mut violations, "event_type", given, |text| {
                EventType::parse(&text)
            }),
        };
        EventDraft {
            event_id: Some(self.id),
            event_type,
            workflow_id: violations.check("", WorkflowId::parse("wf_test")),
            organization_id: Some(self.organization),
            timestamp: Some(self.timestamp),
            data: Some(data.unwrap_or(default_data)),
            violations,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(body: &str) -> Result<Event, InvalidEvent> {
        let envelope = TestEnvelope {
            id: EventId::parse("evt_test_1").unwrap(),
            organization: OrganizationId::parse("org \"1\"").unwrap(),
            timestamp: Timestamp::parse("2025-12-21T10:30:00Z").unwrap(),
        };
        envelope.into_event(body.as_bytes())
    }

    fn text(body: &str) -> String {
        let event = event(body).unwrap();
        String::from_utf8(event.body.to_vec()).unwrap()
    }

    #[test]
    fn a_call_without_a_body_sends_the_default_event() {
        insta::assert_snapshot!(text(""), @r#"{"event_id":"evt_test_1","event_type":"workflow.completed","workflow_id":"wf_test","organization_id":"org \"1\"","timestamp":"2025-12-21T10:30:00Z","data":{"message":"This is a test event from Hookline.","test":true}}"#);
        assert_eq!(text(" {} "), text(""));
    }

    #[test]
    fn data_passes_byte_for_byte() {
        let data = r#"{ "b":1.00000000000000000001, "a" : "\u0041\/" , "b":[ 1e400 ]}"#;
        let sent = text(&format!(
            r#"{{"event_type":"workflow.step.failed", "data" : {data} }}"#
        ));
        assert!(sent.ends_with(&format!(r#""data":{data}}}"#)), "{sent}");
        assert!(
            sent.contains(r#""event_type":"workflow.step.failed""#),
            "{sent}"
        );
    }

    #[test]
    fn every_bad_field_is_named_at_once() {
        let body = r#"{"event_type":"workflow.*","data":[],"x":1,"event_type":null}"#;
        insta::assert_snapshot!(event(body).unwrap_err(), @"x: is not a field of a test call; event_type: is there twice; event_type: must be a string; data: must be a JSON object");
        for no_object in ["[]", "null", "1"] {
            assert_eq!(
                event(no_object).unwrap_err().to_string(),
                "must be a JSON object"
            );
        }
        for malformed in ["{", "{} x", r#"{"data":{]}"#] {
            let why = event(malformed).unwrap_err();
            assert!(matches!(why, InvalidEvent::Malformed { .. }), "{why}");
        }
    }

    #[test]
    fn a_test_is_no_longer_than_an_event() {
        let sized = |bytes: usize| format!(r#"{{"data":{{"p":"{}"}}}}"#, "x".repeat(bytes));
        let envelope = text(&sized(0)).len();
        assert!(event(&sized(MAX_EVENT_BYTES - envelope)).is_ok());
        assert!(event(&sized(MAX_EVENT_BYTES - envelope + 1)).is_err());
    }
}
