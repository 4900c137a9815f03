//! Typed ids. The ids of an event, a delivery and an attempt are derived from their parts, so that repeated work is
//! idempotent: it finds the same row instead of making a new one.

use std::fmt;
use std::sync::Arc;

use uuid::Uuid;

/// The longest id that a publisher may choose, in characters.
pub const MAX_TEXT_ID: usize = 255;

/// Hookline's own namespace for UUIDv5 (RFC 9562, section 5.5).
const NAMESPACE: Uuid = Uuid::from_u128(0x6f6b_6c69_6e65_4000_8000_686f_6f6b_0001);

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidId {
    #[error("must not be empty")]
    Empty,
    #[error("must have at most {MAX_TEXT_ID} characters")]
    TooLong,
    #[error("must not have control characters")]
    ControlCharacter,
}

fn check_text_id(text: &str) -> Result<(), InvalidId> {
    if text.is_empty() {
        Err(InvalidId::Empty)
    } else if text.len() > MAX_TEXT_ID && text.chars().count() > MAX_TEXT_ID {
        Err(InvalidId::TooLong)
    } else if text.chars().any(char::is_control) {
        Err(InvalidId::ControlCharacter)
    } else {
        Ok(())
    }
}

macro_rules! text_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize)]
        #[serde(transparent)]
        pub struct $name(Box<str>);

        impl $name {
            /// Takes a text as this id.
            ///
            /// # Errors
            /// [`InvalidId`] when it is empty, too long or has a control character.
            pub fn parse(text: impl Into<Box<str>>) -> Result<Self, InvalidId> {
                let text = text.into();
                check_text_id(&text)?;
                Ok(Self(text))
            }

            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

text_id! {
    /// A publisher's id of an event; unique in its organization.
    EventId
}
text_id! {
    /// The workflow run of an event.
    WorkflowId
}

/// A customer of the workflow platform. Cheap to clone: every delivery carries one.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize)]
#[serde(transparent)]
pub struct OrganizationId(#[serde(serialize_with = "serialize_arc")] Arc<str>);

fn serialize_arc<S: serde::Serializer>(text: &Arc<str>, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_str(text)
}

impl OrganizationId {
    /// Takes a text as this id.
    ///
    /// # Errors
    /// [`InvalidId`] when it is empty, too long or has a control character.
    pub fn parse(text: impl AsRef<str>) -> Result<Self, InvalidId> {
        check_text_id(text.as_ref())?;
        Ok(Self(text.as_ref().into()))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for OrganizationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

macro_rules! number_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize)]
        #[serde(transparent)]
        pub struct $name(pub i64);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

number_id! {
    /// A subscription; never used again after a deletion.
    SubscriptionId
}
number_id! {
    /// The number of an API key, which is not secret.
    KeyId
}

macro_rules! uuid_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize)]
        #[serde(transparent)]
        pub struct $name(pub Uuid);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

uuid_id! {
    /// One event of one organization: the primary key of its row.
    EventKey
}
uuid_id! {
    /// One event on its way to one subscription. Receivers see it as `webhook-id`.
    DeliveryId
}
uuid_id! {
    /// One request of a delivery.
    AttemptId
}
uuid_id! {
    OperationalEventId
}
uuid_id! {
    /// Random: each request starts another replay.
    ReplayId
}

uuid_id! {
    /// A message that may have ended a process; the same for every process and each redelivery.
    QuarantineKey
}

impl QuarantineKey {
    pub fn of_events(body: &[u8]) -> Self {
        Self(derived(b"trial", &[body]))
    }
}

impl From<DeliveryId> for QuarantineKey {
    fn from(delivery: DeliveryId) -> Self {
        Self(delivery.0)
    }
}

impl EventKey {
    pub fn of(organization: &OrganizationId, event: &EventId) -> Self {
        Self(derived(
            b"event",
            &[organization.as_str().as_bytes(), event.as_str().as_bytes()],
        ))
    }
}

impl EventId {
    /// The id of the event at `index` of a request that bears an `Idempotency-Key` and gives the
    /// event no id: a repeat of the request publishes the same event. A request with the same key and
    /// another body, after the key was forgotten, publishes other events.
    pub fn of_request(request: &[u8; 32], index: usize, event: &[u8]) -> Self {
        let id = derived(b"event", &[request, &(index as u64).to_be_bytes(), event]);
        Self(format!("evt_{}", id.simple()).into())
    }
}

impl DeliveryId {
    pub fn of(
        organization: &OrganizationId,
        event: &EventId,
        subscription: SubscriptionId,
    ) -> Self {
        Self(derived(
            b"delivery",
            &[
                organization.as_str().as_bytes(),
                event.as_str().as_bytes(),
                &subscription.0.to_be_bytes(),
            ],
        ))
    }
}

impl AttemptId {
    /// The `attempt`th request of a delivery in its `generation`.
    pub fn of(delivery: DeliveryId, generation: u32, attempt: u32) -> Self {
        Self(derived(
            b"attempt",
            &[
                delivery.0.as_bytes(),
                &generation.to_be_bytes(),
                &attempt.to_be_bytes(),
            ],
        ))
    }
}

impl OperationalEventId {
    /// The event that a subscription was switched off in this activation.
    pub fn of_disabling(
        organization: &OrganizationId,
        subscription: SubscriptionId,
        activation: i64,
    ) -> Self {
        Self(derived(
            b"disabling",
            &[
                organization.as_str().as_bytes(),
                &subscription.0.to_be_bytes(),
                &activation.to_be_bytes(),
            ],
        ))
    }
}

/// UUIDv5 over length-prefixed parts, so that ("a", "bc") and ("ab", "c") differ.
fn derived(kind: &[u8], parts: &[&[u8]]) -> Uuid {
    let mut name = Vec::with_capacity(128);
    for part in std::iter::once(&kind).chain(parts) {
        name.extend_from_slice(&(part.len() as u64).to_be_bytes());
        name.extend_from_slice(part);
    }
    Uuid::new_v5(&NAMESPACE, &name)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_repeated_request_gives_its_events_the_same_ids() {
        let id = |request, index, event: &str| {
            EventId::of_request(&[request; 32], index, event.as_bytes())
        };
        assert_eq!(id(1, 0, "{}"), id(1, 0, "{}"));
        assert_eq!(id(1, 0, "{}").as_str().len(), 36);
        for other in [id(2, 0, "{}"), id(1, 1, "{}"), id(1, 0, "[]")] {
            assert_ne!(other, id(1, 0, "{}"));
        }
    }

    #[test]
    fn an_id_has_1_to_255_characters_however_many_bytes_they_take() {
        assert_eq!(EventId::parse(""), Err(InvalidId::Empty));
        assert!(EventId::parse("é".repeat(255)).is_ok());
        assert_eq!(EventId::parse("é".repeat(256)), Err(InvalidId::TooLong));
    }

    #[test]
    fn an_id_has_no_control_characters() {
        for bad in ["a\0", "a\n", "\u{7f}", "\u{85}"] {
            assert_eq!(
                WorkflowId::parse(bad),
                Err(InvalidId::ControlCharacter),
                "{bad:?}"
            );
        }
    }

    proptest! {
        #[test]
        fn moving_a_character_from_one_part_to_the_next_is_another_delivery(
            organization in "[a-z]{2,8}", event in "[a-z]{1,8}", subscription: i64,
        ) {
            let (head, tail) = organization.split_at(organization.len() - 1);
            let of = |organization: &str, event: &str| {
                DeliveryId::of(
                    &OrganizationId::parse(organization).unwrap(),
                    &EventId::parse(event).unwrap(),
                    SubscriptionId(subscription),
                )
            };
            prop_assert_ne!(of(&organization, &event), of(head, &format!("{tail}{event}")));
            prop_assert_eq!(of(&organization, &event), of(&organization, &event));
        }
    }
}
