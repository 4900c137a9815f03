//! The room that the rows of an answer have: bodies are large, and an answer is at most 1 MiB.

use serde::Serialize;
use serde_json::value::{RawValue, to_raw_value};

/// The most bytes of all rows of an answer, as JSON. What stands around them has the rest of the 1 MiB.
pub(crate) const MAX_BYTES: usize = 1024 * 1024 - 4 * 1024;

/// How many bytes of a body are shown where it does not fit, or none: without bodies a hundred rows have room,
/// whatever stands in their other fields.
const BEGINNINGS: [usize; 2] = [256, 0];

/// A row that can be shown without most of its bodies.
pub(crate) trait Shorten: Serialize {
    fn is_short(&self) -> bool;

    /// Leaves so many bytes of each body.
    fn shorten(&mut self, bytes: usize);
}

/// The beginning of a body, in whole characters.
pub(crate) fn beginning(text: &str, bytes: usize) -> &str {
    &text[..text.floor_char_boundary(bytes)]
}

/// The bytes that are left.
#[derive(Debug)]
pub(crate) struct Room(usize);

impl Default for Room {
    fn default() -> Self {
        Self(MAX_BYTES)
    }
}

impl Room {
    /// Takes room for something that is shown in any case.
    pub(crate) fn take(&mut self, value: &impl Serialize) {
        self.0 = self.0.saturating_sub(json(value).get().len());
    }

    /// The first rows, as many as there is room for and at least one; and the place of the last one, if others are
    /// left out.
    pub(crate) fn fill<T: Shorten, P>(
        &mut self,
        rows: impl Iterator<Item = (P, T)>,
    ) -> (Vec<Box<RawValue>>, Option<P>) {
        let mut shown = Vec::new();
        let mut last = None;
        for (place, row) in rows {
            let row_json = json(&row);
            let rest = self
                .0
                .checked_sub(size(&row_json))
                .filter(|_| !row.is_short());
            if rest.is_none() && !shown.is_empty() {
                return (shown, last);
            }
            self.0 = rest.unwrap_or_default();
            shown.push(row_json);
            last = Some(place);
        }
        (shown, None)
    }

    /// All rows. Those that do not fit are shortened.
    pub(crate) fn shorten<T: Shorten>(
        &mut self,
        rows: impl Iterator<Item = T>,
    ) -> Vec<Box<RawValue>> {
        let whole = |row: &T| (!row.is_short()).then(|| json(row));
        let (whole, mut rows): (Vec<_>, Vec<T>) = rows.map(|row| (whole(&row), row)).unzip();
        let (mut shortened, mut least) = (Vec::new(), 0);
        for bytes in BEGINNINGS {
            rows.iter_mut().for_each(|row| row.shorten(bytes));
            shortened = rows.iter().map(json).collect();
            least = shortened.iter().map(|row| size(row)).sum();
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
        whole.into_iter().zip(shortened).map(fits).collect()
    }
}

/// With the comma behind it.
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

    impl Shorten for Row {
        fn is_short(&self) -> bool {
            self.short
        }

        fn shorten(&mut self, bytes: usize) {
            self.body.truncate(beginning(&self.body, bytes).len());
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
        let rows = || (0..100).map(|place| (place, row(300_000)));
        let (shown, last) = Room::default().fill(rows());
        assert_eq!((shown.len(), last), (3, Some(2)));
        assert!(total(&shown) <= MAX_BYTES);
        let (shown, last) = Room::default().fill(rows().take(2));
        assert_eq!((shown.len(), last), (2, None));
        // One is shown in any case.
        let (shown, last) = Room::default().fill([(0, row(2_000_000)), (1, row(0))].into_iter());
        assert_eq!((shown.len(), last), (1, Some(0)));
    }

    #[test]
    fn no_row_is_left_out_where_bodies_are_cut() {
        let sizes = [300_000, 300_000, 600_000, 300_000, 300_000, 10];
        let shown = Room::default().shorten(sizes.into_iter().map(row));
        let short: Vec<bool> = shown
            .iter()
            .map(|row| row.get().contains("\"short\":true"))
            .collect();
        assert_eq!(short, [false, false, true, false, true, false]);
        assert!(total(&shown) <= MAX_BYTES);
        // Also where their beginnings do not fit.
        for rows in [100, 1_000] {
            let shown = Room::default().shorten((0..rows).map(|_| row(1_000_000)));
            assert_eq!(shown.len(), rows);
            assert!(total(&shown) <= MAX_BYTES);
        }
    }
}
