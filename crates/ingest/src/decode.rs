//! Decoding messages on `hookline.events`, by content type and author.
//!
//! A publisher sends one event in a format of the contract. Arrays and deferred batches are read only from Hookline
//! itself. The length of a message is checked before it is parsed. An array keeps no more elements than it may have.
//! The length of a message therefore bounds its memory.

use hookline_core::event::{Event, InvalidEvent, MAX_EVENT_BYTES, MissingId};
use hookline_core::trace::TraceParent;
use hookline_core::violations::Violations;
use hookline_core::wire::{self, AtMost, MAX_BATCH_BYTES, MAX_EVENTS};
use hookline_queue::{Author, PublishedEvents, ReceivedMessage};
use hookline_runtime::failpoint;
use hookline_store::IncomingEvent;
use serde::Deserialize;
use serde_json::value::RawValue;
use tracing::Span;

/// A received message with its events.
pub(crate) struct Decoded {
    pub(crate) message: ReceivedMessage<PublishedEvents>,
    pub(crate) events: Vec<IncomingEvent>,
    /// Lasts until the message is settled.
    pub(crate) _span: Span,
}

/// An event of a deferred batch.
#[derive(Debug, Deserialize)]
pub(crate) struct BatchEntry<'a> {
    /// The publisher's `traceparent`.
    trace: Option<String>,
    #[serde(borrow)]
    pub(crate) event: &'a RawValue,
}

impl BatchEntry<'_> {
    pub(crate) fn trace(&self) -> Option<TraceParent> {
        self.trace.as_deref().and_then(TraceParent::parse)
    }
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum DecodeError {
    /// A format that is unknown, or is not read from a publisher.
    #[error("content-type {0:?} is none of {JSON}, {PROTOBUF}", JSON = wire::JSON, PROTOBUF = wire::PROTOBUF)]
    ContentType(Option<String>),
    #[error("must have at most {limit} bytes, not {size}")]
    TooLarge { size: usize, limit: usize },
    #[error("must be at most {MAX_EVENTS} events")]
    TooMany,
    #[error("{0}")]
    Invalid(#[from] InvalidEvent),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Format {
    Json,
    Protobuf,
    /// Several events of one request.
    Array,
    /// Events that were deferred together.
    DeferredBatch,
}

impl Format {
    fn of(message: &PublishedEvents) -> Option<Self> {
        let content_type = message.content_type.as_deref()?.split(';').next()?;
        match content_type.trim().to_ascii_lowercase().as_str() {
            wire::JSON => Some(Self::Json),
            wire::PROTOBUF => Some(Self::Protobuf),
            _ if message.author == Author::Publisher => None,
            wire::JSON_BATCH => Some(Self::Array),
            wire::JSON_BUNDLE => Some(Self::DeferredBatch),
            _ => None,
        }
    }

    fn max_bytes(self) -> usize {
        match self {
            Self::Json | Self::Protobuf => MAX_EVENT_BYTES,
            Self::Array | Self::DeferredBatch => MAX_BATCH_BYTES,
        }
    }
}

/// One event, or all events of an array. Their attempts continue `trace`. Events that were deferred together have
/// separate traces.
pub(crate) fn events(
    message: &PublishedEvents,
    trace: Option<TraceParent>,
) -> Result<Vec<IncomingEvent>, DecodeError> {
    let format = Format::of(message)
        .ok_or_else(|| DecodeError::ContentType(message.content_type.clone()))?;
    let (size, limit) = (message.body.len(), format.max_bytes());
    if size > limit {
        return Err(DecodeError::TooLarge { size, limit });
    }
    let events = match format {
        Format::Json => vec![(Event::from_json(&message.body, MissingId::Refused)?, None)],
        Format::Protobuf => vec![(Event::from_protobuf(message.body.clone())?, None)],
        Format::Array => array(&message.body)?,
        Format::DeferredBatch => deferred_batch(&message.body)?,
    };
    for (event, _) in &events {
        failpoint::point_of("ingest::read", &event.id);
    }
    let incoming = |(event, own): (Event, Option<TraceParent>)| IncomingEvent {
        event,
        trace: own.or(trace),
    };
    Ok(events.into_iter().map(incoming).collect())
}

/// The entries of a deferred batch. Their events are not parsed. None for another message.
pub(crate) fn entries(message: &PublishedEvents) -> Option<Vec<BatchEntry<'_>>> {
    let is_batch = Format::of(message) == Some(Format::DeferredBatch);
    let fits = message.body.len() <= MAX_BATCH_BYTES;
    match is_batch && fits {
        true => elements(&message.body).ok(),
        false => None,
    }
}

/// Each event of a deferred batch has a separate trace.
type Events = Vec<(Event, Option<TraceParent>)>;

fn array(body: &[u8]) -> Result<Events, DecodeError> {
    let entries: Vec<&RawValue> = elements(body)?;
    Ok(each(entries.into_iter().map(|event| (event, None)))?)
}

fn deferred_batch(body: &[u8]) -> Result<Events, DecodeError> {
    let entries: Vec<BatchEntry<'_>> = elements(body)?;
    let events = entries.iter().map(|entry| (entry.event, entry.trace()));
    Ok(each(events)?)
}

fn elements<'a, T: Deserialize<'a>>(body: &'a [u8]) -> Result<Vec<T>, DecodeError> {
    let array: AtMost<MAX_EVENTS, T> = serde_json::from_slice(body).map_err(malformed)?;
    match array.more {
        true => Err(DecodeError::TooMany),
        false => Ok(array.items),
    }
}

fn malformed(error: serde_json::Error) -> InvalidEvent {
    InvalidEvent::Malformed {
        format: "JSON",
        why: error.to_string(),
    }
}

/// All events, or the violations of all.
fn each<'a>(
    entries: impl Iterator<Item = (&'a RawValue, Option<TraceParent>)>,
) -> Result<Events, InvalidEvent> {
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

    fn message(author: Author, content_type: Option<&str>, body: String) -> PublishedEvents {
        PublishedEvents {
            body: body.into(),
            content_type: content_type.map(str::to_owned),
            author,
            trace: None,
            due: None,
        }
    }

    fn read(author: Author, content_type: &str, body: String) -> Result<usize, String> {
        events(&message(author, Some(content_type), body), None)
            .map(|events| events.len())
            .map_err(|why| why.to_string())
    }

    #[test]
    fn the_content_type_says_how_a_message_is_read() {
        for author in [Author::Publisher, Author::Hookline] {
            let read = |content_type: &str| read(author, content_type, EVENT.to_owned());
            assert_eq!(read("application/json"), Ok(1));
            assert_eq!(read("Application/JSON; charset=utf-8"), Ok(1));
            insta::allow_duplicates! {
                insta::assert_snapshot!(
                    read("text/plain").unwrap_err(),
                    @r#"content-type Some("text/plain") is none of application/json, application/x-protobuf"#
                );
            }
            let nameless = message(author, None, EVENT.to_owned());
            assert!(events(&nameless, None).is_err());
        }
    }

    #[test]
    fn hookline_s_own_formats_are_not_read_from_a_publisher() {
        let entry = format!(r#"{{"event":{EVENT}}}"#);
        for (content_type, element) in [(wire::JSON_BATCH, EVENT), (wire::JSON_BUNDLE, &entry)] {
            let body = format!("[{element},{element}]");
            assert_eq!(read(Author::Hookline, content_type, body.clone()), Ok(2));
            let loud = content_type.to_ascii_uppercase();
            for spelled in [content_type, &loud, &format!("{content_type};x=1")] {
                let why = read(Author::Publisher, spelled, body.clone()).unwrap_err();
                assert!(why.contains("is none of application/json"), "{why}");
                let forged = message(Author::Publisher, Some(spelled), body.clone());
                assert!(entries(&forged).is_none(), "{spelled}");
            }
        }
    }

    #[test]
    fn an_array_with_one_invalid_event_is_rejected() {
        let body = format!(r#"[{EVENT},{{"event_id":""}}]"#);
        let why = read(Author::Hookline, wire::JSON_BATCH, body).unwrap_err();
        assert!(why.contains("[1].event_id: must not be empty"), "{why}");
        assert!(why.contains("[1].event_type: is missing"), "{why}");
    }

    #[test]
    fn a_message_that_is_too_long_is_not_parsed() {
        for (content_type, limit) in [
            (wire::JSON, MAX_EVENT_BYTES),
            (wire::PROTOBUF, MAX_EVENT_BYTES),
            (wire::JSON_BATCH, MAX_BATCH_BYTES),
            (wire::JSON_BUNDLE, MAX_BATCH_BYTES),
        ] {
            let of_size = |size| read(Author::Hookline, content_type, "?".repeat(size));
            let at_limit = of_size(limit).unwrap_err();
            assert!(at_limit.contains("is not valid"), "{at_limit}");
            let size = limit + 1;
            let expected = format!("must have at most {limit} bytes, not {size}");
            assert_eq!(of_size(size), Err(expected));
        }
    }

    #[test]
    fn an_array_with_too_many_small_elements_is_rejected_by_its_count() {
        let many = |element: &str| format!("[{}]", vec![element; MAX_EVENTS + 1].join(","));
        for (content_type, element) in [
            (wire::JSON_BATCH, "0"),
            (wire::JSON_BATCH, "[[[]]]"),
            (wire::JSON_BUNDLE, r#"{"event":0}"#),
        ] {
            let why = read(Author::Hookline, content_type, many(element)).unwrap_err();
            assert_eq!(why, "must be at most 1000 events");
        }
    }
}
