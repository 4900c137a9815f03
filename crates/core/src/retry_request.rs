//! The body of a retry by hand.

use serde_json::Value;

use crate::fields::{Fields, boolean};
use crate::violations::Violations;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RetryRequest {
    /// Whether a delivery that the receiver has is sent again. It is if nothing is said.
    pub force: Option<bool>,
    /// Whether a pending delivery is brought forward.
    pub now: bool,
}

impl RetryRequest {
    /// Reads the body of `POST /deliveries/{id}/retry`.
    ///
    /// # Errors
    /// Every field that is unknown or wrong.
    pub fn from_json(body: Value) -> Result<Self, Violations> {
        let mut fields = Fields::of(body, "a retry")?;
        let force = fields.optional("force", boolean);
        let now = fields.optional("now", boolean);
        fields.finish(|| {
            Some(Self {
                force,
                now: now.unwrap_or(false),
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn both_flags_are_optional() {
        let read = |body| RetryRequest::from_json(body).unwrap();
        assert_eq!(read(json!({})), RetryRequest::default());
        let both = RetryRequest {
            force: Some(true),
            now: true,
        };
        assert_eq!(read(json!({"force": true, "now": true})), both);
    }

    #[test]
    fn every_bad_field_is_named_at_once() {
        let bad = json!({"force": 1, "now": null, "later": true});
        insta::assert_snapshot!(
            RetryRequest::from_json(bad).unwrap_err(),
            @"force: must be true or false; now: must be true or false; later: is not a field of a retry"
        );
    }
}
