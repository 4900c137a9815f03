//! The format of Hookline's messages on the broker.
//!
//! Each part of a message that is read, and the side that may write it:
//!
//! | | written by |
//! |---|---|
//! | the body, `content-type`, `traceparent` | a publisher, or us: [`Author`] |
//! | `x-hookline-turn`, `x-hookline-delivery-count`, `x-hookline-writer` | us: read if [`Envelope::sender`] is Hookline |
//! | `x-delivery-count`, `x-acquired-count` | the broker, on what it redelivers |
//! | `x-hookline-reason`, `x-hookline-buried-at` | us: read from messages that Hookline dead-lettered (`dead_letters`) |
//!
//! A message is encoded again from [`PublishedEvents`] when it is republished, deferred or dead-lettered, so no other header
//! of a publisher is passed on.

use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use hookline_core::operational_events::{WEBHOOK_DISABLED, WebhookDisabled};
use hookline_core::timestamp::Timestamp;
use hookline_core::trace::TraceParent;
use hookline_core::wire::JSON;
use hookline_queue::{Author, PublishedEvents};
use lapin::BasicProperties;
use lapin::types::{AMQPValue, FieldTable, ShortString};
use uuid::Uuid;

use crate::delay::{Delay, DelayTarget};
use crate::envelope::{COUNT_BEFORE, Envelope};
use crate::outgoing::{Mandatory, Outgoing};
use crate::topology::{DELAYS, EVENTS, EVENTS_REJECTED, OPERATIONS};

const TRACEPARENT: &str = "traceparent";
pub(crate) const REASON: &str = "x-hookline-reason";
/// When the rate limit admits the message, in microseconds since 1970.
const DUE: &str = "x-hookline-turn";
/// Marks a publisher's message that Hookline published again.
const AUTHOR: &str = "x-hookline-writer";
const PUBLISHER: &str = "publisher";

/// All headers of a message must fit into one frame.
const MAX_REASON_BYTES: usize = 4096;

const PERSISTENT: u8 = 2;

/// Does not read the body.
pub(crate) fn decode(body: Bytes, envelope: Envelope<'_>) -> PublishedEvents {
    let trace = envelope
        .header(TRACEPARENT)
        .and_then(text_of)
        .and_then(TraceParent::parse);
    let author = match envelope.own_header(AUTHOR).and_then(text_of) {
        Some(PUBLISHER) => Author::Publisher,
        _ => envelope.sender(),
    };
    let due = match envelope.own_header(DUE) {
        Some(AMQPValue::LongLongInt(micros)) => Some(Timestamp::from_unix_micros(*micros)),
        _ => None,
    };
    PublishedEvents {
        body,
        content_type: envelope.content_type(),
        author,
        trace,
        due,
    }
}

/// A message for `hookline.events`.
pub(crate) fn queued(events: &PublishedEvents) -> Outgoing {
    let (body, properties) = encode(events);
    to_queue(EVENTS, body, properties)
}

/// [`queued`] for a message that replaces another, with the delivery count of the other: the broker counts anew.
pub(crate) fn republished(events: &PublishedEvents, delivery_count: u32) -> Outgoing {
    let mut message = queued(events);
    if delivery_count > 0 {
        let count = AMQPValue::LongLongInt(delivery_count.into());
        message.properties = with_header(message.properties, COUNT_BEFORE, count);
    }
    message
}

/// A message for `hookline.events.rejected`.
pub(crate) fn dead_letter(events: &PublishedEvents, reason: &str) -> Outgoing {
    let (body, properties) = encode(events);
    to_queue(EVENTS_REJECTED, body, with_reason(properties, reason))
}

fn encode(events: &PublishedEvents) -> (Bytes, BasicProperties) {
    let mut properties = persistent();
    // A content type that is longer than AMQP allows cannot have come from a broker, and names no format.
    let content_type = events.content_type.as_deref().map(ShortString::try_new);
    if let Some(Ok(content_type)) = content_type {
        properties = properties.with_content_type(content_type);
    }
    if events.author == Author::Publisher {
        let publisher = AMQPValue::LongString(PUBLISHER.into());
        properties = with_header(properties, AUTHOR, publisher);
    }
    if let Some(trace) = events.trace {
        let trace = AMQPValue::LongString(trace.to_string().into());
        properties = with_header(properties, TRACEPARENT, trace);
    }
    if let Some(due) = events.due {
        let due = AMQPValue::LongLongInt(due.unix_micros());
        properties = with_header(properties, DUE, due);
    }
    (events.body.clone(), properties)
}

fn to_queue(queue: &str, body: Bytes, properties: BasicProperties) -> Outgoing {
    Outgoing {
        exchange: String::new(),
        routing_key: queue.to_owned(),
        body,
        properties,
        mandatory: Mandatory::Yes,
    }
}

/// The same message after a delay. It enters the cascade at the level of its highest 1.
pub(crate) fn later(message: Outgoing, delay: Delay, target: DelayTarget) -> Outgoing {
    match delay.entry_level() {
        None => message,
        Some(level) => Outgoing {
            exchange: DELAYS.level(level),
            routing_key: delay.routing_key(target),
            ..message
        },
    }
}

/// An operational event. A repetition has the same id.
pub(crate) fn announcement(event: &WebhookDisabled) -> Outgoing {
    Outgoing {
        exchange: OPERATIONS.to_owned(),
        routing_key: WEBHOOK_DISABLED.to_owned(),
        body: event.to_json().into(),
        properties: persistent()
            .with_content_type(JSON.into())
            .with_message_id(event.id.to_string().into())
            .with_type(WEBHOOK_DISABLED.into()),
        mandatory: Mandatory::No,
    }
}

/// An event as a workflow service publishes it: in JSON.
pub(crate) fn workflow_event(body: Bytes) -> (Bytes, BasicProperties) {
    (body, persistent().with_content_type(JSON.into()))
}

fn persistent() -> BasicProperties {
    BasicProperties::default().with_delivery_mode(PERSISTENT)
}

/// When the message was dead-lettered. A publisher's own `timestamp` means something else.
pub(crate) const DEAD_LETTERED_AT: &str = "x-hookline-buried-at";

/// Adds the time, and a message id unless there is one.
fn stamped(properties: BasicProperties) -> BasicProperties {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let mut headers = properties.headers().clone().unwrap_or_default();
    let seconds = now.unwrap_or_default().as_secs();
    headers.insert(DEAD_LETTERED_AT.into(), AMQPValue::Timestamp(seconds));
    let properties = properties.with_headers(headers);
    match properties.message_id() {
        Some(_) => properties,
        None => properties.with_message_id(Uuid::new_v4().to_string().into()),
    }
}

fn text_of(value: &AMQPValue) -> Option<&str> {
    match value {
        AMQPValue::LongString(text) => std::str::from_utf8(text.as_bytes()).ok(),
        AMQPValue::ShortString(text) => Some(text.as_str()),
        _ => None,
    }
}

fn with_reason(properties: BasicProperties, reason: &str) -> BasicProperties {
    let end = reason.floor_char_boundary(MAX_REASON_BYTES);
    let reason = AMQPValue::LongString(reason[..end].into());
    stamped(with_header(properties, REASON, reason))
}

fn with_header(properties: BasicProperties, name: &str, value: AMQPValue) -> BasicProperties {
    let mut headers: FieldTable = properties.headers().clone().unwrap_or_default();
    headers.insert(name.into(), value);
    properties.with_headers(headers)
}

#[cfg(test)]
mod tests;
