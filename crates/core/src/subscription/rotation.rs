//! Rotation of a secret: for a while both secrets sign, so a receiver that knows one of them verifies every request.

use std::time::Duration;

use serde_json::Value;

use crate::fields::{Fields, invalid, secret};
use crate::secret::Secret;
use crate::violations::Violations;

/// The longest time in which both secrets sign.
pub const MAX_OVERLAP: Duration = Duration::from_secs(7 * 24 * 60 * 60);

const DEFAULT_OVERLAP: Duration = Duration::from_secs(24 * 60 * 60);

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SecretRotation {
    /// None generates one.
    pub secret: Option<Secret>,
    /// How long the present secret also signs.
    pub overlap: Duration,
}

impl Default for SecretRotation {
    fn default() -> Self {
        Self {
            secret: None,
            overlap: DEFAULT_OVERLAP,
        }
    }
}

impl SecretRotation {
    /// Reads the body of `POST /webhooks/{id}/secret/rotate`.
    ///
    /// # Errors
    /// Every field that is unknown or wrong.
    pub fn from_json(body: Value) -> Result<Self, Violations> {
        let mut fields = Fields::of(body, "a rotation")?;
        let secret = fields.optional("secret", secret);
        let overlap = fields.optional("overlap_seconds", overlap);
        fields.finish(|| {
            Some(Self {
                secret,
                overlap: overlap.unwrap_or(DEFAULT_OVERLAP),
            })
        })
    }
}

fn overlap(value: Value) -> Result<Duration, Violations> {
    let longest = MAX_OVERLAP.as_secs();
    // 60.0 is a whole number, too (JSON Schema, 6.1.1), and some write it so.
    let seconds = value.as_f64().filter(|seconds| seconds.fract() == 0.0);
    seconds
        .and_then(|seconds| Duration::try_from_secs_f64(seconds).ok())
        .filter(|overlap| *overlap <= MAX_OVERLAP)
        .ok_or_else(|| invalid(format_args!("must be a whole number from 0 to {longest}")))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_rotation_needs_nothing_and_overlaps_for_a_day() {
        let rotation = SecretRotation::from_json(json!({})).unwrap();
        assert_eq!(rotation.secret, None);
        assert_eq!(rotation.overlap.as_secs(), 86_400);
    }

    #[test]
    fn an_overlap_has_up_to_seven_days() {
        let of = |seconds: Value| SecretRotation::from_json(json!({"overlap_seconds": seconds}));
        for good in [0, 1, 604_800] {
            assert_eq!(of(json!(good)).unwrap().overlap.as_secs(), good);
        }
        assert_eq!(of(json!(60.0)).unwrap().overlap.as_secs(), 60);
        for bad in [
            json!(604_801),
            json!(-1),
            json!(1.5),
            json!(1e300),
            json!("1"),
            json!(null),
        ] {
            let violations = of(bad).unwrap_err();
            assert_eq!(violations.iter().next().unwrap().field, "overlap_seconds");
        }
    }

    #[test]
    fn every_bad_field_of_a_rotation_is_named() {
        let body = json!({"secret": "whsec_?", "overlap": 1});
        let violations = SecretRotation::from_json(body).unwrap_err();
        let told: Vec<String> = violations
            .iter()
            .map(|violation| format!("{}: {}", violation.field, violation.message))
            .collect();
        assert_eq!(
            told,
            [
                "secret: must have base64 of at least one byte after whsec_",
                "overlap: is not a field of a rotation",
            ]
        );
    }
}
