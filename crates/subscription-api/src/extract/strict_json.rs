//! JSON without repeated names. serde_json keeps the last of two members with one name, and other parsers keep the first,
//! so two readers of a body could see two different subscriptions. Here a repeated name is a violation.

use std::fmt;

use hookline_core::violations::Violations;
use serde::de::{Deserialize, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

/// Parses a body. The violations name repeated members by their paths. Nesting is limited to 128 by serde_json.
pub(crate) fn read(body: &[u8]) -> Result<(Value, Violations), serde_json::Error> {
    let Strict { value, repeated } = serde_json::from_slice(body)?;
    Ok((value, repeated))
}

struct Strict {
    value: Value,
    repeated: Violations,
}

impl From<Value> for Strict {
    fn from(value: Value) -> Self {
        Self {
            value,
            repeated: Violations::default(),
        }
    }
}

impl<'de> Deserialize<'de> for Strict {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(StrictVisitor)
    }
}

struct StrictVisitor;

impl<'de> Visitor<'de> for StrictVisitor {
    type Value = Strict;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E: Error>(self) -> Result<Strict, E> {
        Ok(Value::Null.into())
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Strict, E> {
        Ok(Value::from(value).into())
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Strict, E> {
        Ok(Value::from(value).into())
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Strict, E> {
        Ok(Value::from(value).into())
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Strict, E> {
        let number = Number::from_f64(value).ok_or_else(|| E::custom("number out of range"))?;
        Ok(Value::from(number).into())
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<Strict, E> {
        Ok(Value::from(value).into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Strict, A::Error> {
        let mut values = Vec::new();
        let mut repeated = Violations::default();
        while let Some(item) = items.next_element::<Strict>()? {
            repeated.nest(&format!("[{}]", values.len()), item.repeated);
            values.push(item.value);
        }
        Ok(Strict {
            value: Value::Array(values),
            repeated,
        })
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Strict, A::Error> {
        let mut values = Map::new();
        let mut repeated = Violations::default();
        while let Some((name, member)) = members.next_entry::<String, Strict>()? {
            repeated.nest(&name, member.repeated);
            if values.contains_key(&name) {
                repeated.add(name, "is there twice");
            } else {
                values.insert(name, member.value);
            }
        }
        Ok(Strict {
            value: Value::Object(values),
            repeated,
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_repeated_name_is_reported_by_its_path() {
        let body = br#"{"a":1,"h":{"x":1,"x":2,"X":3},"l":[{},{"k":1,"k":1}],"a":2}"#;
        let (_, repeated) = read(body).unwrap();
        insta::assert_snapshot!(repeated, @"h.x: is there twice; l[1].k: is there twice; a: is there twice");
    }

    #[test]
    fn deep_nesting_and_trailing_text_are_not_json() {
        assert!(read("[".repeat(100_000).as_bytes()).is_err());
        assert!(read(br#"{"a":"#.repeat(100_000).as_slice()).is_err());
        assert!(read(b"{} {}").is_err());
        assert!(read(b"{\"a\":\"\xff\"}").is_err());
        assert!(read(b"").is_err());
    }

    proptest! {
        #[test]
        fn the_result_is_that_of_serde_json(text in r#"[\[\]{}",:0-9a-e. -]{0,40}"#) {
            let ours = read(text.as_bytes());
            let theirs: Result<Value, _> = serde_json::from_str(&text);
            match (ours, theirs) {
                (Ok((value, repeated)), Ok(expected)) => {
                    prop_assert!(!repeated.is_empty() || value == expected);
                }
                (ours, theirs) => prop_assert_eq!(ours.is_ok(), theirs.is_ok()),
            }
        }
    }
}
