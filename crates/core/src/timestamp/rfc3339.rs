//! The grammar of RFC 3339, 5.6. A library that reads ISO 8601 takes more than that, and changes some of
//! it: hours of offsets above 23, `:60` as `:59`, no more than nine digits of a fraction.

use time::{Date, Month, Time, UtcDateTime};

/// Microseconds since 1970; None for what is no RFC 3339 time.
pub(super) fn micros(text: &str) -> Option<i64> {
    let (date, rest) = (text.get(..10)?, text.get(10..)?);
    let rest = rest.strip_prefix(['T', 't', ' '])?;
    let (time, rest) = (rest.get(..8)?, rest.get(8..)?);
    let (micros, rest) = fraction(rest)?;

    let [year, month, day] = three(date, '-', 4)?;
    let [hour, minute, second] = three(time, ':', 2)?;
    let month = Month::try_from(u8::try_from(month).ok()?).ok()?;
    let date = Date::from_calendar_date(year.into(), month, day.try_into().ok()?).ok()?;
    let is_leap = second == 60;
    if hour > 23 || minute > 59 || (second > 59 && !is_leap) {
        return None;
    }
    let midnight = UtcDateTime::new(date, Time::MIDNIGHT).unix_timestamp();
    let clock = i64::from(hour) * 3_600 + i64::from(minute) * 60 + i64::from(second);
    let seconds = midnight + clock - offset(rest)?;
    if is_leap && !begins_a_month(seconds) {
        return None;
    }
    Some(seconds * 1_000_000 + micros)
}

/// Three numbers with `separator` between, the first of so many digits, the others of two.
fn three(text: &str, separator: char, first: usize) -> Option<[i16; 3]> {
    let mut parts = text.split(separator);
    let numbers = [
        digits(parts.next()?, first)?,
        digits(parts.next()?, 2)?,
        digits(parts.next()?, 2)?,
    ];
    parts.next().is_none().then_some(numbers)
}

/// Rust's own reader would also take a sign.
fn digits(text: &str, count: usize) -> Option<i16> {
    let all = text.len() == count && text.bytes().all(|byte| byte.is_ascii_digit());
    all.then(|| text.parse().ok())?
}

/// The microseconds of a fraction of any length, and what comes after it.
fn fraction(text: &str) -> Option<(i64, &str)> {
    let Some(fraction) = text.strip_prefix('.') else {
        return Some((0, text));
    };
    let length = fraction.bytes().take_while(u8::is_ascii_digit).count();
    let (digits, rest) = fraction.split_at(length);
    let kept = digits
        .get(..length.min(6))
        .filter(|kept| !kept.is_empty())?;
    Some((format!("{kept:0<6}").parse().ok()?, rest))
}

/// Seconds by which a clock is ahead of UTC. `-00:00` is UTC, too: where the clock stands is not known.
fn offset(text: &str) -> Option<i64> {
    let sign = match text.get(..1)? {
        "Z" | "z" => return (text.len() == 1).then_some(0),
        "+" => 1,
        "-" => -1,
        _ => return None,
    };
    let (hours, minutes) = text.get(1..)?.split_once(':')?;
    let (hours, minutes) = (digits(hours, 2)?, digits(minutes, 2)?);
    let seconds = i64::from(hours) * 3_600 + i64::from(minutes) * 60;
    (hours <= 23 && minutes <= 59).then_some(sign * seconds)
}

/// A leap second is the last one of a month in UTC (RFC 3339, 5.7, and ITU-R TF.460), so the moment
/// after it is the first one of the next.
fn begins_a_month(seconds: i64) -> bool {
    // The year 9999 ends without a next one: beyond it there is no date.
    let day = UtcDateTime::from_unix_timestamp(seconds);
    day.is_ok_and(|day| day.day() == 1 && day.time() == Time::MIDNIGHT)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MOMENT: i64 = 1_766_313_000_000_000;

    #[test]
    fn every_form_of_rfc_3339_is_read_as_its_moment() {
        for good in [
            "2025-12-21T10:30:00Z",
            "2025-12-21t10:30:00z",
            "2025-12-21 10:30:00Z",
            "2025-12-21T10:30:00+00:00",
            "2025-12-21T10:30:00-00:00",
            "2025-12-22T10:29:00+23:59",
            "2025-12-20T10:31:00-23:59",
            "2025-12-21T10:30:00.0Z",
            "2025-12-21T10:30:00.00000099999999999999999999999999Z",
        ] {
            assert_eq!(micros(good), Some(MOMENT), "{good}");
        }
        let fraction = "2025-12-21T10:30:00.12345678901234567890-00:00";
        assert_eq!(micros(fraction), Some(MOMENT + 123_456));
        assert_eq!(micros("1969-12-31T23:59:59.25Z"), Some(-750_000));
        assert_eq!(micros("2024-02-29T00:00:00Z"), Some(1_709_164_800_000_000));
    }

    #[test]
    fn a_leap_second_is_the_first_moment_after_it() {
        let after = micros("2017-01-01T00:00:00Z");
        for good in [
            "2016-12-31T23:59:60Z",
            "2016-12-31T15:59:60-08:00",
            "2017-01-01T05:29:60+05:30",
        ] {
            assert_eq!(micros(good), after, "{good}");
        }
        let late = micros("2016-12-31T23:59:60.75Z");
        assert_eq!(late, after.map(|after| after + 750_000));
        for bad in [
            "2025-12-21T10:30:60Z",
            "2025-12-21T23:59:60Z",
            "2016-12-31T23:58:60Z",
            "2016-12-31T23:59:60+01:00",
            "2016-12-31T23:59:61Z",
        ] {
            assert_eq!(micros(bad), None, "{bad}");
        }
    }

    #[test]
    fn what_is_no_rfc_3339_time_is_refused() {
        for bad in [
            "",
            "now",
            "1766313000",
            "2025-12-21",
            "20251221T103000Z",
            "2025-12-21T10:30:00",
            "2025-12-21T10:30Z",
            "2025-12-21T10:30:00.Z",
            "2025-12-21T10:30:00,5Z",
            "2025-12-21_10:30:00Z",
            "2025-12-21  10:30:00Z",
            "2025-12-21T24:00:00Z",
            "2025-12-21T10:60:00Z",
            "2025-13-01T00:00:00Z",
            "2025-00-01T00:00:00Z",
            "2025-02-29T00:00:00Z",
            "2025-02-30T00:00:00Z",
            "2025-1-01T00:00:00Z",
            "+2025-12-21T10:30:00Z",
            "-0001-12-21T10:30:00Z",
            "+002025-12-21T10:30:00Z",
            "12025-12-21T10:30:00Z",
            "2025-12-21T10:30:00+02",
            "2025-12-21T10:30:00+0200",
            "2025-12-21T10:30:00+2:00",
            "2025-12-21T10:30:00+24:00",
            "2025-12-21T10:30:00+02:60",
            "2025-12-21T10:30:00+-2:00",
            "2025-12-21T10:30:00\u{2212}02:00",
            "2025-12-21T10:30:00+02:00:00",
            "2025-12-21T10:30:00+02:00[Europe/Rome]",
            "2025-12-21T10:30:00ZZ",
            "2025-12-21T10:30:00Z ",
            " 2025-12-21T10:30:00Z",
            "2025-12-21T10:30:0\u{664}Z",
        ] {
            assert_eq!(micros(bad), None, "{bad:?}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_a_time_or_none(text: String, near in "[0-9+:.TZtz -]{0,40}") {
            let _ = (micros(&text), micros(&near));
        }
    }
}
