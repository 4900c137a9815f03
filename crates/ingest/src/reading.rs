//! What a message on `hookline.events` says, by its content type.

use hookline_broker::contract::PublishedEvents;
use hookline_core::event::{Event, InvalidEvent, MissingId};
use hookline_core::trace::TraceParent;
use hookline_core::violations::Violations;
use hookline_core::wire;
use hookline_runtime::fault;
use hookline_store::{IncomingEvent, Passage};
use serde_json::value::RawValue;

use crate::bundle::Entry;

/// Why a message holds no events.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Unreadable {
    /// A format that we do not read.
    #[error("content-type {0:?} is none of {JSON}, {PROTOBUF}", JSON = wire::JSON, PROTOBUF = wire::PROTOBUF)]
    ContentType(Option<String>),
    /// One that we do, with something wrong in it.
    #[error("{0}")]
    Invalid(#[from] InvalidEvent),
}

/// The events of a message: one, or all of a batch or none, as it was published. Their attempts go
/// on with `trace`, unless they waited together and have brought their own.
pub(crate) fn events(
    message: &PublishedEvents,
    trace: Option<TraceParent>,
    passage: Passage,
) -> Result<Vec<IncomingEvent>, Unreadable> {
    let media_type = message
        .content_type
        .as_deref()
        .and_then(|content_type| content_type.split(';').next())
        .map(|media_type| media_type.trim().to_ascii_lowercase());
    let events = match media_type.as_deref() {
        Some(wire::JSON) => vec![(Event::from_json(&message.body, MissingId::Refused)?, None)],
        Some(wire::PROTOBUF) => vec![(Event::from_protobuf(message.body.clone())?, None)],
        Some(wire::JSON_BATCH) => batch(&message.body)?,
        Some(wire::JSON_BUNDLE) => bundle(&message.body)?,
        _ => return Err(Unreadable::ContentType(message.content_type.clone())),
    };
    for (event, _) in &events {
        fault::point_of("ingest::read", &event.id);
    }
    let incoming = |(event, own): (Event, Option<TraceParent>)| IncomingEvent {
        event,
        trace: own.or(trace),
        passage,
    };
    Ok(events.into_iter().map(incoming).collect())
}

/// Those of a bundle have traces of their own.
type Read = Vec<(Event, Option<TraceParent>)>;

fn batch(body: &[u8]) -> Result<Read, InvalidEvent> {
    let entries: Vec<&RawValue> = serde_json::from_slice(body).map_err(malformed)?;
    each(entries.into_iter().map(|event| (event, None)))
}

fn bundle(body: &[u8]) -> Result<Read, InvalidEvent> {
    let entries: Vec<Entry<'_>> = serde_json::from_slice(body).map_err(malformed)?;
    each(entries.iter().map(|entry| (entry.event, entry.trace())))
}

fn malformed(error: serde_json::Error) -> InvalidEvent {
    InvalidEvent::Malformed {
        format: "JSON",
        why: error.to_string(),
    }
}

/// All of them, or what is wrong with any.
fn each<'a>(
    entries: impl Iterator<Item = (&'a RawValue, Option<TraceParent>)>,
) -> Result<Read, InvalidEvent> {
    let mut violations = Violations::default();
    let mut events = Vec::new();
    for (index, (entry, trace)) in entries.enumerate() {
        match Event::from_json(entry.get().as_bytes(), MissingId::Refused) {
            Ok(event) => events.push((event, trace)),
            Err(InvalidEvent::Fields(inner)) => violations.nest(&format!("[{index}]"), inner),
            Err(malformed) => violations.add(format!("[{index}]"), malformed),
        }
    }
    Ok(violations.into_result(Some(events))?)
}

#[cfg(test)]
mod tests {
    use super::*;

    const EVENT: &str = r#"{"event_id":"e","event_type":"workflow.failed","workflow_id":"w","organization_id":"o","timestamp":"2025-12-21T10:30:00Z","data":{}}"#;

    fn read(content_type: Option<&str>, body: &str) -> Result<usize, String> {
        let message = PublishedEvents {
            body: body.to_owned().into(),
            content_type: content_type.map(str::to_owned),
            trace: None,
            turn: None,
        };
        events(&message, None, Passage::First)
            .map(|events| events.len())
            .map_err(|why| why.to_string())
    }

    #[test]
    fn the_content_type_says_how_a_message_is_read() {
        assert_eq!(read(Some("application/json"), EVENT), Ok(1));
        assert_eq!(read(Some("Application/JSON; charset=utf-8"), EVENT), Ok(1));
        assert_eq!(
            read(Some(wire::JSON_BATCH), &format!("[{EVENT},{EVENT}]")),
            Ok(2)
        );
        insta::assert_snapshot!(
            read(Some("text/plain"), EVENT).unwrap_err(),
            @r#"content-type Some("text/plain") is none of application/json, application/x-protobuf"#
        );
        assert!(read(None, EVENT).is_err());
    }

    #[test]
    fn a_batch_with_one_bad_event_is_no_batch() {
        let body = format!(r#"[{EVENT},{{"event_id":""}}]"#);
        let why = read(Some(wire::JSON_BATCH), &body).unwrap_err();
        assert!(why.contains("[1].event_id: must not be empty"), "{why}");
        assert!(why.contains("[1].event_type: is missing"), "{why}");
    }
}
