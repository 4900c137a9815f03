use super::*;

const TRACE: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

/// A message on `hookline.events` that came by this exchange.
fn read(exchange: &str, properties: &BasicProperties) -> PublishedEvents {
    let envelope = Envelope::from_parts(exchange, properties);
    decode(Bytes::from_static(b"[]"), envelope)
}

fn traced(value: AMQPValue) -> Option<TraceParent> {
    let properties = with_header(BasicProperties::default(), TRACEPARENT, value);
    read("workflow.events", &properties).trace
}

fn events(author: Author) -> PublishedEvents {
    PublishedEvents {
        body: Bytes::from_static(b"[]"),
        content_type: Some("application/json".into()),
        author,
        trace: TraceParent::parse(TRACE),
        due: Some(Timestamp::from_unix_micros(1_766_313_000_000_001)),
    }
}

fn delivery_count(message: &Outgoing) -> u32 {
    Envelope::from_parts("", &message.properties).delivery_count()
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
    for author in [Author::Publisher, Author::Hookline] {
        let events = events(author);
        let (body, properties) = encode(&events);
        let back = read("hookline.due", &properties);
        assert_eq!((&back.body, back.author), (&body, author));
        assert_eq!(back.content_type, events.content_type);
        assert_eq!(back.trace, events.trace);
        assert_eq!(back.due, events.due);
    }
}

#[test]
fn headers_of_ours_are_not_read_from_a_publisher() {
    let (_, properties) = encode(&events(Author::Hookline));
    let own = AMQPValue::LongString("hookline".into());
    let properties = with_header(properties, AUTHOR, own);
    let seen = read("workflow.events", &properties);
    assert_eq!((seen.author, seen.due), (Author::Publisher, None));
    // A republished or dead-lettered message keeps its author.
    let again = [republished(&seen, 0), dead_letter(&seen, "why")];
    for message in again {
        assert_eq!(read("", &message.properties).author, Author::Publisher);
    }
}

#[test]
fn a_republished_message_keeps_its_delivery_count() {
    let events = events(Author::Publisher);
    assert_eq!(delivery_count(&republished(&events, 0)), 0);
    assert_eq!(delivery_count(&republished(&events, 3)), 3);
}

#[test]
fn a_long_reason_is_cut_between_characters() {
    let long = format!("x{}", "é".repeat(MAX_REASON_BYTES));
    let message = dead_letter(&events(Author::Publisher), &long);
    assert_eq!(message.routing_key, EVENTS_REJECTED);
    let envelope = Envelope::from_parts("", &message.properties);
    let Some(AMQPValue::LongString(cut)) = envelope.header(REASON) else {
        panic!("no reason")
    };
    assert_eq!(cut.len(), MAX_REASON_BYTES - 1);
}
