//! What a customer registers.

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

/// A subscription as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subscription {
    /// Its id.
    pub id: SubscriptionId,
    /// Whose it is.
    pub organization: OrganizationId,
    /// What its owner calls it.
    pub name: SubscriptionName,
    /// Where its events go.
    pub url: TargetUrl,
    /// Which events it wants.
    pub events: EventTypes,
    /// Whether its requests are signed. With what, only whoever signs them learns.
    pub has_secret: bool,
    /// The names of what its requests bear besides, in the order given.
    pub header_names: Vec<String>,
    /// Whether it gets anything.
    pub status: Status,
    /// Since when there is one.
    pub created_at: Timestamp,
    /// When it was changed last.
    pub updated_at: Timestamp,
    /// The number of its last change.
    pub version: i64,
}

impl Subscription {
    /// The revision of its last change.
    pub fn revision(&self) -> Revision {
        Revision {
            version: self.version,
            changed_at: self.updated_at,
        }
    }
}

/// Whether a subscription gets events.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// It does.
    Active,
    /// It does not; by the system for this reason, else by its owner.
    Inactive(Option<DisabledReason>),
}

/// Why the system switched a subscription off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DisabledReason {
    /// Its receiver answered 410.
    Gone,
    /// Its receiver took nothing for as long as the operator bears that.
    Failing,
}

impl DisabledReason {
    /// The name in answers and in the store.
    pub fn as_str(self) -> &'static str {
        match self {
            DisabledReason::Gone => "gone",
            DisabledReason::Failing => "failing",
        }
    }

    /// The reason of this name, if it is one.
    pub fn parse(name: &str) -> Option<Self> {
        [DisabledReason::Gone, DisabledReason::Failing]
            .into_iter()
            .find(|reason| reason.as_str() == name)
    }
}

/// A subscription's name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SubscriptionName(Box<str>);

/// Why a text is no name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidName {
    /// 0 or more than [`MAX_NAME`] characters.
    #[error("must have 1 to {MAX_NAME} characters")]
    Length,
    /// A control character.
    #[error("must not have control characters")]
    ControlCharacter,
}

impl SubscriptionName {
    /// Takes a name as it was given.
    ///
    /// # Errors
    /// [`InvalidName`] for a wrong length or a control character.
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
