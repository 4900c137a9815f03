//! Inspecting the dead letters in `hookline.events.rejected`.
//!
//! AMQP cannot browse a queue: an inspection takes messages and requeues them when it ends. Until then no other consumer
//! sees them. The messages of a killed command return by themselves: an inspection loses none. Two inspections at once
//! each see the messages that the other does not hold.

use std::collections::BTreeSet;
use std::fmt;

use bytes::Bytes;
use hookline_queue::{PublishedEvents, QueueError};
use lapin::message::Delivery;
use lapin::options::{BasicAckOptions, BasicGetOptions, BasicNackOptions};
use lapin::types::{AMQPValue, FieldTable, ShortString};
use lapin::{BasicProperties, Channel};
use uuid::Uuid;

use crate::codec::{DEAD_LETTERED_AT, REASON, decode};
use crate::envelope::Envelope;
use crate::rabbit::{Rabbit, with_timeout};
use crate::topology::{EVENTS_REJECTED, passive};

/// The namespace of ids for messages without one.
const WITHOUT_ID: Uuid = Uuid::from_u128(0x6f6b_6c69_6e65_4000_8000_686f_6f6b_0002);

#[derive(Debug)]
pub struct DeadLetter {
    tag: u64,
    /// One of ours if Hookline dead-lettered it. Else the publisher wrote the headers.
    exchange: ShortString,
    properties: BasicProperties,
    body: Bytes,
}

/// Takes dead letters. They are requeued when it ends or is dropped.
pub struct Inspection {
    channel: Channel,
    waiting: u32,
    /// The tags of messages that were neither removed nor requeued.
    held: BTreeSet<u64>,
}

impl Rabbit {
    pub async fn inspect(&self) -> Result<Inspection, QueueError> {
        let opened = with_timeout(async {
            let session = self.consuming.session().await;
            let channel = session.channel().await?;
            let found = channel
                .queue_declare(EVENTS_REJECTED.into(), passive(), FieldTable::default())
                .await?;
            Ok((channel, found.message_count()))
        });
        let (channel, waiting) = opened.await?;
        Ok(Inspection {
            channel,
            waiting,
            held: BTreeSet::new(),
        })
    }
}

impl Inspection {
    /// How many messages the queue had when the inspection began, without those that other inspections hold.
    pub fn waiting(&self) -> u64 {
        self.waiting.into()
    }

    /// The next one, oldest first; none when there are no more.
    pub async fn next(&mut self) -> Result<Option<DeadLetter>, QueueError> {
        let got = with_timeout(
            self.channel
                .basic_get(EVENTS_REJECTED.into(), BasicGetOptions::default()),
        );
        let got = got.await?;
        self.held
            .extend(got.as_ref().map(|message| message.delivery.delivery_tag));
        Ok(got.map(|message| {
            let Delivery {
                delivery_tag,
                exchange,
                properties,
                data,
                ..
            } = message.delivery;
            DeadLetter {
                tag: delivery_tag,
                exchange,
                properties,
                body: data.into(),
            }
        }))
    }

    /// Deletes one. This is certain only once [`Inspection::end`] has succeeded.
    pub async fn remove(&mut self, letter: &DeadLetter) -> Result<(), QueueError> {
        let options = BasicAckOptions { multiple: false };
        with_timeout(self.channel.basic_ack(letter.tag, options)).await?;
        self.held.remove(&letter.tag);
        Ok(())
    }

    /// Requeues the others, one by one: RabbitMQ 3.10 loses the order of many at once.
    ///
    /// # Errors
    /// When the broker does not confirm the end. Some messages that were removed may be back then.
    pub async fn end(self) -> Result<(), QueueError> {
        let options = BasicNackOptions {
            multiple: false,
            requeue: true,
        };
        for tag in self.held {
            with_timeout(self.channel.basic_nack(tag, options)).await?;
        }
        with_timeout(self.channel.close(200, "inspected".into())).await
    }
}

impl DeadLetter {
    /// Its `message-id`, or a UUIDv5 of its bytes.
    pub fn id(&self) -> String {
        match self.properties.message_id() {
            Some(id) => id.to_string(),
            None => Uuid::new_v5(&WITHOUT_ID, &self.body).to_string(),
        }
    }

    pub fn reason(&self) -> String {
        let envelope = self.envelope();
        envelope
            .own_header(REASON)
            .map(shown)
            .or_else(|| {
                envelope
                    .header("x-first-death-reason")
                    .map(shown)
                    .map(|why| {
                        format!("dead-lettered by the broker: {why}, after too many returns")
                    })
            })
            .unwrap_or_else(|| "unknown: the message has no reason".to_owned())
    }

    /// When it was dead-lettered, in seconds since 1970, if that was recorded.
    pub fn since(&self) -> Option<u64> {
        let envelope = self.envelope();
        let noted = envelope
            .own_header(DEAD_LETTERED_AT)
            .and_then(|value| match value {
                AMQPValue::Timestamp(seconds) => Some(*seconds),
                _ => None,
            });
        noted.or_else(|| match envelope.header("x-death")? {
            AMQPValue::FieldArray(deaths) => match deaths.as_slice().first()? {
                AMQPValue::FieldTable(death) => match death.inner().get("time")? {
                    AMQPValue::Timestamp(seconds) => Some(*seconds),
                    _ => None,
                },
                _ => None,
            },
            _ => None,
        })
    }

    pub fn content_type(&self) -> Option<&str> {
        self.properties
            .content_type()
            .as_ref()
            .map(|text| text.as_str())
    }

    pub fn headers(&self) -> Vec<(String, String)> {
        let headers = self.properties.headers().as_ref();
        let pairs = headers.into_iter().flat_map(|headers| headers.inner());
        pairs
            .map(|(name, value)| (name.to_string(), shown(value)))
            .collect()
    }

    fn envelope(&self) -> Envelope<'_> {
        Envelope::from_parts(self.exchange.as_str(), &self.properties)
    }

    pub fn body(&self) -> &Bytes {
        &self.body
    }

    /// Its events, to be published again.
    pub fn events(&self) -> PublishedEvents {
        decode(self.body.clone(), self.envelope())
    }
}

fn shown(value: &AMQPValue) -> String {
    match value {
        AMQPValue::LongString(text) => String::from_utf8_lossy(text.as_bytes()).into_owned(),
        AMQPValue::ShortString(text) => text.to_string(),
        AMQPValue::Boolean(value) => value.to_string(),
        AMQPValue::LongLongInt(number) => number.to_string(),
        AMQPValue::LongInt(number) => number.to_string(),
        AMQPValue::LongUInt(number) => number.to_string(),
        AMQPValue::Timestamp(seconds) => seconds.to_string(),
        AMQPValue::FieldArray(values) => {
            let values: Vec<String> = values.as_slice().iter().map(shown).collect();
            format!("[{}]", values.join(", "))
        }
        AMQPValue::FieldTable(table) => {
            let pairs = table.inner().iter();
            let pairs: Vec<String> = pairs
                .map(|(name, value)| format!("{name}: {}", shown(value)))
                .collect();
            format!("{{{}}}", pairs.join(", "))
        }
        other => format!("{other:?}"),
    }
}

impl fmt::Debug for Inspection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inspection")
            .field("waiting", &self.waiting)
            .finish_non_exhaustive()
    }
}
