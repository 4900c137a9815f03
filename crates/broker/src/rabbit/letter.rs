//! How our messages look on the broker.

use bytes::Bytes;
use hookline_core::delivery::OwedAttempt;
use hookline_core::operations::{WEBHOOK_DISABLED, WebhookDisabled};
use hookline_core::timestamp::Timestamp;
use hookline_core::trace::TraceParent;
use hookline_core::wire::{JSON, PROTOBUF};
use lapin::BasicProperties;
use lapin::types::{AMQPValue, FieldTable, ShortString};

use crate::contract::PublishedEvents;
use crate::rabbit::dead::certified;
use crate::rabbit::delay::{Address, Delay};
use crate::rabbit::outbox::{Audience, Post};
use crate::rabbit::topology::{
    self, DELIVERIES, DELIVERIES_DEAD, EVENTS, EVENTS_REJECTED, OPERATIONS,
};

const TRACEPARENT: &str = "traceparent";
pub(super) const REASON: &str = "x-hookline-reason";
/// Set by us on events whose turn was decided: microseconds since 1970.
const TURN: &str = "x-hookline-turn";
/// Set by quorum queues on what has been taken before.
const DELIVERY_COUNT: &str = "x-delivery-count";
/// Set by us on a message that was put back as a new one: what it counted before.
const COUNT_BEFORE: &str = "x-hookline-delivery-count";

/// All headers of a message must fit into one frame, whatever somebody's complaint is about.
const MAX_REASON_BYTES: usize = 4096;

const PERSISTENT: u8 = 2;

/// A message of ours.
pub(super) trait Letter: Send + Sync + Sized + 'static {
    /// Where it is taken from.
    const QUEUE: &'static str;
    /// Where it goes when it cannot be dealt with.
    const DEAD_QUEUE: &'static str;

    /// Reads it, or says why it is none.
    fn read(body: Bytes, properties: &BasicProperties) -> Result<Self, String>;

    /// Writes it for one of our queues.
    fn write(&self) -> (Bytes, BasicProperties);

    /// The same as a new message in its queue, which begins to count anew: so what it counted so
    /// far goes with it.
    fn anew(&self, delivery_count: u32) -> Post {
        let (body, mut properties) = self.write();
        if delivery_count > 0 {
            let count = AMQPValue::LongLongInt(delivery_count.into());
            properties = with_header(properties, COUNT_BEFORE, count);
        }
        to_queue(Self::QUEUE, body, properties)
    }

    /// The same for the dead letters.
    fn dead(&self, reason: &str) -> Post {
        let (body, properties) = self.write();
        to_queue(Self::DEAD_QUEUE, body, with_reason(properties, reason))
    }
}

impl Letter for PublishedEvents {
    const QUEUE: &'static str = EVENTS;
    const DEAD_QUEUE: &'static str = EVENTS_REJECTED;

    fn read(body: Bytes, properties: &BasicProperties) -> Result<Self, String> {
        let trace = header(properties, TRACEPARENT)
            .and_then(|value| match value {
                AMQPValue::LongString(text) => std::str::from_utf8(text.as_bytes()).ok(),
                AMQPValue::ShortString(text) => Some(text.as_str()),
                _ => None,
            })
            .and_then(TraceParent::parse);
        Ok(Self {
            body,
            content_type: properties.content_type().as_ref().map(ToString::to_string),
            trace,
            turn: header(properties, TURN).and_then(|value| match value {
                AMQPValue::LongLongInt(micros) => Some(Timestamp::from_unix_micros(*micros)),
                _ => None,
            }),
        })
    }

    fn write(&self) -> (Bytes, BasicProperties) {
        let mut properties = persistent();
        // What is longer than AMQP allows cannot have come from a broker, and names no format.
        let content_type = self.content_type.as_deref().map(ShortString::try_new);
        if let Some(Ok(content_type)) = content_type {
            properties = properties.with_content_type(content_type);
        }
        if let Some(trace) = self.trace {
            let trace = AMQPValue::LongString(trace.to_string().into());
            properties = with_header(properties, TRACEPARENT, trace);
        }
        if let Some(turn) = self.turn {
            let turn = AMQPValue::LongLongInt(turn.unix_micros());
            properties = with_header(properties, TURN, turn);
        }
        (self.body.clone(), properties)
    }
}

impl Letter for OwedAttempt {
    const QUEUE: &'static str = DELIVERIES;
    const DEAD_QUEUE: &'static str = DELIVERIES_DEAD;

    fn read(body: Bytes, _: &BasicProperties) -> Result<Self, String> {
        OwedAttempt::from_wire(&body).map_err(|why| format!("the message {why}"))
    }

    fn write(&self) -> (Bytes, BasicProperties) {
        let properties = persistent().with_content_type(PROTOBUF.into());
        (self.to_wire().into(), properties)
    }
}

/// Straight into a queue.
pub(super) fn to_queue(queue: &str, body: Bytes, properties: BasicProperties) -> Post {
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
pub(super) fn later(post: Post, delay: Delay, address: Address) -> Post {
    match delay.entry_level() {
        None => post,
        Some(level) => Post {
            exchange: topology::delay(level),
            routing_key: delay.routing_key(address),
            ..post
        },
    }
}

/// For operators. The id is the same when it is told again, so they can tell.
pub(super) fn announcement(event: &WebhookDisabled) -> Post {
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

/// What cannot be read, for the dead letters: as it came, but for its headers, and named as it was.
pub(super) fn unread<L: Letter>(body: Bytes, came_with: &BasicProperties, reason: &str) -> Post {
    let mut properties = persistent();
    if let Some(content_type) = came_with.content_type() {
        properties = properties.with_content_type(content_type.clone());
    }
    if let Some(id) = came_with.message_id() {
        properties = properties.with_message_id(id.clone());
    }
    to_queue(L::DEAD_QUEUE, body, with_reason(properties, reason))
}

/// How often somebody had the message before and did not settle it.
pub(super) fn delivery_count(properties: &BasicProperties) -> u32 {
    [DELIVERY_COUNT, COUNT_BEFORE]
        .into_iter()
        .map(|name| count(header(properties, name)))
        .fold(0, u32::saturating_add)
}

fn count(value: Option<&AMQPValue>) -> u32 {
    let count = match value {
        Some(AMQPValue::LongLongInt(count)) => *count,
        Some(AMQPValue::LongInt(count)) => i64::from(*count),
        Some(AMQPValue::LongUInt(count)) => i64::from(*count),
        Some(AMQPValue::ShortInt(count)) => i64::from(*count),
        Some(AMQPValue::ShortUInt(count)) => i64::from(*count),
        Some(AMQPValue::ShortShortInt(count)) => i64::from(*count),
        Some(AMQPValue::ShortShortUInt(count)) => i64::from(*count),
        _ => 0,
    };
    u32::try_from(count.max(0)).unwrap_or(u32::MAX)
}

fn persistent() -> BasicProperties {
    BasicProperties::default().with_delivery_mode(PERSISTENT)
}

pub(super) fn header<'a>(properties: &'a BasicProperties, name: &str) -> Option<&'a AMQPValue> {
    properties.headers().as_ref()?.inner().get(name)
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
mod tests {
    use super::*;

    const TRACE: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    fn traced(value: AMQPValue) -> Option<TraceParent> {
        let mut headers = FieldTable::default();
        headers.insert(TRACEPARENT.into(), value);
        let properties = BasicProperties::default().with_headers(headers);
        let events = PublishedEvents::read(Bytes::new(), &properties).unwrap();
        events.trace
    }

    #[test]
    fn a_trace_is_read_from_either_kind_of_string() {
        let expected = TraceParent::parse(TRACE);
        assert_eq!(traced(AMQPValue::LongString(TRACE.into())), expected);
        assert_eq!(traced(AMQPValue::ShortString(TRACE.into())), expected);
        assert_eq!(traced(AMQPValue::LongLongInt(7)), None);
        assert_eq!(traced(AMQPValue::LongString(vec![0xff].into())), None);
    }

    #[test]
    fn events_read_back_as_they_were_written() {
        let events = PublishedEvents {
            body: Bytes::from_static(b"[]"),
            content_type: Some("application/json".into()),
            trace: TraceParent::parse(TRACE),
            turn: Some(Timestamp::from_unix_micros(1_766_313_000_000_001)),
        };
        let (body, properties) = events.write();
        let back = PublishedEvents::read(body, &properties).unwrap();
        assert_eq!(back.body, events.body);
        assert_eq!(back.content_type, events.content_type);
        assert_eq!(back.trace, events.trace);
        assert_eq!(back.turn, events.turn);
    }

    #[test]
    fn what_a_message_counted_outlives_a_new_beginning() {
        let events = PublishedEvents {
            body: Bytes::new(),
            content_type: None,
            trace: TraceParent::parse(TRACE),
            turn: None,
        };
        assert_eq!(delivery_count(&events.anew(0).properties), 0);
        let mut put_back = events.anew(3).properties;
        assert_eq!(delivery_count(&put_back), 3);
        // Since then somebody has died of it twice.
        put_back = with_header(put_back, DELIVERY_COUNT, AMQPValue::LongLongInt(2));
        assert_eq!(delivery_count(&put_back), 5);
    }

    #[test]
    fn a_long_reason_is_cut_between_characters() {
        let events = PublishedEvents {
            body: Bytes::new(),
            content_type: None,
            trace: None,
            turn: None,
        };
        let long = format!("x{}", "é".repeat(MAX_REASON_BYTES));
        let post = events.dead(&long);
        assert_eq!(post.routing_key, EVENTS_REJECTED);
        let Some(AMQPValue::LongString(cut)) = header(&post.properties, REASON) else {
            panic!("no reason")
        };
        assert_eq!(cut.len(), MAX_REASON_BYTES - 1);
    }
}
