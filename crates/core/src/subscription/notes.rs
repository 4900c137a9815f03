//! What customers note about a subscription for themselves: a description, and pairs of texts. Hookline never reads them.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::Value;

use crate::fields::{invalid, text};
use crate::violations::Violations;

/// The longest description, in characters.
pub const MAX_DESCRIPTION: usize = 1_024;

/// The most pairs of one subscription.
pub const MAX_METADATA_PAIRS: usize = 16;

/// The longest key, in characters.
pub const MAX_METADATA_KEY: usize = 64;

/// The longest value, in characters.
pub const MAX_METADATA_VALUE: usize = 255;

/// Text of one or more lines; empty by default.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Description(Box<str>);

impl Description {
    pub(super) fn from_json(value: Value) -> Result<Self, Violations> {
        let text = text(value)?;
        // A tab or an end of a line is text; all others would act on a terminal.
        let acts = |letter: char| letter.is_control() && !matches!(letter, '\n' | '\t');
        if text.chars().count() > MAX_DESCRIPTION {
            Err(invalid(format_args!(
                "must have at most {MAX_DESCRIPTION} characters"
            )))
        } else if text.chars().any(acts) {
            Err(invalid(
                "must not have control characters but line feeds and tabs",
            ))
        } else {
            Ok(Self(text.into()))
        }
    }

    /// A description that was checked when it was stored.
    pub fn from_store(text: impl Into<Box<str>>) -> Self {
        Self(text.into())
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Pairs of texts, in the order of their keys; none by default.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
#[serde(transparent)]
pub struct Metadata(BTreeMap<String, String>);

impl Metadata {
    pub(super) fn from_json(value: Value) -> Result<Self, Violations> {
        let Value::Object(members) = value else {
            return Err(invalid("must be an object of strings"));
        };
        let mut violations = Violations::default();
        if members.len() > MAX_METADATA_PAIRS {
            violations.add(
                "",
                format_args!("must have at most {MAX_METADATA_PAIRS} pairs"),
            );
        }
        let mut pairs = BTreeMap::new();
        for (key, value) in members {
            match check_key(&key).and_then(|()| value_of(value)) {
                Ok(value) => drop(pairs.insert(key, value)),
                Err(inner) => violations.nest(&key, inner),
            }
        }
        violations.into_result(Some(Self(pairs)))
    }

    /// Pairs that were checked when they were stored.
    pub fn from_store(pairs: BTreeMap<String, String>) -> Self {
        Self(pairs)
    }

    /// In the order of the keys.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0
            .iter()
            .map(|(key, value)| (key.as_str(), value.as_str()))
    }
}

fn check_key(key: &str) -> Result<(), Violations> {
    if !(1..=MAX_METADATA_KEY).contains(&key.chars().count()) {
        Err(invalid(format_args!(
            "must have a key of 1 to {MAX_METADATA_KEY} characters"
        )))
    } else if key.chars().any(char::is_control) {
        Err(invalid("must not have control characters in its key"))
    } else {
        Ok(())
    }
}

fn value_of(value: Value) -> Result<String, Violations> {
    let value = text(value)?;
    if value.chars().count() > MAX_METADATA_VALUE {
        Err(invalid(format_args!(
            "must have at most {MAX_METADATA_VALUE} characters"
        )))
    } else if value.chars().any(char::is_control) {
        Err(invalid("must not have control characters"))
    } else {
        Ok(value)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn fields(refused: Violations) -> Vec<String> {
        refused.iter().map(|one| one.field.clone()).collect()
    }

    #[test]
    fn a_description_has_at_most_1024_characters_on_any_number_of_lines() {
        for good in ["", "one\n\ttwo", &"é".repeat(1_024)] {
            let read = Description::from_json(json!(good)).unwrap();
            assert_eq!(read.as_str(), good);
        }
        for bad in [
            json!("é".repeat(1_025)),
            json!("a\r"),
            json!("\u{0}"),
            json!("\u{9b}"),
            json!(null),
            json!(1),
        ] {
            assert!(Description::from_json(bad.clone()).is_err(), "{bad}");
        }
    }

    #[test]
    fn metadata_are_at_most_16_pairs_of_bounded_texts() {
        let pairs = |count: usize| {
            let pairs = (0..count).map(|index| (format!("k{index}"), json!("v")));
            Value::Object(pairs.collect())
        };
        assert_eq!(Metadata::from_json(pairs(16)).unwrap().iter().count(), 16);
        assert_eq!(fields(Metadata::from_json(pairs(17)).unwrap_err()), [""]);
        let longest = json!({"é".repeat(64): "é".repeat(255), "k": ""});
        assert!(Metadata::from_json(longest).is_ok());
        let bad = json!({
            "": "v", "k".repeat(65): "v", "a\n": "v", "b": 1, "c": "\n", "d": "v".repeat(256), "good": "v",
        });
        let refused = fields(Metadata::from_json(bad).unwrap_err());
        assert_eq!(refused.len(), 6, "{refused:?}");
        for no_object in [json!(null), json!([]), json!("a")] {
            assert_eq!(fields(Metadata::from_json(no_object).unwrap_err()), [""]);
        }
    }
}
