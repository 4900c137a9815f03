//! Lines that are no events. The first ones are shown, and the others are counted by reason: a bad file of a million
//! lines does not print a million errors.

use std::collections::BTreeMap;

const SHOWN: u64 = 20;
/// Reasons with their own count.
const REASONS: usize = 20;
const OTHERS: &str = "other reasons";

#[derive(Debug, Default)]
pub(super) struct Refusals {
    pub(super) count: u64,
    counted: BTreeMap<String, u64>,
}

impl Refusals {
    /// Counts a line. Returns a text for one of the first lines.
    pub(super) fn add(&mut self, line: u64, why: &str) -> Option<String> {
        self.count += 1;
        if self.count <= SHOWN {
            return Some(format!("refused {}: line {line}: {why}", self.count));
        }
        // The column differs between two lines with the same reason.
        let reason = why.split(" at column ").next().unwrap_or(why);
        let reason = match self.counted.contains_key(reason) || self.counted.len() < REASONS {
            true => reason,
            false => OTHERS,
        };
        *self.counted.entry(reason.to_owned()).or_default() += 1;
        None
    }

    /// A text for each reason at the end.
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
        let mut shown = Vec::new();
        for line in 1..=1_000 {
            let why = match line % 4 {
                0 => "data: is missing".to_owned(),
                _ => format!("is not valid JSON: expected value at column {line}"),
            };
            shown.extend(refusals.add(line, &why));
        }
        assert_eq!(shown.len(), 20);
        assert_eq!(
            shown[0],
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
    fn further_reasons_are_counted_together() {
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
