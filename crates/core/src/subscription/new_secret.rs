//! The secret of a new subscription: given by its customer, or generated on request.

use serde_json::{Value, json};

use crate::fields::{invalid, secret};
use crate::secret::Secret;
use crate::violations::Violations;

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NewSecret {
    Given(Secret),
    /// The response shows it, this once.
    Generated(Secret),
}

impl NewSecret {
    /// Reads a text, or `{"generate": true}`, which makes a secret from the random bytes.
    pub(super) fn from_json(value: Value, random: [u8; 32]) -> Result<Self, Violations> {
        match value {
            Value::String(_) => secret(value).map(Self::Given),
            asked if asked == json!({"generate": true}) => {
                Ok(Self::Generated(Secret::from_random(random)))
            }
            _ => Err(invalid("must be a string, or {\"generate\": true}")),
        }
    }

    pub fn secret(&self) -> &Secret {
        match self {
            Self::Given(secret) | Self::Generated(secret) => secret,
        }
    }

    /// The secret that the response shows: none that the customer gave.
    pub fn shown(&self) -> Option<&Secret> {
        match self {
            Self::Given(_) => None,
            Self::Generated(secret) => Some(secret),
        }
    }
}
