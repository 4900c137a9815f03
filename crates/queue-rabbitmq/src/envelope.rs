//! A message without its body: exchange, properties and redelivery.
//!
//! A publisher can write any header, and the broker adds its own. A header counts only if the side that may write it wrote
//! it. For our own headers the exchange tells: the broker itself records the exchange that a message was last
//! published or dead-lettered to. Publishers have `workflow.events`. Messages that are requeued, deferred or published by
//! the API come by the default exchange or through the delays, which a publisher with the rights that SECURITY.md
//! recommends cannot reach.

use hookline_queue::Author;
use lapin::BasicProperties;
use lapin::message::Delivery;
use lapin::types::AMQPValue;

use crate::topology::is_own_exchange;

/// How often the message came back. Until RabbitMQ 4.2 it counts every return, from 4.3 on only a lost connection or a
/// `basic.reject`. The broker's delivery limit uses this count.
const DELIVERY_COUNT: &str = "x-delivery-count";

/// From RabbitMQ 4.3 on, how often the message was delivered before. A nack raises only this count.
const ACQUIRED_COUNT: &str = "x-acquired-count";

/// Set by us on a new message that replaces another: the delivery count of the other.
pub(crate) const COUNT_BEFORE: &str = "x-hookline-delivery-count";

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

    /// For a message that is not redelivered.
    pub(crate) fn from_parts(exchange: &'a str, properties: &'a BasicProperties) -> Self {
        Self {
            exchange,
            properties,
            redelivered: false,
        }
    }

    /// The side that published it to its exchange.
    pub(crate) fn sender(self) -> Author {
        match is_own_exchange(self.exchange) {
            true => Author::Hookline,
            false => Author::Publisher,
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

    /// A header that only we write.
    pub(crate) fn own_header(self, name: &str) -> Option<&'a AMQPValue> {
        match self.sender() {
            Author::Hookline => self.header(name),
            Author::Publisher => None,
        }
    }

    /// How often the message came back before: its process died, lost its connection, or requeued it. All three count,
    /// because a process that requeues a message without end loops as much as one that dies of it. The two counts of the
    /// broker overlap: the larger one has all returns in every version. The count of the message that it replaced is added.
    ///
    /// A broker before 4.3 does not overwrite a publisher's own `x-acquired-count`: it then counts against that one message,
    /// once the message has come back.
    pub(crate) fn delivery_count(self) -> u32 {
        let of_broker = match self.redelivered {
            // On a first delivery the broker writes neither count, so a publisher did.
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

    fn delivery_count(redelivered: bool, headers: &[(&str, AMQPValue)]) -> u32 {
        let properties = properties(headers);
        let envelope = Envelope {
            redelivered,
            ..Envelope::from_parts("", &properties)
        };
        envelope.delivery_count()
    }

    #[test]
    fn the_delivery_count_is_the_larger_count_of_the_broker_in_every_version() {
        let delivery = |count| (DELIVERY_COUNT, AMQPValue::LongLongInt(count));
        let acquired = |count| (ACQUIRED_COUNT, AMQPValue::LongLongInt(count));
        assert_eq!(delivery_count(false, &[]), 0);
        assert_eq!(
            delivery_count(true, &[]),
            1,
            "a classic queue counts nothing"
        );
        // Until 4.2: a nack and a lost connection alike.
        assert_eq!(delivery_count(true, &[delivery(3)]), 3);
        // 4.3 after three nacks, after three lost connections, and after two of each.
        assert_eq!(delivery_count(true, &[acquired(3)]), 3);
        assert_eq!(delivery_count(true, &[delivery(0), acquired(3)]), 3);
        assert_eq!(delivery_count(true, &[delivery(3), acquired(3)]), 3);
        assert_eq!(delivery_count(true, &[delivery(2), acquired(4)]), 4);
        // It replaced a message that had counted 5.
        let before = (COUNT_BEFORE, AMQPValue::LongLongInt(5));
        assert_eq!(delivery_count(false, std::slice::from_ref(&before)), 5);
        assert_eq!(delivery_count(true, &[before, acquired(2)]), 7);
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
            assert_eq!(delivery_count(true, &[(ACQUIRED_COUNT, value)]), 7);
        }
        let many = |name| (name, AMQPValue::LongLongInt(i64::MAX));
        assert_eq!(
            delivery_count(true, &[many(COUNT_BEFORE), many(DELIVERY_COUNT)]),
            u32::MAX
        );
        let negative = (DELIVERY_COUNT, AMQPValue::LongLongInt(-1));
        assert_eq!(delivery_count(true, &[negative]), 1);
    }

    #[test]
    fn a_publisher_cannot_write_a_delivery_count() {
        let forged = properties(&[
            (DELIVERY_COUNT, AMQPValue::LongLongInt(99)),
            (ACQUIRED_COUNT, AMQPValue::LongLongInt(99)),
            (COUNT_BEFORE, AMQPValue::LongLongInt(99)),
        ]);
        let envelope = Envelope::from_parts("workflow.events", &forged);
        assert_eq!(envelope.delivery_count(), 0);
    }

    #[test]
    fn the_exchange_tells_which_side_published_a_message() {
        for (exchange, sender) in [
            ("", Author::Hookline),
            ("hookline.due", Author::Hookline),
            ("hookline.delay.0", Author::Hookline),
            ("hookline.delay.16", Author::Hookline),
            ("workflow.events", Author::Publisher),
            ("hookline.unrouted", Author::Publisher),
            ("hookline.dead", Author::Publisher),
            ("hookline.delay.17", Author::Publisher),
            ("hookline.delay.", Author::Publisher),
            ("another", Author::Publisher),
        ] {
            let properties = BasicProperties::default();
            let envelope = Envelope::from_parts(exchange, &properties);
            assert_eq!(envelope.sender(), sender, "{exchange:?}");
        }
    }
}
