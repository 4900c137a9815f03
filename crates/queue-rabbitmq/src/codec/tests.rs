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

fn events(writer: Writer) -> PublishedEvents {
    PublishedEvents {
        body: Bytes::from_static(b"[]"),
        content_type: Some("application/json".into()),
        writer,
        trace: TraceParent::parse(TRACE),
        turn: Some(Timestamp::from_unix_micros(1_766_313_000_000_001)),
    }
}

fn returns(post: &Post) -> u32 {
    Envelope::from_parts("", &post.properties).returns()
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
    for writer in [Writer::Publisher, Writer::Hookline] {
        let events = events(writer);
        let (body, properties) = encode(&events);
        let back = read("hookline.due", &properties);
        assert_eq!((&back.body, back.writer), (&body, writer));
        assert_eq!(back.content_type, events.content_type);
        assert_eq!(back.trace, events.trace);
        assert_eq!(back.turn, events.turn);
    }
}

#[test]
fn a_publisher_writes_no_header_of_ours() {
    let (_, properties) = encode(&events(Writer::Hookline));
    let own = AMQPValue::LongString("hookline".into());
    let properties = with_header(properties, WRITER, own);
    let seen = read("workflow.events", &properties);
    assert_eq!((seen.writer, seen.turn), (Writer::Publisher, None));
    // What a publisher wrote stays so when it is put back, put off and buried.
    let again = [republished(&seen, 0), dead_letter(&seen, "why")];
    for post in again {
        assert_eq!(read("", &post.properties).writer, Writer::Publisher);
    }
}

#[test]
fn what_a_message_counted_outlives_a_new_beginning() {
    let events = events(Writer::Publisher);
    assert_eq!(returns(&republished(&events, 0)), 0);
    assert_eq!(returns(&republished(&events, 3)), 3);
}

#[test]
fn a_long_reason_is_cut_between_characters() {
    let long = format!("x{}", "é".repeat(MAX_REASON_BYTES));
    let post = dead_letter(&events(Writer::Publisher), &long);
    assert_eq!(post.routing_key, EVENTS_REJECTED);
    let envelope = Envelope::from_parts("", &post.properties);
    let Some(AMQPValue::LongString(cut)) = envelope.header(REASON) else {
        panic!("no reason")
    };
    assert_eq!(cut.len(), MAX_REASON_BYTES - 1);
}
