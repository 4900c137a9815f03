//! The deliveries that a receiver got. A delivery counts once; its repeats are counted apart.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};

use crate::event::Moment;

/// Counts of the requests since the report began.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct ReceiverReport {
    /// Deliveries: pairs of a subscription and an event.
    pub taken: u64,
    /// Deliveries that arrived again.
    pub repeats: u64,
    /// Requests that the receiver failed on purpose.
    pub refused: u64,
    /// Requests with a checked signature.
    pub checked: u64,
    /// Requests with a wrong signature, or with a body that is no event.
    pub wrong: u64,
    /// The arrival of the first delivery.
    pub first: Option<Moment>,
    /// The arrival of the last delivery.
    pub last: Option<Moment>,
    /// Microseconds from publication to arrival of each delivery, in the order of arrival.
    pub latencies: Vec<u32>,
}

/// The state of a receiver.
#[derive(Default)]
pub(crate) struct ReceiverLedger {
    seen: HashMap<u32, Bits>,
    pub(crate) report: ReceiverReport,
    /// The subscriptions that were down answer again.
    pub(crate) has_recovered: bool,
}

impl ReceiverLedger {
    /// Begins a new report. Earlier deliveries stay known: if one arrives again, it counts as a repeat.
    pub(crate) fn reset(&mut self) {
        self.report = ReceiverReport::default();
    }

    /// Records an accepted delivery.
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
    /// Inserts a number, and returns whether it is new.
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
        let mut ledger = ReceiverLedger::default();
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
