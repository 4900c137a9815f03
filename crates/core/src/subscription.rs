//! Subscriptions: the webhooks that customers register.

mod draft;
mod revision;
mod rotation;

use crate::event_type::EventTypes;
use crate::ids::{OrganizationId, SubscriptionId};
use crate::target::TargetUrl;
use crate::timestamp::Timestamp;

pub use draft::{NewSubscription, SubscriptionPatch};
pub use revision::{Addressed, InvalidRevision, Precondition, Revision};
pub use rotation::{MAX_OVERLAP, SecretRotation};

/// The longest name, in characters.
pub const MAX_NAME: usize = 255;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subscription {
    pub id: SubscriptionId,
    pub organization: OrganizationId,
    pub name: SubscriptionName,
    pub url: TargetUrl,
    pub events: EventTypes,
    /// Whether its requests are signed. Only the signer reads the secret itself.
    pub has_secret: bool,
    /// Names of custom headers, in the order given.
    pub header_names: Vec<String>,
    pub status: SubscriptionStatus,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
    /// The number of its last change. The numbers count the changes of all subscriptions.
    pub version: i64,
}

impl Subscription {
    pub fn revision(&self) -> Revision {
        Revision {
            version: self.version,
            changed_at: self.updated_at,
        }
    }
}

/// Whether a subscription gets events.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SubscriptionStatus {
    Active,
    /// Switched off by the system for this reason, or by its owner.
    Inactive(Option<DisabledReason>),
}

/// The reason of the system for switching a subscription off.
#[derive(Debug, Clone, Copy, PartialEq, Eq, strum::IntoStaticStr, strum::EnumString)]
#[strum(serialize_all = "snake_case")]
pub enum DisabledReason {
    /// Its receiver answered 410.
    Gone,
    /// All attempts failed for the configured time.
    Failing,
}

impl DisabledReason {
    /// The name in answers and in the store.
    pub fn as_str(self) -> &'static str {
        self.into()
    }

    pub fn parse(name: &str) -> Option<Self> {
        name.parse().ok()
    }
}

/// A subscription's name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SubscriptionName(Box<str>);

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidName {
    /// 0 or more than [`MAX_NAME`] characters.
    #[error("must have 1 to {MAX_NAME} characters")]
    Length,
    #[error("must not have control characters")]
    ControlCharacter,
}

impl SubscriptionName {
    pub fn parse(text: impl Into<Box<str>>) -> Result<Self, InvalidName> {
        let text = text.into();
        if !(1..=MAX_NAME).contains(&text.chars().count()) {
            Err(InvalidName::Length)
        } else if text.chars().any(char::is_control) {
            Err(InvalidName::ControlCharacter)
        } else {
            Ok(Self(text))
        }
    }

    /// A name that was checked when it was stored.
    pub fn from_store(text: impl Into<Box<str>>) -> Self {
        Self(text.into())
    }

    /// The name as it was given.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}
