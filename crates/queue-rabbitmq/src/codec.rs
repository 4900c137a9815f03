//! How our messages look on the broker.
//!
//! All that is read of a message, and the side that may write it:
//!
//! | | written by |
//! |---|---|
//! | the body, `content-type`, `traceparent` | a publisher, or us: [`Writer`] |
//! | `x-hookline-turn`, `x-hookline-delivery-count`, `x-hookline-writer` | us: read where [`Envelope::sender`] is us |
//! | `x-delivery-count`, `x-acquired-count` | the broker, on what it redelivers |
//! | `x-hookline-reason`, `x-hookline-buried-at` | us: read of dead letters that we have buried (`dead`) |
//!
//! A message is written anew from [`PublishedEvents`] whenever it is put back, put off or buried, so no
//! other header of a publisher's gets any further.

use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use hookline_core::operations::{WEBHOOK_DISABLED, WebhookDisabled};
use hookline_core::timestamp::Timestamp;
use hookline_core::trace::TraceParent;
use hookline_core::wire::JSON;
use lapin::BasicProperties;
use lapin::types::{AMQPValue, FieldTable, ShortString};
use uuid::Uuid;

use crate::delay::{Address, Delay};
use crate::envelope::{COUNT_BEFORE, Envelope};
use crate::outgoing::{Audience, Post};
use crate::topology::{DELAYS, EVENTS, EVENTS_REJECTED, OPERATIONS};
use hookline_queue::{PublishedEvents, Writer};

const TRACEPARENT: &str = "traceparent";
pub(crate) const REASON: &str = "x-hookline-reason";
/// Set by us on events whose turn was decided: microseconds since 1970.
const TURN: &str = "x-hookline-turn";
/// Set by us on what a publisher wrote, where we send it on in the publisher's place.
const WRITER: &str = "x-hookline-writer";
const PUBLISHER: &str = "publisher";

/// All headers of a message must fit into one frame, whatever somebody's complaint is about.
const MAX_REASON_BYTES: usize = 4096;

const PERSISTENT: u8 = 2;

/// Reads any message: whether the bytes are events shows later.
pub(crate) fn decode(body: Bytes, envelope: Envelope<'_>) -> PublishedEvents {
    let trace = envelope
        .header(TRACEPARENT)
        .and_then(text_of)
        .and_then(TraceParent::parse);
    let writer = match envelope.own_header(WRITER).and_then(text_of) {
        Some(PUBLISHER) => Writer::Publisher,
        _ => envelope.sender(),
    };
    let turn = match envelope.own_header(TURN) {
        Some(AMQPValue::LongLongInt(micros)) => Some(Timestamp::from_unix_micros(*micros)),
        _ => None,
    };
    PublishedEvents {
        body,
        content_type: envelope.content_type(),
        writer,
        trace,
        turn,
    }
}

/// A message for `hookline.events`.
pub(crate) fn queued(events: &PublishedEvents) -> Post {
    let (body, properties) = encode(events);
    to_queue(EVENTS, body, properties)
}

/// The same as a new message, whose count of returns begins anew: so what it counted so far goes with it.
pub(crate) fn republished(events: &PublishedEvents, delivery_count: u32) -> Post {
    let mut post = queued(events);
    if delivery_count > 0 {
        let count = AMQPValue::LongLongInt(delivery_count.into());
        post.properties = with_header(post.properties, COUNT_BEFORE, count);
    }
    post
}

/// The same for the dead letters.
pub(crate) fn dead_letter(events: &PublishedEvents, reason: &str) -> Post {
    let (body, properties) = encode(events);
    to_queue(EVENTS_REJECTED, body, with_reason(properties, reason))
}

fn encode(events: &PublishedEvents) -> (Bytes, BasicProperties) {
    let mut properties = persistent();
    // What is longer than AMQP allows cannot have come from a broker, and names no format.
    let content_type = events.content_type.as_deref().map(ShortString::try_new);
    if let Some(Ok(content_type)) = content_type {
        properties = properties.with_content_type(content_type);
    }
    if events.writer == Writer::Publisher {
        let publisher = AMQPValue::LongString(PUBLISHER.into());
        properties = with_header(properties, WRITER, publisher);
    }
    if let Some(trace) = events.trace {
        let trace = AMQPValue::LongString(trace.to_string().into());
        properties = with_header(properties, TRACEPARENT, trace);
    }
    if let Some(turn) = events.turn {
        let turn = AMQPValue::LongLongInt(turn.unix_micros());
        properties = with_header(properties, TURN, turn);
    }
    (events.body.clone(), properties)
}

/// Straight into a queue.
fn to_queue(queue: &str, body: Bytes, properties: BasicProperties) -> Post {
    Post {
        exchange: String::new(),
        routing_key: queue.to_owned(),
        body,
        properties,
        audience: Audience::Ours,
    }
}

/// The same after a delay. It enters the cascade at the highest level where it has to rest; nothing
/// happens above.
pub(crate) fn later(post: Post, delay: Delay, address: Address) -> Post {
    match delay.entry_level() {
        None => post,
        Some(level) => Post {
            exchange: DELAYS.level(level),
            routing_key: delay.routing_key(address),
            ..post
        },
    }
}

/// For operators. The id is the same when it is told again, so they can tell.
pub(crate) fn announcement(event: &WebhookDisabled) -> Post {
    Post {
        exchange: OPERATIONS.to_owned(),
        routing_key: WEBHOOK_DISABLED.to_owned(),
        body: event.to_json().into(),
        properties: persistent()
            .with_content_type(JSON.into())
            .with_message_id(event.id.to_string().into())
            .with_type(WEBHOOK_DISABLED.into()),
        audience: Audience::Anybody,
    }
}

/// What a workflow service sends: an event in JSON.
pub(crate) fn workflow_event(body: Bytes) -> (Bytes, BasicProperties) {
    (body, persistent().with_content_type(JSON.into()))
}

fn persistent() -> BasicProperties {
    BasicProperties::default().with_delivery_mode(PERSISTENT)
}

/// The header that says since when a letter is dead. A publisher's own `timestamp` says something
/// else.
pub(crate) const NOTED_AT: &str = "x-hookline-buried-at";

/// What makes a message a dead letter of ours: an id to call it by, unless it has one, and the time.
fn certified(properties: BasicProperties) -> BasicProperties {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let mut headers = properties.headers().clone().unwrap_or_default();
    let seconds = now.unwrap_or_default().as_secs();
    headers.insert(NOTED_AT.into(), AMQPValue::Timestamp(seconds));
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
    certified(with_header(properties, REASON, reason))
}

fn with_header(properties: BasicProperties, name: &str, value: AMQPValue) -> BasicProperties {
    let mut headers: FieldTable = properties.headers().clone().unwrap_or_default();
    headers.insert(name.into(), value);
    properties.with_headers(headers)
}

#[cfg(test)]
mod tests;
