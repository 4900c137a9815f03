//! Service time: the clock of the store, carried on by this process's monotonic clock.
//!
//! Everything that is stored and compared later takes its time from here: due times, leases, turns of
//! replays, creation times. The wall clock of a machine may be set at any moment. An hour back would
//! hold up for an hour everything that is due; so service time follows the store's clock forward at
//! once and is never set back. Where the store's clock is behind, service time waits for it, by at
//! most 50 µs a second, which also takes up the drift between two machines.
//!
//! The store's clock is the database's; in a folder it is the machine's. Until it is first known,
//! the wall clock at the first question stands for it. The `webhook-timestamp` of a request and the
//! expiry of an API key are true time and do not come from here.

use std::sync::{LazyLock, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use hookline_core::timestamp::Timestamp;

/// In how many microseconds service time falls back by one. Over a day, the longest wait, that is
/// less than 5 s.
const FALL_BACK: i64 = 20_000;

static CLOCK: LazyLock<Clock> = LazyLock::new(|| Clock {
    began: Instant::now(),
    steady: Mutex::new(Steady::starting_at(Timestamp::from(SystemTime::now()))),
});

struct Clock {
    began: Instant,
    steady: Mutex<Steady>,
}

impl Clock {
    fn read<T>(&self, read: impl FnOnce(&mut Steady, Duration) -> T) -> T {
        let mut steady = self.steady.lock().unwrap_or_else(PoisonError::into_inner);
        read(&mut steady, self.began.elapsed())
    }
}

/// Service time. It never goes back but for the first [`follow`].
pub fn now() -> Timestamp {
    CLOCK.read(|steady, elapsed| steady.at(elapsed))
}

/// Notes what the store's clock said a moment ago.
pub fn follow(theirs: Timestamp) {
    CLOCK.read(|steady, elapsed| steady.follow(theirs, elapsed));
}

/// Service time as a sum: the monotonic clock and what it is ahead of that.
#[derive(Debug)]
struct Steady {
    ahead: i64,
    /// When the store's clock was last followed; none before the first time.
    followed: Option<Duration>,
}

impl Steady {
    fn starting_at(wall: Timestamp) -> Self {
        Self {
            ahead: wall.unix_micros(),
            followed: None,
        }
    }

    fn at(&self, elapsed: Duration) -> Timestamp {
        Timestamp::from_unix_micros(self.ahead.saturating_add(micros(elapsed)))
    }

    fn follow(&mut self, theirs: Timestamp, elapsed: Duration) {
        let theirs = theirs.unix_micros().saturating_sub(micros(elapsed));
        self.ahead = match self.followed {
            None => theirs,
            Some(before) => {
                let passed = micros(elapsed.saturating_sub(before));
                theirs.max(self.ahead.saturating_sub(passed / FALL_BACK))
            }
        };
        self.followed = Some(elapsed);
    }
}

fn micros(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);
    const HOUR: Duration = Duration::from_secs(60 * 60);

    fn start() -> Timestamp {
        Timestamp::from_unix_micros(1_766_313_000_000_000)
    }

    #[test]
    fn the_first_reading_of_the_stores_clock_replaces_the_wall_clock() {
        for theirs in [start().after(HOUR), start().before(HOUR)] {
            let mut steady = Steady::starting_at(start());
            steady.follow(theirs, SECOND);
            assert_eq!(steady.at(2 * SECOND), theirs.after(SECOND));
        }
    }

    #[test]
    fn a_jump_forward_is_followed_at_once() {
        let mut steady = Steady::starting_at(start());
        steady.follow(start().after(SECOND), SECOND);
        steady.follow(start().after(HOUR), 2 * SECOND);
        assert_eq!(steady.at(3 * SECOND), start().after(HOUR + SECOND));
    }

    #[test]
    fn a_clock_that_is_set_back_delays_no_wait_of_a_day_by_five_seconds() {
        let mut steady = Steady::starting_at(start());
        steady.follow(start(), Duration::ZERO);
        let day = 24 * 60 * 60;
        let mut last = steady.at(Duration::ZERO);
        for second in 1..=day {
            let elapsed = second * SECOND;
            steady.follow(start().after(elapsed).before(HOUR), elapsed);
            assert!(steady.at(elapsed) > last, "it went back");
            last = steady.at(elapsed);
        }
        let late = start().after(day * SECOND).remaining(last);
        assert!(late < 5 * SECOND, "{late:?}");
    }

    #[test]
    fn a_clock_that_runs_a_little_slower_is_followed() {
        let mut steady = Steady::starting_at(start());
        for second in 0..1_000 {
            let elapsed = second * SECOND;
            let theirs = start().after(elapsed).before(second * SECOND / 50_000);
            steady.follow(theirs, elapsed);
            assert_eq!(steady.at(elapsed), theirs);
        }
    }
}
