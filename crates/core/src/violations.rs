//! Validation errors of a user's input, which name every bad field at once.
//!
//! The list is bounded, because the input is not: field names come from it, and each is part of the path of every
//! nested field.

use std::fmt;

use serde::Serialize;

/// Violations in the list. The others are only counted.
pub const MAX_LISTED: usize = 100;

/// The longest field and message (bytes). Longer ones are cut.
const MAX_BYTES: usize = 256;

/// One field that does not follow its rule.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Violation {
    /// The path of the field, such as `events[1]`; empty for the whole input.
    pub field: String,
    /// The rule, for the sender of the input.
    pub message: String,
}

/// A list of violations, gathered while an input is read.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Violations {
    /// The first [`MAX_LISTED`].
    listed: Vec<Violation>,
    #[serde(skip)]
    count: usize,
}

impl Violations {
    /// Violations that hold a single field.
    pub fn one(field: impl Into<String>, message: impl fmt::Display) -> Self {
        let mut violations = Self::default();
        violations.add(field, message);
        violations
    }

    pub fn add(&mut self, field: impl Into<String>, message: impl fmt::Display) {
        self.count += 1;
        if self.listed.len() < MAX_LISTED {
            self.listed.push(Violation {
                field: cut(field.into()),
                message: cut(message.to_string()),
            });
        }
    }

    /// Takes a field's value, or notes why there is none.
    pub fn check<T, E: fmt::Display>(&mut self, field: &str, parsed: Result<T, E>) -> Option<T> {
        parsed.map_err(|why| self.add(field, why)).ok()
    }

    /// Adds all of `inner`, each below `prefix`: `[3]` and `data` become `[3].data`.
    pub fn nest(&mut self, prefix: &str, mut inner: Violations) {
        for Violation { field, .. } in &mut inner.listed {
            *field = cut(match field.as_str() {
                "" => prefix.to_owned(),
                field if field.starts_with('[') => format!("{prefix}{field}"),
                field => format!("{prefix}.{field}"),
            });
        }
        self.append(inner);
    }

    pub fn append(&mut self, inner: Violations) {
        let room = MAX_LISTED.saturating_sub(self.listed.len());
        self.listed.extend(inner.listed.into_iter().take(room));
        self.count += inner.count;
    }

    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Includes violations beyond the list.
    pub fn count(&self) -> usize {
        self.count
    }

    /// # Errors
    /// The violations, if there are any or `value` is missing.
    pub fn into_result<T>(self, value: Option<T>) -> Result<T, Violations> {
        match value {
            Some(value) if self.is_empty() => Ok(value),
            _ => Err(self),
        }
    }

    /// The violations that are listed, in the order in which they were found.
    pub fn iter(&self) -> impl Iterator<Item = &Violation> {
        self.listed.iter()
    }
}

fn cut(mut text: String) -> String {
    if text.len() > MAX_BYTES {
        text.truncate(text.floor_char_boundary(MAX_BYTES));
        text.push('…');
    }
    text
}

impl fmt::Display for Violations {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, Violation { field, message }) in self.listed.iter().enumerate() {
            let separator = if index == 0 { "" } else { "; " };
            match field.as_str() {
                "" => write!(f, "{separator}{message}")?,
                field => write!(f, "{separator}{field}: {message}")?,
            }
        }
        match self.count - self.listed.len() {
            0 => Ok(()),
            more => write!(f, "; and {more} more"),
        }
    }
}

impl std::error::Error for Violations {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_is_bounded_and_counts_all() {
        let mut inner = Violations::default();
        for index in 0..1_000 {
            inner.add(format!("[{index}]"), "is bad");
        }
        let mut outer = Violations::one("first", "is bad");
        outer.nest("a", inner);
        assert_eq!((outer.iter().count(), outer.count()), (MAX_LISTED, 1_001));
        outer.append(outer.clone());
        assert_eq!((outer.iter().count(), outer.count()), (MAX_LISTED, 2_002));
        assert!(outer.to_string().ends_with("a[98]: is bad; and 1902 more"));
    }

    #[test]
    fn a_field_and_a_message_are_cut_at_a_character() {
        let mut violations = Violations::one("ä".repeat(200), "ö".repeat(200));
        for _ in 0..100 {
            let mut outer = Violations::default();
            outer.nest(&"ü".repeat(1_000), violations);
            violations = outer;
        }
        let one = violations.iter().next().unwrap();
        assert_eq!(one.field, format!("{}…", "ü".repeat(128)));
        assert_eq!(one.message, format!("{}…", "ö".repeat(128)));
    }
}
