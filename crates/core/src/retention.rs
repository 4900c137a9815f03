//! Retention's trusted clock.
//!
//! Deletion cannot be undone, and a database clock that is 40 days ahead would delete everything. Retention therefore
//! has a clock of its own, stored with the data. It follows the database's clock at twice its pace at most, and stands
//! still over a jump. After a month in which no dispatcher ran, it takes a month to catch up: rows are deleted later,
//! without an operator's help.

use std::time::Duration;

use crate::timestamp::Timestamp;

/// The longest time between two runs while a dispatcher runs. A longer one counts as a jump of the clock.
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// How long the answer of a request with an idempotency key is kept.
pub const REPEATS_KEPT: Duration = DAY;

/// How long the roll-up keeps minutes. The API answers with minutes of the last 24 hours and of the hour in which they
/// begin; one more hour is for a clock or an answer that is late.
pub const STATS_MINUTES_KEPT: Duration = Duration::from_secs(26 * 60 * 60);

/// Retention's own clock, as stored between two runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TrustedTime {
    pub at: Timestamp,
    /// The database's clock at the last advance.
    pub seen: Timestamp,
}

impl TrustedTime {
    /// Advances it as far as the database's clock `now` allows.
    #[must_use]
    pub fn advanced(self, now: Timestamp) -> Self {
        let passed = now.remaining(self.seen);
        let explained = if passed <= DAY {
            passed * 2
        } else {
            Duration::ZERO
        };
        Self {
            at: self.at.after(explained).min(now),
            seen: now,
        }
    }

    /// The distance behind the database's clock.
    pub fn lag(self) -> Duration {
        self.seen.remaining(self.at)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const HOUR: Duration = Duration::from_secs(60 * 60);

    fn start() -> Timestamp {
        Timestamp::from_unix_micros(1_766_313_000_000_000)
    }

    fn in_step(at: Timestamp) -> TrustedTime {
        TrustedTime { at, seen: at }
    }

    #[test]
    fn a_steady_clock_is_followed() {
        let mut time = in_step(start());
        for hour in 1..100 {
            time = time.advanced(start().after(hour * HOUR));
            assert_eq!(time.lag(), Duration::ZERO);
        }
    }

    #[test]
    fn a_clock_that_is_forty_days_ahead_for_an_hour_is_trusted_with_two_hours() {
        let ahead = |hours| start().after(40 * DAY + hours * HOUR);
        let time = in_step(start()).advanced(ahead(0));
        assert_eq!(time.at, start());
        let time = time.advanced(ahead(1));
        assert_eq!(time.at, start().after(2 * HOUR));
        let time = time.advanced(start().after(2 * HOUR));
        assert_eq!(
            (time.at, time.lag()),
            (start().after(2 * HOUR), Duration::ZERO)
        );
    }

    #[test]
    fn after_a_month_without_a_run_it_catches_up_within_a_month() {
        let mut time = in_step(start());
        let back = start().after(30 * DAY);
        for hour in 0..=30 * 24 {
            time = time.advanced(back.after(hour * HOUR));
        }
        assert_eq!(time.lag(), Duration::ZERO);
    }

    #[test]
    fn it_is_set_back_with_the_clock() {
        let time = in_step(start()).advanced(start().before(HOUR));
        assert_eq!(time, in_step(start().before(HOUR)));
    }

    proptest! {
        #[test]
        fn it_is_never_ahead_of_the_clock_nor_gains_more_than_two_days_at_once(
            days in proptest::collection::vec(-100i64..100, 1..50),
        ) {
            let mut time = in_step(start());
            for day in days {
                let now = Timestamp::from_unix_micros(start().unix_micros() + day * 86_400_000_000);
                let next = time.advanced(now);
                prop_assert!(next.at <= now);
                prop_assert!(next.at <= time.at.after(2 * DAY));
                time = next;
            }
        }
    }
}
