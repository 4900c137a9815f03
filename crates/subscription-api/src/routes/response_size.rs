//! The size limit of a page, 1 MiB. Rows that do not fit are left for the next page, or their bodies are cut.

use serde::Serialize;
use serde_json::value::{RawValue, to_raw_value};

/// JSON bytes of all rows of a page. The rest of the 1 MiB is for the fields around the rows.
pub(crate) const MAX_BYTES: usize = 1024 * 1024 - 4 * 1024;

/// Bytes that are left of a cut body: 256 if the page then fits, otherwise none. 100 rows without bodies always fit.
const PREFIX_BYTES: [usize; 2] = [256, 0];

/// A row with bodies that can be cut.
pub(crate) trait Truncate: Serialize {
    fn is_truncated(&self) -> bool;

    /// Cuts each body to this many bytes.
    fn truncate(&mut self, bytes: usize);
}

/// The first bytes of a body, in whole characters.
pub(crate) fn prefix(text: &str, bytes: usize) -> &str {
    &text[..text.floor_char_boundary(bytes)]
}

/// The bytes that are left of a page.
#[derive(Debug)]
pub(crate) struct ResponseBudget(usize);

impl Default for ResponseBudget {
    fn default() -> Self {
        Self(MAX_BYTES)
    }
}

impl ResponseBudget {
    /// Reserves bytes for a value that is always shown.
    pub(crate) fn reserve(&mut self, value: &impl Serialize) {
        self.0 = self.0.saturating_sub(json(value).get().len());
    }

    /// The first rows that fit, at least one. If rows are left out, also the position of the last row shown.
    pub(crate) fn fill<T: Truncate, P>(
        &mut self,
        rows: impl Iterator<Item = (P, T)>,
    ) -> (Vec<Box<RawValue>>, Option<P>) {
        let mut shown = Vec::new();
        let mut last = None;
        for (position, row) in rows {
            let row_json = json(&row);
            let rest = self
                .0
                .checked_sub(size(&row_json))
                .filter(|_| !row.is_truncated());
            if rest.is_none() && !shown.is_empty() {
                return (shown, last);
            }
            self.0 = rest.unwrap_or_default();
            shown.push(row_json);
            last = Some(position);
        }
        (shown, None)
    }

    /// All rows. The bodies of rows that do not fit are cut.
    pub(crate) fn truncate<T: Truncate>(
        &mut self,
        rows: impl Iterator<Item = T>,
    ) -> Vec<Box<RawValue>> {
        let whole = |row: &T| (!row.is_truncated()).then(|| json(row));
        let (whole, mut rows): (Vec<_>, Vec<T>) = rows.map(|row| (whole(&row), row)).unzip();
        let (mut cut, mut least) = (Vec::new(), 0);
        for bytes in PREFIX_BYTES {
            rows.iter_mut().for_each(|row| row.truncate(bytes));
            cut = rows.iter().map(json).collect();
            least = cut.iter().map(|row| size(row)).sum();
            if least <= self.0 {
                break;
            }
        }
        self.0 = self.0.saturating_sub(least);
        let fits = |(whole, short): (Option<Box<RawValue>>, Box<RawValue>)| {
            let more = |whole: &RawValue| size(whole).saturating_sub(size(&short));
            match whole.filter(|whole| more(whole) <= self.0) {
                Some(whole) => {
                    self.0 -= more(&whole);
                    whole
                }
                None => short,
            }
        };
        whole.into_iter().zip(cut).map(fits).collect()
    }
}

/// With the comma that follows.
fn size(json: &RawValue) -> usize {
    json.get().len() + 1
}

pub(crate) fn json(value: &impl Serialize) -> Box<RawValue> {
    to_raw_value(value).unwrap_or_else(|_| RawValue::NULL.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Serialize)]
    struct Row {
        body: String,
        short: bool,
    }

    impl Truncate for Row {
        fn is_truncated(&self) -> bool {
            self.short
        }

        fn truncate(&mut self, bytes: usize) {
            self.body.truncate(prefix(&self.body, bytes).len());
            self.short = true;
        }
    }

    fn row(bytes: usize) -> Row {
        Row {
            body: "\u{1}".repeat(bytes / 6),
            short: false,
        }
    }

    fn total(rows: &[Box<RawValue>]) -> usize {
        rows.iter().map(|row| size(row)).sum()
    }

    #[test]
    fn rows_that_do_not_fit_are_left_for_the_next_page() {
        let rows = || (0..100).map(|position| (position, row(300_000)));
        let (shown, last) = ResponseBudget::default().fill(rows());
        assert_eq!((shown.len(), last), (3, Some(2)));
        assert!(total(&shown) <= MAX_BYTES);
        let (shown, last) = ResponseBudget::default().fill(rows().take(2));
        assert_eq!((shown.len(), last), (2, None));
        // At least one row is shown.
        let (shown, last) =
            ResponseBudget::default().fill([(0, row(2_000_000)), (1, row(0))].into_iter());
        assert_eq!((shown.len(), last), (1, Some(0)));
    }

    #[test]
    fn no_row_is_left_out_if_bodies_are_cut() {
        let sizes = [300_000, 300_000, 600_000, 300_000, 300_000, 10];
        let shown = ResponseBudget::default().truncate(sizes.into_iter().map(row));
        let short: Vec<bool> = shown
            .iter()
            .map(|row| row.get().contains("\"short\":true"))
            .collect();
        assert_eq!(short, [false, false, true, false, true, false]);
        assert!(total(&shown) <= MAX_BYTES);
        // Also if the rows do not fit with 256 bytes of each body.
        for rows in [100, 1_000] {
            let shown = ResponseBudget::default().truncate((0..rows).map(|_| row(1_000_000)));
            assert_eq!(shown.len(), rows);
            assert!(total(&shown) <= MAX_BYTES);
        }
    }
}
