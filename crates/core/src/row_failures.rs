//! Rows that cannot be written: when such a row is dead-lettered.
//!
//! An error of the store says little about the row. A full disk, a lost connection and a missing right fail every row
//! alike, and pass; a lock may fail all rows of one organization. A row is at fault only where it fails again and
//! again by itself, while rows of its kind and owner (organization or subscription) are written. [`RowFailures`]
//! measures that time. The caller tries each row in a transaction of its own before it counts a failure, and
//! dead-letters it (rejected events, dead deliveries) on [`RowVerdict::DeadLetter`].

use std::time::{Duration, Instant};

/// How long a row fails by itself, while others are written, before it is dead-lettered.
pub const DEAD_LETTER_AFTER: Duration = Duration::from_secs(60);

/// The most that one interval between two failures counts. A process that was suspended between two tries
/// has not seen the row fail meanwhile. It exceeds the longest backoff of a retry, which is 5 s.
const LONGEST_INTERVAL: Duration = Duration::from_secs(10);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RowVerdict {
    /// The error may be transient: hold the row and retry it after a backoff.
    Retry,
    /// The fault is the row's own.
    DeadLetter,
}

/// The failures of one row in transactions of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RowFailures {
    last: Option<Instant>,
    alone_for: Duration,
}

impl RowFailures {
    /// Counts a failure at `now`. `others_written` is when a transaction with other rows of the same
    /// kind was last committed. Only an interval between two failures in which that happened counts:
    /// while nothing can be written, no row is dead-lettered, however long that lasts.
    pub fn failed(&mut self, now: Instant, others_written: Option<Instant>) -> RowVerdict {
        let before = self.last.replace(now);
        if let (Some(before), Some(written)) = (before, others_written)
            && written > before
            && written <= now
        {
            self.alone_for += now.duration_since(before).min(LONGEST_INTERVAL);
        }
        match self.alone_for >= DEAD_LETTER_AFTER {
            true => RowVerdict::DeadLetter,
            false => RowVerdict::Retry,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const STEP: Duration = Duration::from_secs(5);

    /// How many failures, [`STEP`] apart, until the row is dead-lettered.
    fn failures_until_dead_letter(
        written: impl Fn(u32, Instant) -> Option<Instant>,
    ) -> Option<u32> {
        let start = Instant::now();
        let mut row = RowFailures::default();
        (0..10_000).find(|number| {
            let now = start + STEP * *number;
            row.failed(now, written(*number, now)) == RowVerdict::DeadLetter
        })
    }

    #[test]
    fn a_row_that_fails_for_a_minute_while_others_are_written_is_dead_lettered() {
        let just_before = |_, now| Some(now - STEP / 2);
        assert_eq!(failures_until_dead_letter(just_before), Some(12));
    }

    #[test]
    fn while_nothing_is_written_no_row_is_dead_lettered() {
        assert_eq!(failures_until_dead_letter(|_, _| None), None);
        let long_before = Instant::now() - Duration::from_secs(1);
        assert_eq!(failures_until_dead_letter(|_, _| Some(long_before)), None);
    }

    #[test]
    fn only_the_time_in_which_others_are_written_counts() {
        // The store is away for nine of ten intervals.
        let sometimes = |number, now| (number % 10 == 0).then(|| now - STEP / 2);
        assert_eq!(failures_until_dead_letter(sometimes), Some(120));
    }

    #[test]
    fn a_process_that_was_suspended_does_not_dead_letter_a_row_at_once() {
        let start = Instant::now();
        let mut row = RowFailures::default();
        assert_eq!(row.failed(start, None), RowVerdict::Retry);
        let later = start + Duration::from_secs(3_600);
        assert_eq!(row.failed(later, Some(later)), RowVerdict::Retry);
    }

    proptest! {
        #[test]
        fn no_row_is_dead_lettered_before_its_minute(
            waits in proptest::collection::vec(1..20_000_u64, 1..200),
            written in proptest::collection::vec(any::<bool>(), 200),
        ) {
            let mut now = Instant::now();
            let mut row = RowFailures::default();
            let mut while_others = Duration::ZERO;
            for (index, (wait, written)) in waits.into_iter().zip(written).enumerate() {
                let wait = Duration::from_millis(wait);
                now += wait;
                if written && index > 0 {
                    while_others += wait;
                }
                if row.failed(now, written.then_some(now)) == RowVerdict::DeadLetter {
                    prop_assert!(while_others >= DEAD_LETTER_AFTER);
                }
            }
        }
    }
}
