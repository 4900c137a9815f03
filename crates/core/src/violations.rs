//! What is wrong with somebody's input, every bad field named at once.

use std::fmt;

use serde::Serialize;

/// One field that does not follow its rule.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Violation {
    /// The path of the field, such as `events[1]`; empty for the whole input.
    pub field: String,
    /// What is wrong and what would be right, in words for the person who sent it.
    pub message: String,
}

/// A list of violations, gathered while an input is read.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Violations(Vec<Violation>);

impl Violations {
    /// Violations that hold a single field.
    pub fn one(field: impl Into<String>, message: impl fmt::Display) -> Self {
        let mut violations = Self::default();
        violations.add(field, message);
        violations
    }

    /// Notes that `field` is wrong.
    pub fn add(&mut self, field: impl Into<String>, message: impl fmt::Display) {
        self.0.push(Violation {
            field: field.into(),
            message: message.to_string(),
        });
    }

    /// Takes a field's value, or notes why there is none.
    pub fn check<T, E: fmt::Display>(&mut self, field: &str, parsed: Result<T, E>) -> Option<T> {
        parsed.map_err(|why| self.add(field, why)).ok()
    }

    /// Adds all of `inner`, each below `prefix`: `[3]` and `data` become `[3].data`.
    pub fn nest(&mut self, prefix: &str, inner: Violations) {
        for Violation { field, message } in inner.0 {
            let path = match field.as_str() {
                "" => prefix.to_owned(),
                field if field.starts_with('[') => format!("{prefix}{field}"),
                field => format!("{prefix}.{field}"),
            };
            self.add(path, message);
        }
    }

    /// True while nothing was noted.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The value when nothing was noted, else the violations.
    ///
    /// # Errors
    /// All that was noted; also when `value` is missing although nothing was noted for it.
    pub fn into_result<T>(self, value: Option<T>) -> Result<T, Violations> {
        match value {
            Some(value) if self.is_empty() => Ok(value),
            _ => Err(self),
        }
    }

    /// The violations in the order in which they were found.
    pub fn iter(&self) -> impl Iterator<Item = &Violation> {
        self.0.iter()
    }
}

impl fmt::Display for Violations {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, Violation { field, message }) in self.0.iter().enumerate() {
            let separator = if index == 0 { "" } else { "; " };
            match field.as_str() {
                "" => write!(f, "{separator}{message}")?,
                field => write!(f, "{separator}{field}: {message}")?,
            }
        }
        Ok(())
    }
}

impl std::error::Error for Violations {}
