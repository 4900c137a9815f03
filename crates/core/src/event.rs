//! An event as a publisher wrote it, and the request body that receivers get.
//!
//! The envelope is written once, in the contract's order and without white space; `data` passes
//! byte for byte. Receivers verify a signature over these bytes, so nothing here may reformat them.

use std::borrow::Cow;
use std::fmt;

use bytes::Bytes;
use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

use crate::event_type::EventType;
use crate::ids::{EventId, EventKey, OrganizationId, WorkflowId};
use crate::timestamp::Timestamp;
use crate::violations::Violations;

/// The largest event, in bytes of its JSON or Protobuf form.
pub const MAX_EVENT_BYTES: usize = 256 * 1024;

/// A valid event.
#[derive(Clone, PartialEq, Eq)]
pub struct Event {
    pub id: EventId,
    pub event_type: EventType,
    pub organization: OrganizationId,
    pub workflow: WorkflowId,
    /// The bytes that are signed and sent.
    pub body: Bytes,
}

/// The body belongs to a customer, so Debug omits it.
impl fmt::Debug for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Event")
            .field("organization", &self.organization)
            .field("id", &self.id)
            .field("event_type", &self.event_type)
            .finish_non_exhaustive()
    }
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidEvent {
    /// The bytes are not valid JSON or Protobuf.
    #[error("is not valid {format}: {why}")]
    Malformed {
        /// `JSON` or `Protobuf`.
        format: &'static str,
        why: String,
    },
    #[error("{0}")]
    Fields(#[from] Violations),
}

/// The rule for an event without an `event_id`.
#[derive(Debug, Clone)]
pub enum MissingId {
    /// Events from the broker need one: without it a repeat is not recognized.
    Refused,
    /// Over HTTP such an event gets this id.
    Given(EventId),
}

impl Event {
    /// Reads the JSON form.
    ///
    /// # Errors
    /// [`InvalidEvent`] naming every bad field: missing, of the wrong type, unknown, there twice.
    pub fn from_json(bytes: &[u8], missing_id: MissingId) -> Result<Self, InvalidEvent> {
        if bytes.len() > MAX_EVENT_BYTES {
            return Err(too_large().into());
        }
        let members: Members<'_> =
            serde_json::from_slice(bytes).map_err(|error| InvalidEvent::Malformed {
                format: "JSON",
                why: error.to_string(),
            })?;
        Ok(members.into_draft(missing_id).into_event()?)
    }

    /// The key of the event's row.
    pub fn key(&self) -> EventKey {
        EventKey::of(&self.organization, &self.id)
    }
}

pub(crate) fn too_large() -> Violations {
    Violations::one(
        "",
        format_args!("must have at most {MAX_EVENT_BYTES} bytes"),
    )
}

/// The fields of an event, from JSON or Protobuf, before the envelope is written.
pub(crate) struct EventDraft<'a> {
    pub(crate) event_id: Option<EventId>,
    pub(crate) event_type: Option<EventType>,
    pub(crate) workflow_id: Option<WorkflowId>,
    pub(crate) organization_id: Option<OrganizationId>,
    pub(crate) timestamp: Option<Timestamp>,
    pub(crate) data: Option<&'a RawValue>,
    pub(crate) violations: Violations,
}

impl EventDraft<'_> {
    /// The event, if all fields are valid.
    pub(crate) fn into_event(mut self) -> Result<Event, Violations> {
        if self.data.is_some_and(|data| !data.get().starts_with('{')) {
            self.violations.add("data", "must be a JSON object");
        }
        let event = (|| {
            let (id, event_type, organization) =
                (self.event_id?, self.event_type?, self.organization_id?);
            let (workflow, timestamp, data) = (self.workflow_id?, self.timestamp?, self.data?);
            let body = envelope(&id, event_type, &workflow, &organization, timestamp, data);
            Some(Event {
                id,
                event_type,
                organization,
                workflow,
                body,
            })
        })();
        self.violations.into_result(event)
    }
}

fn envelope(
    id: &EventId,
    event_type: EventType,
    workflow: &WorkflowId,
    organization: &OrganizationId,
    timestamp: Timestamp,
    data: &RawValue,
) -> Bytes {
    let quoted = |text: &str| serde_json::Value::from(text).to_string();
    format!(
        r#"{{"event_id":{},"event_type":"{event_type}","workflow_id":{},"organization_id":{},"timestamp":"{timestamp}","data":{}}}"#,
        quoted(id.as_str()),
        quoted(workflow.as_str()),
        quoted(organization.as_str()),
        data.get(),
    )
    .into()
}

/// The members of the top-level object in order, duplicates included. Serde's structs would stop at the first bad
/// member, and its maps would keep the last of two.
pub(crate) struct Members<'a>(pub(crate) Vec<(Cow<'a, str>, &'a RawValue)>);

impl<'de: 'a, 'a> Deserialize<'de> for Members<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct MembersVisitor;

        impl<'de> Visitor<'de> for MembersVisitor {
            type Value = Members<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a JSON object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut members = Vec::with_capacity(6);
                while let Some(Name(name)) = map.next_key()? {
                    members.push((name, map.next_value()?));
                }
                Ok(Members(members))
            }
        }
        deserializer.deserialize_map(MembersVisitor)
    }
}

/// A member's name, borrowed where it has no escapes.
#[derive(Deserialize)]
struct Name<'a>(#[serde(borrow)] Cow<'a, str>);

impl<'a> Members<'a> {
    fn into_draft(self, missing_id: MissingId) -> EventDraft<'a> {
        const FIELDS: [&str; 6] = [
            "event_id",
            "event_type",
            "workflow_id",
            "organization_id",
            "timestamp",
            "data",
        ];
        let mut violations = Violations::default();
        let mut values: [Option<&'a RawValue>; 6] = [None; 6];
        for (name, value) in self.0 {
            match FIELDS.iter().position(|field| *field == name) {
                None => violations.add(name, "is not a field of an event"),
                Some(index) if values[index].is_some() => violations.add(name, "is there twice"),
                Some(index) => values[index] = Some(value),
            }
        }
        let [
            event_id,
            event_type,
            workflow_id,
            organization_id,
            timestamp,
            data,
        ] = values;

        let event_id = match (event_id, missing_id) {
            (None, MissingId::Given(id)) => Some(id),
            (value, _) => parsed(&mut violations, "event_id", value, EventId::parse),
        };
        if data.is_none() {
            violations.add("data", "is missing");
        }
        EventDraft {
            event_id,
            event_type: parsed(&mut violations, "event_type", event_type, |text| {
                EventType::parse(&text)
            }),
            workflow_id: parsed(
                &mut violations,
                "workflow_id",
                workflow_id,
                WorkflowId::parse,
            ),
            organization_id: parsed(
                &mut violations,
                "organization_id",
                organization_id,
                OrganizationId::parse,
            ),
            timestamp: parsed(&mut violations, "timestamp", timestamp, |text| {
                Timestamp::parse(&text)
            }),
            data,
            violations,
        }
    }
}

/// A member that must be a string which `parse` takes.
pub(crate) fn parsed<T, E: fmt::Display>(
    violations: &mut Violations,
    field: &str,
    value: Option<&RawValue>,
    parse: impl FnOnce(String) -> Result<T, E>,
) -> Option<T> {
    let Some(value) = value else {
        violations.add(field, "is missing");
        return None;
    };
    let text = serde_json::from_str(value.get()).map_err(|_| "must be a string");
    let text = violations.check(field, text)?;
    violations.check(field, parse(text))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const CONTRACT: &str = r#"{"event_id":"evt_abc123","event_type":"workflow.completed","workflow_id":"wf_xyz789","organization_id":"org_123","timestamp":"2025-12-21T10:30:00Z","data":{}}"#;

    fn read(json: &str) -> Result<Event, InvalidEvent> {
        Event::from_json(json.as_bytes(), MissingId::Refused)
    }

    fn complaint(json: &str) -> String {
        read(json).unwrap_err().to_string()
    }

    #[test]
    fn the_contract_example_is_written_as_it_stands() {
        assert_eq!(read(CONTRACT).unwrap().body, CONTRACT);
    }

    #[test]
    fn data_passes_byte_for_byte_and_the_rest_is_put_in_order() {
        let data =
            r#"{ "b":1.00000000000000000001, "a" : "\u0041\ud83d\ude00/\/" , "b":[ 1e400 ]}"#;
        let json = format!(
            r#" {{ "data":{data}, "timestamp":"2025-12-21T12:30:00+02:00",
                "organization_id":"org_\u00e9", "workflow_id":"w\"1", "event_type":"workflow.failed","event\u005fid":"e" }} "#
        );
        let expected = format!(
            r#"{{"event_id":"e","event_type":"workflow.failed","workflow_id":"w\"1","organization_id":"org_é","timestamp":"2025-12-21T10:30:00Z","data":{data}}}"#
        );
        assert_eq!(read(&json).unwrap().body, expected);
    }

    #[test]
    fn every_bad_field_is_named_at_once() {
        insta::assert_snapshot!(
            complaint(r#"{"event_id":1,"event_type":"x","workflow_id":"a\nb","timestamp":"now","data":[],"extra":1,"data":{}}"#),
            @r"extra: is not a field of an event; data: is there twice; event_id: must be a string; event_type: must be one of workflow.started, workflow.completed, workflow.failed, workflow.step.started, workflow.step.completed, workflow.step.failed; workflow_id: must not have control characters; organization_id: is missing; timestamp: must be an RFC 3339 time such as 2025-12-21T10:30:00Z; data: must be a JSON object"
        );
    }

    #[test]
    fn only_an_event_over_http_may_leave_its_id_out() {
        let json = CONTRACT.replace(r#""event_id":"evt_abc123","#, "");
        assert_eq!(complaint(&json), "event_id: is missing");
        let given = EventId::parse("given").unwrap();
        let event = Event::from_json(json.as_bytes(), MissingId::Given(given.clone())).unwrap();
        assert_eq!(event.id, given);
    }

    #[test]
    fn an_event_of_256_kib_is_the_largest() {
        let sized = |bytes: usize| {
            let padding = "x".repeat(bytes - CONTRACT.len() - r#""a":"""#.len());
            CONTRACT.replace("{}", &format!(r#"{{"a":"{padding}"}}"#))
        };
        assert!(read(&sized(MAX_EVENT_BYTES)).is_ok());
        assert_eq!(
            complaint(&sized(MAX_EVENT_BYTES + 1)),
            "must have at most 262144 bytes"
        );
    }

    #[test]
    fn deep_nesting_is_carried_and_does_not_overflow() {
        let deep = format!(
            "{}{}",
            r#"{"a":"#.repeat(20_000),
            "1".to_owned() + &"}".repeat(20_000)
        );
        assert!(read(&CONTRACT.replace("{}", &deep)).is_ok());
    }

    proptest! {
        #[test]
        fn any_bytes_are_an_event_or_an_error(bytes: Vec<u8>) {
            let _ = Event::from_json(&bytes, MissingId::Refused);
        }

        #[test]
        fn a_written_body_reads_back_as_itself(id in "[^\\p{Cc}]{1,255}", org in "[^\\p{Cc}]{1,40}") {
            let json = serde_json::json!({
                "event_id": id, "event_type": "workflow.started", "workflow_id": "w",
                "organization_id": org, "timestamp": "2025-12-21T10:30:00Z", "data": {"k": id},
            });
            let event = read(&json.to_string()).unwrap();
            let again = Event::from_json(&event.body, MissingId::Refused).unwrap();
            prop_assert_eq!(again, event);
        }
    }
}
