//! Retry schedule: the decision after an attempt, from its outcome alone.

use std::time::Duration;

use crate::delivery::{DeliveryKind, ExhaustedReason};
use crate::outcome::AttemptOutcome;
use crate::timestamp::Timestamp;

/// The longest wait of a schedule before jitter, and the longest that a receiver can request.
pub const MAX_WAIT: Duration = Duration::from_secs(24 * 60 * 60);

/// How far the jitter moves a wait, as a share of it.
pub const JITTER: f64 = 0.1;

/// The waits between attempts, in whole seconds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RetrySchedule(Vec<u32>);

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidSchedule {
    #[error("must have at most 30 waits")]
    TooMany,
    /// A wait of 0 s would be a loop; one over a day is more than the delay queues hold.
    #[error("each wait must be from 1 to 86400 seconds")]
    OutOfRange,
}

impl RetrySchedule {
    /// No wait at all means a single attempt.
    ///
    /// # Errors
    /// [`InvalidSchedule`] for too many waits or one out of range.
    pub fn new(seconds: Vec<u32>) -> Result<Self, InvalidSchedule> {
        let longest = u32::try_from(MAX_WAIT.as_secs()).unwrap_or(u32::MAX);
        if seconds.len() > 30 {
            return Err(InvalidSchedule::TooMany);
        }
        if seconds.iter().any(|wait| !(1..=longest).contains(wait)) {
            return Err(InvalidSchedule::OutOfRange);
        }
        Ok(Self(seconds))
    }

    /// The wait after the `attempt`th attempt, if another one follows.
    fn wait_after(&self, attempt: u32) -> Option<u32> {
        let index = usize::try_from(attempt.checked_sub(1)?).ok()?;
        self.0.get(index).copied()
    }
}

impl Default for RetrySchedule {
    fn default() -> Self {
        const MINUTE: u32 = 60;
        const HOUR: u32 = 60 * MINUTE;
        Self(vec![
            5,
            30,
            2 * MINUTE,
            15 * MINUTE,
            HOUR,
            4 * HOUR,
            12 * HOUR,
            24 * HOUR,
        ])
    }
}

/// The decision after an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RetryDecision {
    /// The receiver has it.
    Delivered,
    /// Another attempt after this time, in whole seconds.
    Retry(Duration),
    Exhausted(ExhaustedReason),
}

#[derive(Debug, Clone, Copy)]
pub struct FinishedAttempt<'a> {
    pub outcome: &'a AttemptOutcome,
    /// The place in its run through the schedule, from 1.
    pub step: u32,
    pub kind: DeliveryKind,
}

/// `jitter` is a random number from -1 to 1.
pub fn decide(made: FinishedAttempt<'_>, schedule: &RetrySchedule, jitter: f64) -> RetryDecision {
    if made.outcome.is_success() {
        return RetryDecision::Delivered;
    }
    if made.outcome.is_gone() {
        return RetryDecision::Exhausted(ExhaustedReason::Gone);
    }
    match (made.kind, schedule.wait_after(made.step)) {
        (DeliveryKind::Event, Some(seconds)) => {
            let asked_for = asked_for(made.outcome).unwrap_or_default();
            RetryDecision::Retry(jittered(seconds, jitter).max(asked_for))
        }
        (DeliveryKind::Test, _) | (DeliveryKind::Event, None) => {
            RetryDecision::Exhausted(ExhaustedReason::OutOfAttempts)
        }
    }
}

fn jittered(seconds: u32, jitter: f64) -> Duration {
    let seconds = f64::from(seconds) * (1.0 + JITTER * jitter.clamp(-1.0, 1.0));
    Duration::from_secs_f64(seconds.round().max(1.0))
}

/// `Retry-After` counts on 429 (RFC 6585) and 503 (RFC 9110), and is rounded up to whole seconds.
fn asked_for(outcome: &AttemptOutcome) -> Option<Duration> {
    match outcome {
        AttemptOutcome::Answered(answer) if matches!(answer.status, 429 | 503) => {
            let wait = answer.retry_after?;
            let part = u64::from(wait.subsec_nanos() > 0);
            Some(Duration::from_secs(wait.as_secs().saturating_add(part)).min(MAX_WAIT))
        }
        _ => None,
    }
}

/// Reads a `Retry-After` (RFC 9110, section 10.2.3): seconds, or a date. A date is counted from
/// the answer's own `Date`, so the clock of the receiver may be wrong. Where the answer has no valid `Date`, the date is
/// counted from the arrival of the answer (RFC 9110, section 6.6.1).
pub fn retry_after(value: &str, date: Option<&str>, received_at: Timestamp) -> Option<Duration> {
    let value = value.trim();
    if !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit()) {
        let seconds = value.parse().unwrap_or(u64::MAX);
        return Some(Duration::from_secs(seconds).min(MAX_WAIT));
    }
    let read = |date| httpdate::parse_http_date(date).map(Timestamp::from).ok();
    let until = read(value)?;
    let from = date
        .and_then(|date| read(date.trim()))
        .unwrap_or(received_at);
    Some(until.remaining(from).min(MAX_WAIT))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::outcome::{FailureKind, ReceiverResponse, RequestFailure};

    fn answered(status: u16, retry_after: Option<u64>) -> AttemptOutcome {
        AttemptOutcome::Answered(ReceiverResponse {
            status,
            body: String::new(),
            retry_after: retry_after.map(Duration::from_secs),
            location: None,
        })
    }

    fn next(outcome: &AttemptOutcome, attempt: u32) -> RetryDecision {
        let made = FinishedAttempt {
            outcome,
            step: attempt,
            kind: DeliveryKind::Event,
        };
        decide(made, &RetrySchedule::default(), 0.0)
    }

    fn again(seconds: u64) -> RetryDecision {
        RetryDecision::Retry(Duration::from_secs(seconds))
    }

    #[test]
    fn the_default_schedule_makes_nine_attempts() {
        let waits = (1..=9)
            .map(|attempt| next(&answered(500, None), attempt))
            .collect::<Vec<_>>();
        let mut expected = [5, 30, 120, 900, 3_600, 14_400, 43_200, 86_400]
            .map(again)
            .to_vec();
        expected.push(RetryDecision::Exhausted(ExhaustedReason::OutOfAttempts));
        assert_eq!(waits, expected);
    }

    #[test]
    fn any_2xx_is_delivered_and_a_redirect_is_a_failure() {
        assert_eq!(next(&answered(200, None), 1), RetryDecision::Delivered);
        assert_eq!(next(&answered(299, None), 9), RetryDecision::Delivered);
        for status in [100, 199, 300, 301, 307, 400, 404, 500] {
            assert_eq!(next(&answered(status, None), 1), again(5), "{status}");
        }
    }

    #[test]
    fn a_failure_without_an_answer_is_retried() {
        let failure = RequestFailure {
            kind: FailureKind::Timeout,
            message: String::new(),
            status: Some(200),
        };
        assert_eq!(next(&AttemptOutcome::Failed(failure), 1), again(5));
    }

    #[test]
    fn a_gone_endpoint_is_never_retried() {
        assert_eq!(
            next(&answered(410, Some(1)), 1),
            RetryDecision::Exhausted(ExhaustedReason::Gone)
        );
    }

    #[test]
    fn the_longer_of_schedule_and_retry_after_counts_on_429_and_503() {
        assert_eq!(next(&answered(429, Some(60)), 1), again(60));
        assert_eq!(next(&answered(503, Some(60)), 3), again(120));
        assert_eq!(next(&answered(500, Some(60)), 1), again(5));
        assert_eq!(
            next(&answered(503, Some(u64::MAX)), 1),
            RetryDecision::Retry(MAX_WAIT)
        );
        assert_eq!(
            next(&answered(503, Some(60)), 9),
            RetryDecision::Exhausted(ExhaustedReason::OutOfAttempts)
        );
    }

    #[test]
    fn a_test_is_sent_once() {
        let made = FinishedAttempt {
            outcome: &answered(500, None),
            step: 1,
            kind: DeliveryKind::Test,
        };
        let next = decide(made, &RetrySchedule::default(), 0.0);
        assert_eq!(
            next,
            RetryDecision::Exhausted(ExhaustedReason::OutOfAttempts)
        );
    }

    #[test]
    fn a_retry_after_date_is_counted_from_the_answers_date_or_else_from_its_arrival() {
        let date = Some("Sun, 06 Nov 1994 08:49:37 GMT");
        let received_at = Timestamp::parse("1994-11-06T08:50:00Z").unwrap();
        let wait = |value, date| retry_after(value, date, received_at).map(|wait| wait.as_secs());
        assert_eq!(wait("120", None), Some(120));
        assert_eq!(wait("Sun, 06 Nov 1994 08:50:37 GMT", date), Some(60));
        assert_eq!(wait("Sun, 06 Nov 1994 08:48:37 GMT", date), Some(0));
        assert_eq!(wait("Sun, 06 Nov 1994 08:50:37 GMT", None), Some(37));
        assert_eq!(wait("Sun, 06 Nov 1994 08:50:37 GMT", Some("?")), Some(37));
        assert_eq!(
            wait("99999999999999999999999", None),
            Some(MAX_WAIT.as_secs())
        );
        for bad in ["", "soon", "-1", "1.5", "+5"] {
            assert_eq!(wait(bad, date), None, "{bad}");
        }
    }

    #[test]
    fn a_schedule_has_at_most_30_waits_of_a_second_to_a_day() {
        assert!(RetrySchedule::new(vec![]).is_ok());
        assert!(RetrySchedule::new(vec![86_400; 30]).is_ok());
        assert_eq!(
            RetrySchedule::new(vec![1; 31]),
            Err(InvalidSchedule::TooMany)
        );
        assert_eq!(
            RetrySchedule::new(vec![0]),
            Err(InvalidSchedule::OutOfRange)
        );
        assert_eq!(
            RetrySchedule::new(vec![86_401]),
            Err(InvalidSchedule::OutOfRange)
        );
    }

    proptest! {
        #[test]
        fn a_wait_is_whole_seconds_within_a_tenth_of_the_schedules(seconds in 1u32..=86_400, jitter: f64) {
            let made = FinishedAttempt { outcome: &answered(500, None), step: 1, kind: DeliveryKind::Event };
            let schedule = RetrySchedule::new(vec![seconds]).unwrap();
            let RetryDecision::Retry(wait) = decide(made, &schedule, jitter) else { panic!("not retried") };
            prop_assert_eq!(wait.subsec_nanos(), 0);
            prop_assert!(wait >= Duration::from_secs(1));
            let off = wait.as_secs_f64() - f64::from(seconds);
            prop_assert!(off.abs() <= f64::from(seconds) * JITTER + 0.5);
        }
    }
}
