//! Request bodies, field by field: an error names every bad field at once.

use std::fmt;
use std::ops::RangeInclusive;

use serde_json::{Map, Value};

use crate::event_type::{DistinctList, InvalidEventTypes};
use crate::secret::Secret;
use crate::violations::Violations;

/// Up to here, no two whole numbers are the same `f64`.
const MOST_EXACT: f64 = 9_007_199_254_740_992.0;

/// The fields of a JSON object, taken one by one; violations are collected.
pub(crate) struct Fields {
    of: &'static str,
    rest: Map<String, Value>,
    /// The reader of the fields adds its own.
    pub(crate) violations: Violations,
}

impl Fields {
    /// The fields of `of`, such as `a subscription`.
    pub(crate) fn of(body: Value, of: &'static str) -> Result<Self, Violations> {
        match body {
            Value::Object(rest) => Ok(Self {
                of,
                rest,
                violations: Violations::default(),
            }),
            _ => Err(Violations::one("", "must be a JSON object")),
        }
    }

    pub(crate) fn optional<T>(
        &mut self,
        field: &str,
        parse: impl FnOnce(Value) -> Result<T, Violations>,
    ) -> Option<T> {
        let value = self.rest.remove(field)?;
        parse(value)
            .map_err(|inner| self.violations.nest(field, inner))
            .ok()
    }

    pub(crate) fn required<T>(
        &mut self,
        field: &str,
        parse: impl FnOnce(Value) -> Result<T, Violations>,
    ) -> Option<T> {
        if !self.rest.contains_key(field) {
            self.violations.add(field, "is missing");
        }
        self.optional(field, parse)
    }

    pub(crate) fn finish<T>(mut self, value: impl FnOnce() -> Option<T>) -> Result<T, Violations> {
        for unknown in self.rest.keys() {
            self.violations
                .add(unknown, format!("is not a field of {}", self.of));
        }
        self.violations.into_result(value())
    }
}

/// A violation of the field itself, not of a nested one.
pub(crate) fn invalid(why: impl fmt::Display) -> Violations {
    Violations::one("", why)
}

pub(crate) fn text(value: Value) -> Result<String, Violations> {
    match value {
        Value::String(text) => Ok(text),
        _ => Err(invalid("must be a string")),
    }
}

pub(crate) fn boolean(value: Value) -> Result<bool, Violations> {
    match value {
        Value::Bool(flag) => Ok(flag),
        _ => Err(invalid("must be true or false")),
    }
}

pub(crate) fn whole_number(value: &Value, range: RangeInclusive<u64>) -> Result<u64, Violations> {
    let (least, most) = (range.start(), range.end());
    whole(value)
        .filter(|number| range.contains(number))
        .ok_or_else(|| invalid(format!("must be a whole number from {least} to {most}")))
}

/// `2.0` and `2e0` are whole numbers, too (JSON Schema 2020-12, core, 4.2.3).
fn whole(value: &Value) -> Option<u64> {
    let written = |number: f64| {
        let is_exact = number.fract() == 0.0 && (0.0..=MOST_EXACT).contains(&number);
        is_exact.then(|| format!("{number:.0}").parse().ok())?
    };
    value.as_u64().or_else(|| written(value.as_f64()?))
}

pub(crate) fn secret(value: Value) -> Result<Secret, Violations> {
    Secret::parse(text(value)?).map_err(invalid)
}

/// An array of texts, each read by `parse` and none there twice.
pub(crate) fn distinct_list<T: Copy + PartialEq, E: fmt::Display>(
    value: Value,
    parse: impl Fn(&str) -> Result<T, E>,
) -> Result<DistinctList<T>, Violations> {
    let Value::Array(names) = value else {
        return Err(invalid("must be an array of event types"));
    };
    let mut violations = Violations::default();
    let mut entries = Vec::new();
    for (index, value) in names.into_iter().enumerate() {
        match text(value).and_then(|name| parse(&name).map_err(invalid)) {
            Ok(entry) if entries.contains(&entry) => {
                violations.add(format!("[{index}]"), InvalidEventTypes::Duplicate(index));
            }
            Ok(entry) => entries.push(entry),
            Err(inner) => violations.nest(&format!("[{index}]"), inner),
        }
    }
    if !violations.is_empty() {
        return Err(violations);
    }
    DistinctList::new(entries).map_err(invalid)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_whole_number_has_no_fraction_however_it_is_written() {
        let read = |text: &str| whole_number(&serde_json::from_str(text).unwrap(), 1..=99).ok();
        for text in ["2", "2.0", "0.2e1", "2E0"] {
            assert_eq!(read(text), Some(2), "{text}");
        }
        for text in [
            "2.5", "0", "-2.0", "100.0", "1e300", "true", "\"2\"", "null",
        ] {
            assert_eq!(read(text), None, "{text}");
        }
        assert_eq!(
            whole_number(&json!(u64::MAX), 0..=u64::MAX).ok(),
            Some(u64::MAX)
        );
    }
}
