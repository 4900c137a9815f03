//! Lines that are no events: the first ones are shown each, the others counted by reason, so that a wrong
//! file of a million lines says what is wrong with it and not a million times.

use std::collections::BTreeMap;

/// How many are shown each.
const SHOWN: u64 = 20;
/// How many different reasons are counted by themselves.
const REASONS: usize = 20;
const OTHERS: &str = "other reasons";

#[derive(Debug, Default)]
pub(super) struct Refusals {
    pub(super) count: u64,
    counted: BTreeMap<String, u64>,
}

impl Refusals {
    /// Counts one; what to say of it, where it is among the first.
    pub(super) fn add(&mut self, line: u64, why: &str) -> Option<String> {
        self.count += 1;
        if self.count <= SHOWN {
            return Some(format!("refused {}: line {line}: {why}", self.count));
        }
        // Where in the line it is tells two lines apart and not two reasons.
        let reason = why.split(" at column ").next().unwrap_or(why);
        let reason = match self.counted.contains_key(reason) || self.counted.len() < REASONS {
            true => reason,
            false => OTHERS,
        };
        *self.counted.entry(reason.to_owned()).or_default() += 1;
        None
    }

    /// What to say at the end, a line for each reason.
    pub(super) fn rest(&self) -> Vec<String> {
        if self.counted.is_empty() {
            return Vec::new();
        }
        let more = self.counted.values().sum::<u64>();
        let mut lines = vec![format!("refused {more} lines more:")];
        let mut counted: Vec<_> = self.counted.iter().collect();
        counted.sort_by_key(|(_, count)| std::cmp::Reverse(**count));
        lines.extend(
            counted
                .iter()
                .map(|(reason, count)| format!("  {count}: {reason}")),
        );
        lines
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn twenty_lines_are_shown_and_the_others_counted_by_reason() {
        let mut refusals = Refusals::default();
        let mut said = Vec::new();
        for line in 1..=1_000 {
            let why = match line % 4 {
                0 => "data: is missing".to_owned(),
                _ => format!("is not valid JSON: expected value at column {line}"),
            };
            said.extend(refusals.add(line, &why));
        }
        assert_eq!(said.len(), 20);
        assert_eq!(
            said[0],
            "refused 1: line 1: is not valid JSON: expected value at column 1"
        );
        assert_eq!(
            refusals.rest(),
            [
                "refused 980 lines more:",
                "  735: is not valid JSON: expected value",
                "  245: data: is missing"
            ]
        );
        assert_eq!(refusals.count, 1_000);
    }

    #[test]
    fn reasons_without_end_are_counted_together() {
        let mut refusals = Refusals::default();
        for line in 1..=10_000 {
            refusals.add(line, &format!("organization_id: is org_{line}"));
        }
        let rest = refusals.rest();
        assert_eq!(rest.len(), 2 + REASONS);
        assert_eq!(rest[1], "  9960: other reasons");
        assert_eq!(Refusals::default().rest(), [""; 0]);
    }
}
