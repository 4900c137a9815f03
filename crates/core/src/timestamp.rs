//! A moment in UTC with microseconds, as the store keeps and the contract shows it.

use std::fmt;
use std::time::{Duration, SystemTime};

use serde::{Serialize, Serializer};
use time::UtcDateTime;
use time::format_description::well_known::Rfc3339;

mod rfc3339;

/// Microseconds since 1970-01-01T00:00:00Z, in the years 0000 to 9999: those that RFC 3339 can write.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(i64);

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("must be an RFC 3339 time such as 2025-12-21T10:30:00Z")]
pub struct InvalidTimestamp;

/// 0000-01-01T00:00:00Z.
const EARLIEST: i64 = -62_167_219_200_000_000;

/// 0001-01-01T00:00:00Z, from which on protobuf has a form for a time.
const EARLIEST_IN_PROTOBUF: i64 = -62_135_596_800_000_000;

/// 9999-12-31T23:59:59.999999Z.
const LATEST: i64 = 253_402_300_799_999_999;

impl Timestamp {
    /// The moment `micros` microseconds after 1970, held inside the years 0 to 9999.
    pub fn from_unix_micros(micros: i64) -> Self {
        Self(micros.clamp(EARLIEST, LATEST))
    }

    /// Reads an RFC 3339 time of any offset; what is finer than a microsecond is cut off. Between date and
    /// time `T`, `t` or a space stands (RFC 3339, 5.6), and a leap second is the first moment after it.
    ///
    /// # Errors
    /// [`InvalidTimestamp`] for anything else, and for a moment that in UTC is outside the years 0 to 9999.
    pub fn parse(text: &str) -> Result<Self, InvalidTimestamp> {
        rfc3339::micros(text)
            .filter(|micros| (EARLIEST..=LATEST).contains(micros))
            .map(Self)
            .ok_or(InvalidTimestamp)
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
            Some(micros)
                if nanos < 1_000_000_000 && (EARLIEST_IN_PROTOBUF..=LATEST).contains(&micros) =>
            {
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

    #[must_use]
    pub fn after(self, wait: Duration) -> Self {
        let micros = i64::try_from(wait.as_micros()).unwrap_or(i64::MAX);
        Self::from_unix_micros(self.0.saturating_add(micros))
    }

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
        let utc = UtcDateTime::from_unix_timestamp_nanos(i128::from(self.0) * 1_000)
            .map_err(|_| fmt::Error)?;
        f.write_str(&utc.format(&Rfc3339).map_err(|_| fmt::Error)?)
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
        for (given, shown) in [
            ("2025-12-21T10:30:00Z", "2025-12-21T10:30:00Z"),
            ("2025-12-21T12:30:00.5+02:00", "2025-12-21T10:30:00.5Z"),
            (
                "2025-12-21T10:30:00.123456789Z",
                "2025-12-21T10:30:00.123456Z",
            ),
            ("2025-12-21T10:30:00.000000999Z", "2025-12-21T10:30:00Z"),
            ("0000-01-01T00:00:00.5Z", "0000-01-01T00:00:00.5Z"),
            ("1969-12-31T23:59:59.999999Z", "1969-12-31T23:59:59.999999Z"),
            (
                "9999-12-31T23:59:59.9999999Z",
                "9999-12-31T23:59:59.999999Z",
            ),
        ] {
            let time = Timestamp::parse(given).map(|time| time.to_string());
            assert_eq!(time.as_deref(), Ok(shown), "{given}");
        }
    }

    #[test]
    fn a_time_outside_of_the_years_0_to_9999_in_utc_is_refused() {
        for bad in [
            "0000-01-01T00:59:59+01:00",
            "9999-12-31T23:00:00-01:00",
            "9999-12-31T23:59:60Z",
        ] {
            assert_eq!(Timestamp::parse(bad), Err(InvalidTimestamp), "{bad}");
        }
    }

    #[test]
    fn a_protobuf_time_outside_the_years_1_to_9999_is_refused() {
        for (seconds, nanos) in [
            (0, 999_999_999),
            (-62_135_596_800, 0),
            (253_402_300_799, 999_999_999),
        ] {
            assert!(Timestamp::from_seconds(seconds, nanos).is_ok());
        }
        for (seconds, nanos) in [
            (0, -1),
            (0, 1_000_000_000),
            (-62_135_596_801, 999_999_999),
            (253_402_300_800, 0),
            (i64::MAX, 0),
            (i64::MIN, 0),
        ] {
            assert_eq!(
                Timestamp::from_seconds(seconds, nanos),
                Err(InvalidTimestamp)
            );
        }
    }

    proptest! {
        #[test]
        fn a_displayed_time_parses_to_the_same_time(micros in EARLIEST..=LATEST) {
            let time = Timestamp::from_unix_micros(micros);
            prop_assert_eq!(Timestamp::parse(&time.to_string()).unwrap(), time);
        }
    }
}
