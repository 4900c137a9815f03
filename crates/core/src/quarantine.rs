//! When a row that cannot be written is put aside.
//!
//! An error of the store says little about the row: a full disk, a lost connection and a missing right
//! fail every row alike, and pass; a lock may fail all rows of one organization. A row is at fault only
//! where it fails by itself, again and again, while rows of its kind and of the same owner (its organization or
//! subscription) are written. [`LoneFailures`] measures that time. The caller tries each row in
//! a transaction of its own before it counts a failure, and puts the row into quarantine (the rejected
//! events, the dead deliveries) once the verdict is [`Verdict::PutAside`].

use std::time::{Duration, Instant};

/// How long a row fails by itself, while others are written, before it is put aside.
pub const PUT_ASIDE_AFTER: Duration = Duration::from_secs(60);

/// The most that one interval between two failures counts. A process that was suspended between two tries
/// has not seen the row fail meanwhile. It exceeds the longest backoff of a retry, which is 5 s.
const LONGEST_INTERVAL: Duration = Duration::from_secs(10);

/// What becomes of a row that has failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// The fault may be of the moment: hold the row and retry it after a backoff.
    Hold,
    /// The fault is the row's own.
    PutAside,
}

/// The failures of one row in transactions of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LoneFailures {
    last: Option<Instant>,
    alone_for: Duration,
}

impl LoneFailures {
    /// Counts a failure at `now`. `others_written` is when a transaction with other rows of the same
    /// kind was last committed. Only an interval between two failures in which that happened counts:
    /// while nothing can be written, no row is put aside, however long that lasts.
    pub fn failed(&mut self, now: Instant, others_written: Option<Instant>) -> Verdict {
        let before = self.last.replace(now);
        if let (Some(before), Some(written)) = (before, others_written)
            && written > before
            && written <= now
        {
            self.alone_for += now.duration_since(before).min(LONGEST_INTERVAL);
        }
        match self.alone_for >= PUT_ASIDE_AFTER {
            true => Verdict::PutAside,
            false => Verdict::Hold,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const STEP: Duration = Duration::from_secs(5);

    /// How many failures, [`STEP`] apart, until the row is put aside.
    fn failures_until_put_aside(written: impl Fn(u32, Instant) -> Option<Instant>) -> Option<u32> {
        let start = Instant::now();
        let mut row = LoneFailures::default();
        (0..10_000).find(|number| {
            let now = start + STEP * *number;
            row.failed(now, written(*number, now)) == Verdict::PutAside
        })
    }

    #[test]
    fn a_row_that_fails_for_a_minute_while_others_are_written_is_put_aside() {
        let just_before = |_, now| Some(now - STEP / 2);
        assert_eq!(failures_until_put_aside(just_before), Some(12));
    }

    #[test]
    fn while_nothing_is_written_no_row_is_put_aside() {
        assert_eq!(failures_until_put_aside(|_, _| None), None);
        let long_before = Instant::now() - Duration::from_secs(1);
        assert_eq!(failures_until_put_aside(|_, _| Some(long_before)), None);
    }

    #[test]
    fn only_the_time_in_which_others_are_written_counts() {
        // The store is away for nine of ten intervals.
        let sometimes = |number, now| (number % 10 == 0).then(|| now - STEP / 2);
        assert_eq!(failures_until_put_aside(sometimes), Some(120));
    }

    #[test]
    fn a_process_that_was_suspended_does_not_put_a_row_aside_at_once() {
        let start = Instant::now();
        let mut row = LoneFailures::default();
        assert_eq!(row.failed(start, None), Verdict::Hold);
        let later = start + Duration::from_secs(3_600);
        assert_eq!(row.failed(later, Some(later)), Verdict::Hold);
    }

    proptest! {
        #[test]
        fn no_row_is_put_aside_before_its_minute(
            waits in proptest::collection::vec(1..20_000_u64, 1..200),
            written in proptest::collection::vec(any::<bool>(), 200),
        ) {
            let mut now = Instant::now();
            let mut row = LoneFailures::default();
            let mut while_others = Duration::ZERO;
            for (index, (wait, written)) in waits.into_iter().zip(written).enumerate() {
                let wait = Duration::from_millis(wait);
                now += wait;
                if written && index > 0 {
                    while_others += wait;
                }
                if row.failed(now, written.then_some(now)) == Verdict::PutAside {
                    prop_assert!(while_others >= PUT_ASIDE_AFTER);
                }
            }
        }
    }
}
