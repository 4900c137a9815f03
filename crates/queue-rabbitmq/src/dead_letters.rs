//! Looking at the events that were rejected.
//!
//! AMQP knows no looking: a message is taken, and given back. What an inspection has taken is out
//! of everybody else's sight until it ends, however it ends: a killed command leaves its messages
//! to the broker, which puts them back. So nothing is lost by looking, and two who look at once
//! each see what the other does not have.

use std::collections::BTreeSet;
use std::fmt;

use bytes::Bytes;
use lapin::message::Delivery;
use lapin::options::{BasicAckOptions, BasicGetOptions, BasicNackOptions};
use lapin::types::{AMQPValue, FieldTable, ShortString};
use lapin::{BasicProperties, Channel};
use uuid::Uuid;

use crate::codec::{NOTED_AT, REASON, decode};
use crate::envelope::Envelope;
use crate::rabbit::{Rabbit, prompt};
use crate::topology::{EVENTS_REJECTED, passive};
use hookline_queue::{PublishedEvents, QueueError};

/// Names a message that has no id by its bytes, whoever looks.
const NAMELESS: Uuid = Uuid::from_u128(0x6f6b_6c69_6e65_4000_8000_686f_6f6b_0002);

/// A dead letter as the broker has it.
#[derive(Debug)]
pub struct DeadLetter {
    tag: u64,
    /// Ours where we buried it; else the headers are as the publisher wrote them.
    exchange: ShortString,
    properties: BasicProperties,
    body: Bytes,
}

/// Dead letters in somebody's hands. They go back when this ends or is dropped.
pub struct Inspection {
    channel: Channel,
    waiting: u32,
    /// The tags of what has neither been removed nor given back.
    held: BTreeSet<u64>,
}

impl Rabbit {
    /// Begins to look at dead letters.
    ///
    /// # Errors
    /// [`QueueError`] when the broker cannot be reached.
    pub async fn inspect(&self) -> Result<Inspection, QueueError> {
        let opened = prompt(async {
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
    /// How many waited when it began; those in others' hands do not count.
    pub fn waiting(&self) -> u64 {
        self.waiting.into()
    }

    /// The next one, oldest first; none when there are no more.
    ///
    /// # Errors
    /// [`QueueError`] when the broker does not answer.
    pub async fn next(&mut self) -> Result<Option<DeadLetter>, QueueError> {
        let got = prompt(
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

    /// Removes one for good. What this says is certain once the inspection has ended well.
    ///
    /// # Errors
    /// [`QueueError`] when the broker cannot be told.
    pub async fn remove(&mut self, letter: &DeadLetter) -> Result<(), QueueError> {
        let options = BasicAckOptions { multiple: false };
        prompt(self.channel.basic_ack(letter.tag, options)).await?;
        self.held.remove(&letter.tag);
        Ok(())
    }

    /// Gives the others back, one by one: of many at once RabbitMQ 3.10 keeps no order, and
    /// so it keeps some.
    ///
    /// # Errors
    /// [`QueueError`] when the broker does not say that it has heard everything; then it may not
    /// know of some that were removed, and they are back, too.
    pub async fn end(self) -> Result<(), QueueError> {
        let options = BasicNackOptions {
            multiple: false,
            requeue: true,
        };
        for tag in self.held {
            prompt(self.channel.basic_nack(tag, options)).await?;
        }
        prompt(self.channel.close(200, "looked".into())).await
    }
}

impl DeadLetter {
    /// Its `message-id`, or one made of its bytes: the same ones have the same.
    pub fn id(&self) -> String {
        match self.properties.message_id() {
            Some(id) => id.to_string(),
            None => Uuid::new_v5(&NAMELESS, &self.body).to_string(),
        }
    }

    /// Why it is here.
    pub fn reason(&self) -> String {
        let envelope = self.envelope();
        envelope
            .own_header(REASON)
            .map(shown)
            .or_else(|| {
                envelope
                    .header("x-first-death-reason")
                    .map(shown)
                    .map(|why| format!("the broker gave it up: {why}, after too many returns"))
            })
            .unwrap_or_else(|| "unknown: it came without a reason".to_owned())
    }

    /// Since when it is here, in seconds since 1970, as far as anybody noted it.
    pub fn since(&self) -> Option<u64> {
        let envelope = self.envelope();
        let noted = envelope.own_header(NOTED_AT).and_then(|value| match value {
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

    /// The format of its bytes.
    pub fn content_type(&self) -> Option<&str> {
        self.properties
            .content_type()
            .as_ref()
            .map(|text| text.as_str())
    }

    /// Its headers, as text.
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

    /// Its bytes.
    pub fn body(&self) -> &Bytes {
        &self.body
    }

    /// The events that it carries, to be published again.
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
