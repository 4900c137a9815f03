//! A cell: all that the roll-up tells apart within a minute, a subscription and an event type, packed into one number. One
//! number keeps the key of a row short, which is written with every attempt.
//!
//! The lowest bits are the bucket of the latency, so that SQL can add it. Stored numbers keep their meaning: a new value
//! gets a new number.

use hookline_core::delivery::DeliveryState;
use hookline_core::histogram::Bucket;
use hookline_core::outcome::FailureKind;

use crate::error::StoreError;
use crate::rows::corrupt;

const BUCKET_BITS: u32 = 5;
const ERROR_BITS: u32 = 4;
const CODE_BITS: u32 = 3;
const OUTCOME_BITS: u32 = 3;

/// The result of an attempt for its delivery, or the end of a delivery without an attempt.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, strum::IntoStaticStr, strum::EnumIter,
)]
#[strum(serialize_all = "snake_case")]
pub enum StatsOutcome {
    Delivered = 1,
    /// The attempt failed, and another follows.
    Retried = 2,
    Exhausted = 3,
    Skipped = 4,
    Cancelled = 5,
}

impl StatsOutcome {
    /// The name in answers.
    pub fn as_str(self) -> &'static str {
        self.into()
    }

    /// The outcome of a delivery that ends in this state; none for a pending one.
    pub(crate) fn of(end: DeliveryState) -> Option<Self> {
        match end {
            DeliveryState::Pending { .. } => None,
            DeliveryState::Delivered { .. } => Some(Self::Delivered),
            DeliveryState::Exhausted { .. } => Some(Self::Exhausted),
            DeliveryState::Skipped { .. } => Some(Self::Skipped),
            DeliveryState::Cancelled { .. } => Some(Self::Cancelled),
        }
    }
}

/// The class of a response's status (RFC 9110, section 15).
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, strum::IntoStaticStr, strum::EnumIter,
)]
pub enum CodeClass {
    /// No response.
    #[strum(serialize = "none")]
    None = 0,
    #[strum(serialize = "1xx")]
    Informational = 1,
    #[strum(serialize = "2xx")]
    Successful = 2,
    #[strum(serialize = "3xx")]
    Redirection = 3,
    #[strum(serialize = "4xx")]
    ClientError = 4,
    #[strum(serialize = "5xx")]
    ServerError = 5,
    /// A status from 600 on, which no RFC defines.
    #[strum(serialize = "other")]
    Other = 6,
}

impl CodeClass {
    /// The name in answers.
    pub fn as_str(self) -> &'static str {
        self.into()
    }

    pub fn of(status: Option<u16>) -> Self {
        match status {
            None => Self::None,
            Some(..=199) => Self::Informational,
            Some(200..=299) => Self::Successful,
            Some(300..=399) => Self::Redirection,
            Some(400..=499) => Self::ClientError,
            Some(500..=599) => Self::ServerError,
            Some(600..) => Self::Other,
        }
    }
}

/// All kinds, with their stored numbers.
const ERRORS: [(FailureKind, i32); 7] = [
    (FailureKind::Timeout, 1),
    (FailureKind::Dns, 2),
    (FailureKind::Connect, 3),
    (FailureKind::Tls, 4),
    (FailureKind::BlockedAddress, 5),
    (FailureKind::HttpStatus, 6),
    (FailureKind::Response, 7),
];

fn error_number(kind: FailureKind) -> i32 {
    match kind {
        FailureKind::Timeout => 1,
        FailureKind::Dns => 2,
        FailureKind::Connect => 3,
        FailureKind::Tls => 4,
        FailureKind::BlockedAddress => 5,
        FailureKind::HttpStatus => 6,
        FailureKind::Response => 7,
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Cell {
    pub(crate) outcome: StatsOutcome,
    pub(crate) code_class: CodeClass,
    pub(crate) error: Option<FailureKind>,
    /// None where the delivery ended without an attempt.
    pub(crate) duration: Option<Bucket>,
    /// From the event to its first end as delivered.
    pub(crate) latency: Option<Bucket>,
}

impl Cell {
    /// The end of a delivery without an attempt.
    pub(crate) fn without_attempt(outcome: StatsOutcome) -> Self {
        Self {
            outcome,
            code_class: CodeClass::None,
            error: None,
            duration: None,
            latency: None,
        }
    }

    pub(crate) fn pack(self) -> i32 {
        let bucket = |bucket: Option<Bucket>| bucket.map_or(0, |one| i32::from(one.number()));
        let mut packed = self.outcome as i32;
        packed = packed << CODE_BITS | self.code_class as i32;
        packed = packed << ERROR_BITS | self.error.map_or(0, error_number);
        packed = packed << BUCKET_BITS | bucket(self.duration);
        packed << BUCKET_BITS | bucket(self.latency)
    }

    pub(crate) fn unpack(packed: i32) -> Result<Self, StoreError> {
        use strum::IntoEnumIterator as _;

        let mut rest = packed;
        let mut take = |bits: u32| {
            let part = rest & ((1 << bits) - 1);
            rest >>= bits;
            part
        };
        let (latency, duration) = (take(BUCKET_BITS), take(BUCKET_BITS));
        let (error, code, outcome) = (take(ERROR_BITS), take(CODE_BITS), take(OUTCOME_BITS));
        let unknown = || corrupt("cell", packed);
        if rest != 0 {
            return Err(unknown());
        }
        let bucket = |number: i32| match u8::try_from(number) {
            Ok(0) => Ok(None),
            Ok(number) => Bucket::from_number(number).map(Some).ok_or_else(unknown),
            Err(_) => Err(unknown()),
        };
        Ok(Self {
            outcome: StatsOutcome::iter()
                .find(|one| *one as i32 == outcome)
                .ok_or_else(unknown)?,
            code_class: CodeClass::iter()
                .find(|one| *one as i32 == code)
                .ok_or_else(unknown)?,
            error: match error {
                0 => None,
                number => {
                    let known = ERRORS.iter().find(|(_, known)| *known == number);
                    Some(known.ok_or_else(unknown)?.0)
                }
            },
            duration: bucket(duration)?,
            latency: bucket(latency)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use strum::IntoEnumIterator as _;

    use super::*;

    fn buckets() -> impl Iterator<Item = Option<Bucket>> {
        (0u8..28).map(Bucket::from_number)
    }

    #[test]
    fn a_cell_is_unpacked_as_it_was() {
        let errors = ERRORS.map(|(kind, _)| Some(kind));
        for outcome in StatsOutcome::iter() {
            for code_class in CodeClass::iter() {
                for error in errors.into_iter().chain([None]) {
                    for duration in buckets() {
                        for latency in [None, Some(Bucket::of_millis(0)), duration] {
                            let cell = Cell {
                                outcome,
                                code_class,
                                error,
                                duration,
                                latency,
                            };
                            assert_eq!(Cell::unpack(cell.pack()).unwrap(), cell);
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn a_number_that_is_no_cell_is_corrupt() {
        for number in [0, -1, 31, i32::MAX, i32::MIN] {
            assert!(Cell::unpack(number).is_err(), "{number}");
        }
    }

    #[test]
    fn a_latency_is_added_to_a_packed_cell() {
        let cell = Cell::without_attempt(StatsOutcome::Delivered);
        let latency = Bucket::of_millis(7);
        let with = Cell {
            latency: Some(latency),
            ..cell
        };
        assert_eq!(cell.pack() + i32::from(latency.number()), with.pack());
    }

    #[test]
    fn stored_numbers_of_errors_are_unique() {
        for (kind, number) in ERRORS {
            assert_eq!(error_number(kind), number);
        }
    }
}
