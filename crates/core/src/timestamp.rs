//! A moment in UTC with microseconds: what the stores keep and what the contract shows.

use std::fmt;
use std::time::{Duration, SystemTime};

use serde::{Serialize, Serializer};

/// Microseconds since 1970-01-01T00:00:00Z; 0001-01-01 to 9999-12-31.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(i64);

/// A text that is no time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("must be an RFC 3339 time such as 2025-12-21T10:30:00Z")]
pub struct InvalidTimestamp;

const EARLIEST: i64 = -62_135_596_800_000_000;
const LATEST: i64 = 253_402_207_200_999_999;

impl Timestamp {
    /// The moment `micros` microseconds after 1970, held inside the years 1 to 9999.
    pub fn from_unix_micros(micros: i64) -> Self {
        Self(micros.clamp(EARLIEST, LATEST))
    }

    /// Reads an RFC 3339 time of any offset; what is finer than a microsecond is cut off.
    ///
    /// # Errors
    /// [`InvalidTimestamp`] for anything else, also for a date without a time or an offset.
    pub fn parse(text: &str) -> Result<Self, InvalidTimestamp> {
        let looks_like_rfc3339 = text.is_ascii()
            && matches!(text.as_bytes().get(10), Some(b'T' | b't' | b' '))
            && text.starts_with(|first: char| first.is_ascii_digit())
            && has_offset(text);
        if !looks_like_rfc3339 {
            return Err(InvalidTimestamp);
        }
        let parsed: jiff::Timestamp = text.parse().map_err(|_| InvalidTimestamp)?;
        Ok(Self::from_unix_micros(parsed.as_microsecond()))
    }

    /// The moment of protobuf's `google.protobuf.Timestamp`.
    ///
    /// # Errors
    /// [`InvalidTimestamp`] outside the years 1 to 9999 or with bad nanoseconds.
    pub fn from_seconds(seconds: i64, nanos: i32) -> Result<Self, InvalidTimestamp> {
        let nanos = u32::try_from(nanos).map_err(|_| InvalidTimestamp)?;
        let micros = seconds
            .checked_mul(1_000_000)
            .and_then(|micros| micros.checked_add(i64::from(nanos / 1_000)));
        match micros {
            Some(micros) if nanos < 1_000_000_000 && (EARLIEST..=LATEST).contains(&micros) => {
                Ok(Self(micros))
            }
            _ => Err(InvalidTimestamp),
        }
    }

    /// The first moment of a day, counted from 1970.
    pub fn of_unix_day(day: i64) -> Self {
        Self::from_unix_micros(day.saturating_mul(86_400_000_000))
    }

    /// Microseconds since 1970.
    pub fn unix_micros(self) -> i64 {
        self.0
    }

    /// Whole seconds since 1970, rounded down.
    pub fn unix_seconds(self) -> i64 {
        self.0.div_euclid(1_000_000)
    }

    /// Whole days since 1970, rounded down.
    pub fn unix_day(self) -> i64 {
        self.unix_seconds().div_euclid(86_400)
    }

    /// The moment `wait` later.
    #[must_use]
    pub fn after(self, wait: Duration) -> Self {
        let micros = i64::try_from(wait.as_micros()).unwrap_or(i64::MAX);
        Self::from_unix_micros(self.0.saturating_add(micros))
    }

    /// The moment `wait` earlier.
    #[must_use]
    pub fn before(self, wait: Duration) -> Self {
        let micros = i64::try_from(wait.as_micros()).unwrap_or(i64::MAX);
        Self::from_unix_micros(self.0.saturating_sub(micros))
    }

    /// How long it is from `now` to this moment; zero when it has passed.
    pub fn remaining(self, now: Timestamp) -> Duration {
        Duration::from_micros(u64::try_from(self.0.saturating_sub(now.0)).unwrap_or(0))
    }
}

/// RFC 3339 wants `Z` or `±hh:mm` at the end; jiff alone would also take `+01` or `[Europe/Rome]`.
fn has_offset(text: &str) -> bool {
    let bytes = text.as_bytes();
    match bytes {
        [.., b'Z' | b'z'] => true,
        [.., b'+' | b'-', h1, h2, b':', m1, m2] => {
            [h1, h2, m1, m2].iter().all(|digit| digit.is_ascii_digit())
        }
        _ => false,
    }
}

impl From<SystemTime> for Timestamp {
    fn from(time: SystemTime) -> Self {
        let micros = match time.duration_since(SystemTime::UNIX_EPOCH) {
            Ok(since) => i64::try_from(since.as_micros()).unwrap_or(i64::MAX),
            Err(before) => -i64::try_from(before.duration().as_micros()).unwrap_or(i64::MAX),
        };
        Self::from_unix_micros(micros)
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match jiff::Timestamp::from_microsecond(self.0) {
            Ok(timestamp) => timestamp.fmt(f),
            Err(_) => Err(fmt::Error),
        }
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_time_is_shown_in_utc_with_microseconds_at_most() {
        let shown = |text| Timestamp::parse(text).map(|time| time.to_string());
        assert_eq!(
            shown("2025-12-21T10:30:00Z").unwrap(),
            "2025-12-21T10:30:00Z"
        );
        assert_eq!(
            shown("2025-12-21T12:30:00.5+02:00").unwrap(),
            "2025-12-21T10:30:00.5Z"
        );
        assert_eq!(
            shown("2025-12-21T10:30:00.123456789Z").unwrap(),
            "2025-12-21T10:30:00.123456Z"
        );
    }

    #[test]
    fn what_is_no_rfc3339_time_is_refused() {
        for bad in [
            "",
            "now",
            "2025-12-21",
            "2025-12-21T10:30:00",
            "2025-12-21T10:30:00+02",
            "2025-12-21T10:30:00+02:00[Europe/Rome]",
            "2025-13-01T00:00:00Z",
            "1766313000",
            "+002025-12-21T10:30:00Z",
            "20251221T103000Z",
            "2025-02-30T00:00:00Z",
        ] {
            assert_eq!(Timestamp::parse(bad), Err(InvalidTimestamp), "{bad}");
        }
    }

    #[test]
    fn a_protobuf_time_outside_the_years_1_to_9999_is_refused() {
        assert!(Timestamp::from_seconds(0, 999_999_999).is_ok());
        for (seconds, nanos) in [(0, -1), (0, 1_000_000_000), (i64::MAX, 0), (i64::MIN, 0)] {
            assert_eq!(
                Timestamp::from_seconds(seconds, nanos),
                Err(InvalidTimestamp)
            );
        }
    }

    proptest! {
        #[test]
        fn what_is_shown_reads_back_the_same(micros in EARLIEST..=LATEST) {
            let time = Timestamp::from_unix_micros(micros);
            prop_assert_eq!(Timestamp::parse(&time.to_string()).unwrap(), time);
        }
    }
}
