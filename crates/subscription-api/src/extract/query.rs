//! Query parameters. Unknown, repeated and invalid parameters are errors, which are all reported at once.

use std::collections::BTreeMap;
use std::fmt::Display;

use hookline_core::violations::Violations;
use url::form_urlencoded;

/// Rows of a page.
const MAX_LIMIT: u32 = 100;

/// The largest `offset`: the store reads all rows before it.
const MAX_OFFSET: u64 = 10_000;

/// The parameters that the handler has not taken yet.
#[derive(Debug)]
pub(crate) struct Query {
    rest: BTreeMap<String, String>,
    /// The violations so far; the handler adds its own.
    pub(crate) violations: Violations,
}

impl Query {
    pub(crate) fn read(text: &str) -> Self {
        let mut rest = BTreeMap::new();
        let mut violations = Violations::default();
        for (name, value) in form_urlencoded::parse(text.as_bytes()) {
            if rest.contains_key(name.as_ref()) {
                violations.add(name, "is there twice");
            } else {
                rest.insert(name.into_owned(), value.into_owned());
            }
        }
        Self { rest, violations }
    }

    /// Takes a parameter, if it is present and valid.
    pub(crate) fn take<T, E: Display>(
        &mut self,
        name: &str,
        parse: impl FnOnce(&str) -> Result<T, E>,
    ) -> Option<T> {
        let value = self.rest.remove(name)?;
        self.violations.check(name, parse(&value))
    }

    /// Takes `limit` or another number of rows.
    pub(crate) fn limit(&mut self, name: &str) -> Option<u32> {
        self.take(name, |text| match digits(text) {
            Some(limit @ 1..=100) => Ok(limit as u32),
            _ => Err(format!("must be a whole number from 1 to {MAX_LIMIT}")),
        })
    }

    /// Takes `offset`. `beyond` is the end of the error text: how to read the rows after the largest offset.
    pub(crate) fn offset(&mut self, beyond: &str) -> Option<u64> {
        self.take("offset", |text| {
            digits(text)
                .filter(|offset| *offset <= MAX_OFFSET)
                .ok_or_else(|| format!("must be a whole number from 0 to {MAX_OFFSET}{beyond}"))
        })
    }

    /// Returns all violations, with one for each unknown parameter.
    pub(crate) fn finish(mut self) -> Result<(), Violations> {
        for unknown in self.rest.keys() {
            self.violations
                .add(unknown, "is not a parameter of this call");
        }
        self.violations.into_result(Some(()))
    }
}

/// Parses digits only; `u64::from_str` would accept a sign.
pub(crate) fn digits(text: &str) -> Option<u64> {
    text.bytes()
        .all(|byte| byte.is_ascii_digit())
        .then(|| text.parse().ok())?
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn page(text: &str) -> Result<(Option<u32>, Option<u64>), String> {
        let mut query = Query::read(text);
        let page = (query.limit("limit"), query.offset(""));
        query
            .finish()
            .map(|()| page)
            .map_err(|violations| violations.to_string())
    }

    #[test]
    fn a_limit_is_from_1_to_100_and_an_offset_from_0() {
        assert_eq!(page(""), Ok((None, None)));
        assert_eq!(page("limit=1&offset=0"), Ok((Some(1), Some(0))));
        assert_eq!(page("limit=100"), Ok((Some(100), None)));
        for bad in ["0", "101", "-1", "+1", "", "1.0", "x", "4294967297", "1e2"] {
            assert!(page(&format!("limit={bad}")).is_err(), "{bad}");
        }
        for bad in ["-1", "+1", "", "x", "9223372036854775808"] {
            assert!(page(&format!("offset={bad}")).is_err(), "{bad}");
        }
    }

    #[test]
    fn every_invalid_parameter_is_reported_at_once() {
        insta::assert_snapshot!(page("limit=0&offset=x&limit=3&page=2").unwrap_err(), @"limit: is there twice; limit: must be a whole number from 1 to 100; offset: must be a whole number from 0 to 10000; page: is not a parameter of this call");
    }

    proptest! {
        #[test]
        fn any_text_is_a_page_or_an_error(text: String) {
            let _ = page(&text);
        }
    }
}
