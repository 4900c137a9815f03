//! What a receiver has got: each delivery once, however often it came.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};

use crate::event::Moment;

/// What a receiver says of what it has got.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Report {
    /// Deliveries: pairs of a subscription and an event.
    pub taken: u64,
    /// Those that came once more.
    pub repeats: u64,
    /// Requests that were answered with an error on purpose.
    pub refused: u64,
    /// Requests whose signature was checked.
    pub checked: u64,
    /// Requests whose signature was wrong, or whose body was no event.
    pub wrong: u64,
    /// When the first delivery and the last one came.
    pub first: Option<Moment>,
    /// See `first`.
    pub last: Option<Moment>,
    /// Microseconds from the publication, of each delivery as it came.
    pub latencies: Vec<u32>,
}

/// A receiver's book.
#[derive(Default)]
pub(crate) struct Ledger {
    seen: HashMap<u32, Bits>,
    pub(crate) report: Report,
    /// Whether receivers that were down answer again.
    pub(crate) has_recovered: bool,
}

impl Ledger {
    /// Begins another report. What has come before is still known: should it come again, as it may, it
    /// is a repeat.
    pub(crate) fn reset(&mut self) {
        self.report = Report::default();
    }

    /// Notes a delivery that is taken.
    pub(crate) fn take(&mut self, subscription: u32, number: u64, sent: Moment, now: Moment) {
        let report = &mut self.report;
        if !self.seen.entry(subscription).or_default().set(number) {
            report.repeats += 1;
            return;
        }
        report.taken += 1;
        report.first.get_or_insert(now);
        report.last = Some(now);
        report.latencies.push(now.micros_since(sent));
    }
}

/// A set of small numbers.
#[derive(Default)]
struct Bits(Vec<u64>);

impl Bits {
    /// Whether it is new.
    fn set(&mut self, number: u64) -> bool {
        let word = usize::try_from(number / 64).unwrap_or_default();
        if self.0.len() <= word {
            self.0.resize(word + 1, 0);
        }
        let mask = 1 << (number % 64);
        let new = self.0[word] & mask == 0;
        self.0[word] |= mask;
        new
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_repeat_is_no_delivery() {
        let mut ledger = Ledger::default();
        for number in [0, 63, 64, 1_000, 64, 0] {
            ledger.take(1, number, Moment(5), Moment(7));
        }
        ledger.take(2, 0, Moment(5), Moment(9));
        assert_eq!((ledger.report.taken, ledger.report.repeats), (5, 2));
        assert_eq!(ledger.report.last, Some(Moment(9)));
        assert_eq!(ledger.report.latencies, [2, 2, 2, 2, 4]);

        ledger.reset();
        for number in [63, 65] {
            ledger.take(1, number, Moment(5), Moment(7));
        }
        assert_eq!((ledger.report.taken, ledger.report.repeats), (1, 1));
    }
}
