//! What the broker says about a message beside its body.
//!
//! A publisher can write any header, and the broker adds its own to them. So a header counts by the
//! side that alone can have written it. Of our own headers the exchange tells: the broker itself
//! writes down the one that a message was last published or dead-lettered to. Publishers have
//! `workflow.events`; what we put back, put off or publish for the API comes by the default exchange
//! or through the delays. A publisher with the rights that SECURITY.md recommends cannot reach these.

use lapin::BasicProperties;
use lapin::message::Delivery;
use lapin::types::AMQPValue;

use crate::topology::is_own_exchange;
use hookline_queue::Writer;

/// How often the message came back, for whatever reason: until RabbitMQ 4.2 all of it, from 4.3 on
/// after a lost connection or a `basic.reject` alone. The broker's delivery limit counts this one.
const DELIVERY_COUNT: &str = "x-delivery-count";

/// From RabbitMQ 4.3 on, how often the message was handed out before; a nack raises this one alone.
const ACQUIRED_COUNT: &str = "x-acquired-count";

/// Set by us on a message that was put back as a new one: what it counted before.
pub(crate) const COUNT_BEFORE: &str = "x-hookline-delivery-count";

/// A message without its body.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Envelope<'a> {
    exchange: &'a str,
    properties: &'a BasicProperties,
    redelivered: bool,
}

impl<'a> Envelope<'a> {
    pub(crate) fn of(delivery: &'a Delivery) -> Self {
        Self {
            exchange: delivery.exchange.as_str(),
            properties: &delivery.properties,
            redelivered: delivery.redelivered,
        }
    }

    /// The same from its parts.
    pub(crate) fn from_parts(exchange: &'a str, properties: &'a BasicProperties) -> Self {
        Self {
            exchange,
            properties,
            redelivered: false,
        }
    }

    /// The side that sent it to where it lies.
    pub(crate) fn sender(self) -> Writer {
        match is_own_exchange(self.exchange) {
            true => Writer::Hookline,
            false => Writer::Publisher,
        }
    }

    pub(crate) fn content_type(self) -> Option<String> {
        let content_type = self.properties.content_type().as_ref();
        content_type.map(ToString::to_string)
    }

    /// A header that either side may write.
    pub(crate) fn header(self, name: &str) -> Option<&'a AMQPValue> {
        self.properties.headers().as_ref()?.inner().get(name)
    }

    /// A header that we alone write.
    pub(crate) fn own_header(self, name: &str) -> Option<&'a AMQPValue> {
        match self.sender() {
            Writer::Hookline => self.header(name),
            Writer::Publisher => None,
        }
    }

    /// How often the message came back before, for whatever reason: its process died, lost its
    /// connection, or gave it back. All of these are meant, because a process that hands back what it
    /// cannot handle loops as much as one that dies of it. The two counts of the broker overlap: the
    /// larger one has all returns in every version. What it counted as an earlier message is added.
    ///
    /// A broker before 4.3 leaves a publisher's own `x-acquired-count` as it is: it then counts against
    /// that one message, once the message has come back.
    pub(crate) fn returns(self) -> u32 {
        let of_broker = match self.redelivered {
            // On a first delivery the broker writes neither, so a publisher did.
            false => 0,
            true => [DELIVERY_COUNT, ACQUIRED_COUNT]
                .into_iter()
                .map(|name| count(self.header(name)))
                .fold(1, u32::max),
        };
        of_broker.saturating_add(count(self.own_header(COUNT_BEFORE)))
    }
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

#[cfg(test)]
mod tests {
    use lapin::types::FieldTable;

    use super::*;

    fn properties(headers: &[(&str, AMQPValue)]) -> BasicProperties {
        let mut table = FieldTable::default();
        for (name, value) in headers {
            table.insert((*name).into(), value.clone());
        }
        BasicProperties::default().with_headers(table)
    }

    fn returns(redelivered: bool, headers: &[(&str, AMQPValue)]) -> u32 {
        let properties = properties(headers);
        let envelope = Envelope {
            redelivered,
            ..Envelope::from_parts("", &properties)
        };
        envelope.returns()
    }

    #[test]
    fn a_message_counts_its_returns_whichever_header_the_version_of_the_broker_raises() {
        let delivery = |count| (DELIVERY_COUNT, AMQPValue::LongLongInt(count));
        let acquired = |count| (ACQUIRED_COUNT, AMQPValue::LongLongInt(count));
        assert_eq!(returns(false, &[]), 0);
        assert_eq!(returns(true, &[]), 1, "a classic queue counts nothing");
        // Until 4.2: a nack and a lost connection alike.
        assert_eq!(returns(true, &[delivery(3)]), 3);
        // 4.3 after three nacks, after three lost connections, and after two of each.
        assert_eq!(returns(true, &[acquired(3)]), 3);
        assert_eq!(returns(true, &[delivery(0), acquired(3)]), 3);
        assert_eq!(returns(true, &[delivery(3), acquired(3)]), 3);
        assert_eq!(returns(true, &[delivery(2), acquired(4)]), 4);
        // Put back as a new message before, which had counted.
        let before = (COUNT_BEFORE, AMQPValue::LongLongInt(5));
        assert_eq!(returns(false, std::slice::from_ref(&before)), 5);
        assert_eq!(returns(true, &[before, acquired(2)]), 7);
    }

    #[test]
    fn a_count_is_read_from_every_kind_of_integer_and_never_overflows() {
        for value in [
            AMQPValue::ShortShortInt(7),
            AMQPValue::ShortShortUInt(7),
            AMQPValue::ShortInt(7),
            AMQPValue::ShortUInt(7),
            AMQPValue::LongInt(7),
            AMQPValue::LongUInt(7),
            AMQPValue::LongLongInt(7),
        ] {
            assert_eq!(returns(true, &[(ACQUIRED_COUNT, value)]), 7);
        }
        let many = |name| (name, AMQPValue::LongLongInt(i64::MAX));
        assert_eq!(
            returns(true, &[many(COUNT_BEFORE), many(DELIVERY_COUNT)]),
            u32::MAX
        );
        let negative = (DELIVERY_COUNT, AMQPValue::LongLongInt(-1));
        assert_eq!(returns(true, &[negative]), 1);
    }

    #[test]
    fn a_publisher_writes_no_count_of_returns() {
        let forged = properties(&[
            (DELIVERY_COUNT, AMQPValue::LongLongInt(99)),
            (ACQUIRED_COUNT, AMQPValue::LongLongInt(99)),
            (COUNT_BEFORE, AMQPValue::LongLongInt(99)),
        ]);
        let envelope = Envelope::from_parts("workflow.events", &forged);
        assert_eq!(envelope.returns(), 0);
    }

    #[test]
    fn the_exchange_tells_who_sent_a_message() {
        for (exchange, sender) in [
            ("", Writer::Hookline),
            ("hookline.due", Writer::Hookline),
            ("hookline.delay.0", Writer::Hookline),
            ("hookline.delay.16", Writer::Hookline),
            ("workflow.events", Writer::Publisher),
            ("hookline.unrouted", Writer::Publisher),
            ("hookline.dead", Writer::Publisher),
            ("hookline.delay.17", Writer::Publisher),
            ("hookline.delay.", Writer::Publisher),
            ("another", Writer::Publisher),
        ] {
            let properties = BasicProperties::default();
            let envelope = Envelope::from_parts(exchange, &properties);
            assert_eq!(envelope.sender(), sender, "{exchange:?}");
        }
    }
}
