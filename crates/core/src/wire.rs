//! Messages of the broker: the schemas of `proto-schemas/` and their conversion to our types.

use std::fmt;
use std::marker::PhantomData;

use bytes::Bytes;
use prost::Message;
use serde::de::{Deserialize, Deserializer, IgnoredAny, SeqAccess, Visitor};
use serde_json::value::RawValue;
use uuid::Uuid;

use crate::delivery::AttemptTask;
use crate::event::{Event, EventDraft, InvalidEvent, MAX_EVENT_BYTES, too_large};
use crate::event_type::EventType;
use crate::ids::{DeliveryId, EventId, OrganizationId, SubscriptionId, WorkflowId};
use crate::timestamp::Timestamp;
use crate::violations::Violations;

/// The messages of `hookline.v1` as prost generates them.
pub mod v1 {
    include!(concat!(env!("OUT_DIR"), "/hookline.v1.rs"));
}

/// The `content-type` of an event in JSON.
pub const JSON: &str = "application/json";

/// The `content-type` of an event in Protobuf.
pub const PROTOBUF: &str = "application/x-protobuf";

/// The `content-type` of a JSON array of events, which our API publishes. It is one message, so all events are
/// durable or none is.
pub const JSON_BATCH: &str = "application/vnd.hookline.events+json";

/// The `content-type` of events that wait together for their turn, each with its publisher's trace.
/// Only intake publishes it, to itself.
pub const JSON_BUNDLE: &str = "application/vnd.hookline.bundle+json";

/// The most events of one message or request.
pub const MAX_EVENTS: usize = 1_000;

/// The largest message that holds several events: the 8 MiB of an API request, and for each event the
/// id that the API gives where there is none.
pub const MAX_BATCH_BYTES: usize = 8 * 1024 * 1024 + MAX_EVENTS * 64;

/// The first elements of a JSON array. The rest is checked to be JSON and dropped, so that an array of
/// many small elements takes no memory for them.
#[derive(Debug)]
pub struct AtMost<const MAX: usize, T> {
    pub items: Vec<T>,
    pub more: bool,
}

impl<'de, const MAX: usize, T: Deserialize<'de>> Deserialize<'de> for AtMost<MAX, T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Elements<const MAX: usize, T>(PhantomData<fn() -> T>);

        impl<'de, const MAX: usize, T: Deserialize<'de>> Visitor<'de> for Elements<MAX, T> {
            type Value = AtMost<MAX, T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a JSON array")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut array: A) -> Result<Self::Value, A::Error> {
                let mut items = Vec::new();
                while items.len() < MAX {
                    match array.next_element()? {
                        Some(item) => items.push(item),
                        None => return Ok(AtMost { items, more: false }),
                    }
                }
                let mut more = false;
                while array.next_element::<IgnoredAny>()?.is_some() {
                    more = true;
                }
                Ok(AtMost { items, more })
            }
        }
        deserializer.deserialize_seq(Elements(PhantomData))
    }
}

impl Event {
    /// Reads the Protobuf form (`hookline.v1.WorkflowEvent`).
    ///
    /// # Errors
    /// [`InvalidEvent`] naming every bad field.
    pub fn from_protobuf(bytes: Bytes) -> Result<Self, InvalidEvent> {
        if bytes.len() > MAX_EVENT_BYTES {
            return Err(too_large().into());
        }
        let message =
            v1::WorkflowEvent::decode(bytes).map_err(|error| InvalidEvent::Malformed {
                format: "Protobuf",
                why: error.to_string(),
            })?;
        let mut violations = Violations::default();
        let timestamp = message
            .timestamp
            .ok_or("is missing".to_owned())
            .and_then(|time| {
                Timestamp::from_seconds(time.seconds, time.nanos).map_err(|why| why.to_string())
            });
        let data: Result<&RawValue, _> = serde_json::from_slice(&message.data_json);
        let draft = EventDraft {
            event_id: violations.check("event_id", EventId::parse(message.event_id)),
            event_type: violations.check("event_type", EventType::parse(&message.event_type)),
            workflow_id: violations.check("workflow_id", WorkflowId::parse(message.workflow_id)),
            organization_id: violations.check(
                "organization_id",
                OrganizationId::parse(message.organization_id),
            ),
            timestamp: violations.check("timestamp", timestamp),
            data: violations.check(
                "data_json",
                data.map_err(|why| format!("is not JSON: {why}")),
            ),
            violations,
        };
        Ok(draft.into_event()?)
    }
}

impl From<AttemptTask> for v1::DueDelivery {
    fn from(task: AttemptTask) -> Self {
        Self {
            delivery_id: Bytes::copy_from_slice(task.delivery.0.as_bytes()),
            generation: task.generation,
            attempt: task.attempt,
            subscription_id: task.subscription.0,
        }
    }
}

impl TryFrom<v1::DueDelivery> for AttemptTask {
    type Error = InvalidWakeUp;

    fn try_from(message: v1::DueDelivery) -> Result<Self, InvalidWakeUp> {
        let id = Uuid::from_slice(&message.delivery_id).map_err(|_| InvalidWakeUp)?;
        if message.attempt == 0 {
            return Err(InvalidWakeUp);
        }
        Ok(Self {
            delivery: DeliveryId(id),
            generation: message.generation,
            attempt: message.attempt,
            subscription: SubscriptionId(message.subscription_id),
        })
    }
}

/// Deliveries of one partition that are due: `hookline.v1.WakeUp`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WakeUp(pub Vec<AttemptTask>);

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("is not a hookline.v1.WakeUp of at most {max} deliveries", max = WakeUp::MOST_READ)]
pub struct InvalidWakeUp;

impl WakeUp {
    /// The most deliveries in a message that Hookline writes.
    pub const MOST_WRITTEN: usize = 256;

    /// The most deliveries in a message that is read: a later version may write larger ones.
    pub const MOST_READ: usize = 4_096;

    /// Bytes of the largest message that is decoded. A delivery takes 43 bytes at most; decoding allocates
    /// memory for each element, also for an empty one.
    const MAX_BYTES: usize = 64 * Self::MOST_READ;

    pub fn to_wire(&self) -> Vec<u8> {
        let deliveries = self.0.iter().copied().map(Into::into).collect();
        v1::WakeUp { deliveries }.encode_to_vec()
    }

    /// Reads such a message.
    ///
    /// # Errors
    /// [`InvalidWakeUp`] when one of the deliveries is not valid, too.
    pub fn from_wire(bytes: &[u8]) -> Result<Self, InvalidWakeUp> {
        if bytes.len() > Self::MAX_BYTES {
            return Err(InvalidWakeUp);
        }
        let message = v1::WakeUp::decode(bytes).map_err(|_| InvalidWakeUp)?;
        if message.deliveries.len() > Self::MOST_READ {
            return Err(InvalidWakeUp);
        }
        let deliveries = message.deliveries.into_iter().map(AttemptTask::try_from);
        deliveries.collect::<Result<_, _>>().map(Self)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn message() -> v1::WorkflowEvent {
        v1::WorkflowEvent {
            event_id: "evt_abc123".into(),
            event_type: "workflow.completed".into(),
            workflow_id: "wf_xyz789".into(),
            organization_id: "org_123".into(),
            timestamp: Some(prost_types::Timestamp {
                seconds: 1_766_313_000,
                nanos: 0,
            }),
            data_json: Bytes::from_static(b"{ }"),
        }
    }

    #[test]
    fn both_formats_give_a_receiver_the_same_bytes() {
        let event = Event::from_protobuf(message().encode_to_vec().into()).unwrap();
        assert_eq!(
            event.body,
            r#"{"event_id":"evt_abc123","event_type":"workflow.completed","workflow_id":"wf_xyz789","organization_id":"org_123","timestamp":"2025-12-21T10:30:00Z","data":{ }}"#
        );
    }

    #[test]
    fn every_bad_field_is_named_at_once() {
        let bad = v1::WorkflowEvent {
            data_json: Bytes::from_static(b"[1"),
            ..Default::default()
        };
        insta::assert_snapshot!(
            Event::from_protobuf(bad.encode_to_vec().into()).unwrap_err(),
            @"event_id: must not be empty; event_type: must be one of workflow.started, workflow.completed, workflow.failed, workflow.step.started, workflow.step.completed, workflow.step.failed; workflow_id: must not be empty; organization_id: must not be empty; timestamp: is missing; data_json: is not JSON: EOF while parsing a list at line 1 column 2"
        );
        let list = v1::WorkflowEvent {
            data_json: Bytes::from_static(b"[]"),
            ..message()
        };
        insta::assert_snapshot!(
            Event::from_protobuf(list.encode_to_vec().into()).unwrap_err(),
            @"data: must be a JSON object"
        );
    }

    #[test]
    fn a_long_array_keeps_a_bounded_number_of_elements() {
        fn read(text: &str) -> serde_json::Result<AtMost<3, &RawValue>> {
            serde_json::from_str(text)
        }
        for (text, count, more) in [
            ("[]", 0, false),
            ("[1,[2],{}]", 3, false),
            ("[1,2,3,4]", 3, true),
            ("[[],[],[],[[[]]],5]", 3, true),
        ] {
            let read = read(text).unwrap();
            assert_eq!((read.items.len(), read.more), (count, more), "{text}");
        }
        for bad in ["{}", "[1,2,3,4", "[1,2,3,]", "[1,2,3,nope]", ""] {
            assert!(read(bad).is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_an_event_or_an_error(bytes: Vec<u8>) {
            let _ = Event::from_protobuf(bytes.into());
        }

        #[test]
        fn a_wake_up_reads_back(id: u128, generation: u32, attempt in 1u32.., subscription: i64) {
            let delivery = DeliveryId(Uuid::from_u128(id));
            let subscription = SubscriptionId(subscription);
            let wake_up = WakeUp(vec![AttemptTask { delivery, generation, attempt, subscription }]);
            prop_assert_eq!(WakeUp::from_wire(&wake_up.to_wire()), Ok(wake_up));
        }

        #[test]
        fn any_bytes_are_a_wake_up_or_an_error(bytes: Vec<u8>) {
            let _ = WakeUp::from_wire(&bytes);
        }
    }

    fn wake_up(count: usize) -> WakeUp {
        let task = |number: usize| AttemptTask {
            delivery: DeliveryId(Uuid::from_u128(number as u128)),
            generation: u32::MAX,
            attempt: u32::MAX,
            subscription: SubscriptionId(-1),
        };
        WakeUp((0..count).map(task).collect())
    }

    #[test]
    fn a_wake_up_reads_back_up_to_the_largest() {
        for count in [0, 1, WakeUp::MOST_WRITTEN, WakeUp::MOST_READ] {
            let written = wake_up(count).to_wire();
            assert!(written.len() <= WakeUp::MAX_BYTES);
            assert_eq!(WakeUp::from_wire(&written), Ok(wake_up(count)));
        }
    }

    #[test]
    fn a_wake_up_with_too_many_or_a_bad_delivery_is_refused() {
        let too_many = wake_up(WakeUp::MOST_READ + 1).to_wire();
        assert_eq!(WakeUp::from_wire(&too_many), Err(InvalidWakeUp));
        let empty_elements = [0x0a, 0x00].repeat(WakeUp::MAX_BYTES);
        assert_eq!(WakeUp::from_wire(&empty_elements), Err(InvalidWakeUp));
        let bad = v1::WakeUp {
            deliveries: vec![v1::DueDelivery::default()],
        };
        assert_eq!(WakeUp::from_wire(&bad.encode_to_vec()), Err(InvalidWakeUp));
    }
}
