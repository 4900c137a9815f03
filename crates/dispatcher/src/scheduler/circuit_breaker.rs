//! A circuit breaker for each subscription: after repeated failures it stops the requests to a receiver. One probe at a
//! time finds out whether the receiver works again.
//!
//! A 4xx counts neither way. A receiver that refuses an event is up, and the response says nothing about the next
//! event. A 4xx neither opens the breaker nor resets the count of failures. As the response to a probe it closes the
//! breaker. The waits have no jitter. Receivers that fail together still open one by one, each after failures of its
//! own.

use std::time::{Duration, Instant};

use hookline_core::outcome::{AttemptOutcome, FailureKind};

/// The first wait for a probe; each failed probe doubles it.
const FIRST_WAIT: Duration = Duration::from_secs(1);

/// The longest wait for a probe, also where the receiver asks for more.
const LONGEST_WAIT: Duration = Duration::from_secs(60);

/// The health of the receiver that an outcome shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReceiverHealth {
    /// The receiver works.
    Healthy,
    /// The receiver fails.
    Unhealthy {
        /// The `Retry-After` of the response, if any; more than a minute counts as a minute.
        retry_after: Option<Duration>,
    },
    /// The outcome shows nothing: the response is about the event, or no request was made.
    Unknown,
}

impl From<&AttemptOutcome> for ReceiverHealth {
    fn from(outcome: &AttemptOutcome) -> Self {
        match outcome {
            _ if outcome.is_success() => ReceiverHealth::Healthy,
            AttemptOutcome::Answered(answer) if answer.status >= 500 || answer.status == 429 => {
                ReceiverHealth::Unhealthy {
                    retry_after: answer.retry_after,
                }
            }
            AttemptOutcome::Answered(_) => ReceiverHealth::Unknown,
            AttemptOutcome::Failed(failure) => match failure.kind {
                FailureKind::BlockedAddress | FailureKind::HttpStatus => ReceiverHealth::Unknown,
                FailureKind::Timeout
                | FailureKind::Dns
                | FailureKind::Connect
                | FailureKind::Tls
                | FailureKind::Response => ReceiverHealth::Unhealthy { retry_after: None },
            },
        }
    }
}

/// Whether requests may start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CircuitBreaker {
    /// All requests may start. `failures` counts the consecutive failures.
    Closed { failures: u32 },
    /// No request starts before `until`.
    Open { until: Instant, wait: Duration },
    /// One probe may start.
    Due { wait: Duration },
    /// A probe is in flight, and its outcome decides.
    HalfOpen { wait: Duration },
    /// No request starts before `until`, for a reason that lies outside the receiver.
    Suspended { until: Instant },
}

/// The role of a request for the circuit breaker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    Ordinary,
    Probe,
}

impl CircuitBreaker {
    /// The state without any knowledge of the receiver.
    pub(crate) const NEW: Self = CircuitBreaker::Closed { failures: 0 };

    pub(crate) fn is_closed(self) -> bool {
        matches!(self, CircuitBreaker::Closed { .. })
    }

    /// The breaker of a subscription that was taken over with waiting deliveries. The breaker was open at an earlier
    /// owner, or the health of its receiver is unknown.
    pub(crate) fn taken_over(wait: Option<Duration>) -> Self {
        let wait = wait.unwrap_or(FIRST_WAIT);
        CircuitBreaker::Due { wait }
    }

    /// When the breaker lets a probe start, where this depends on the time alone.
    pub(crate) fn probe_at(self) -> Option<Instant> {
        match self {
            CircuitBreaker::Open { until, .. } | CircuitBreaker::Suspended { until } => Some(until),
            CircuitBreaker::Closed { .. }
            | CircuitBreaker::Due { .. }
            | CircuitBreaker::HalfOpen { .. } => None,
        }
    }

    /// Ends the wait: one probe may start.
    pub(crate) fn allow_probe(&mut self) {
        *self = match *self {
            CircuitBreaker::Open { wait, .. } => CircuitBreaker::Due { wait },
            CircuitBreaker::Suspended { .. } => CircuitBreaker::Due { wait: FIRST_WAIT },
            same => same,
        };
    }

    /// The wait that the next owner continues; none for a closed breaker.
    pub(crate) fn wait(self) -> Option<Duration> {
        match self {
            CircuitBreaker::Closed { .. } | CircuitBreaker::Suspended { .. } => None,
            CircuitBreaker::Open { wait, .. }
            | CircuitBreaker::Due { wait }
            | CircuitBreaker::HalfOpen { wait } => Some(wait),
        }
    }

    /// Counts the start of a request, and returns its role.
    pub(crate) fn started(&mut self) -> Role {
        match *self {
            CircuitBreaker::Open { wait, .. } | CircuitBreaker::Due { wait } => {
                *self = CircuitBreaker::HalfOpen { wait };
                Role::Probe
            }
            CircuitBreaker::Closed { .. }
            | CircuitBreaker::HalfOpen { .. }
            | CircuitBreaker::Suspended { .. } => Role::Ordinary,
        }
    }

    /// Counts the end of a request; `health` is none where no request was made. The breaker opens at `limit` failures.
    pub(crate) fn finished(
        &mut self,
        role: Role,
        health: Option<ReceiverHealth>,
        limit: u32,
        now: Instant,
    ) {
        *self = match (*self, role, health) {
            (_, _, Some(ReceiverHealth::Healthy)) => CircuitBreaker::NEW,
            (CircuitBreaker::HalfOpen { .. }, Role::Probe, Some(ReceiverHealth::Unknown)) => {
                CircuitBreaker::NEW
            }
            (
                CircuitBreaker::HalfOpen { wait },
                Role::Probe,
                Some(ReceiverHealth::Unhealthy { retry_after }),
            ) => Self::open(2 * wait, retry_after, now),
            (CircuitBreaker::HalfOpen { wait }, Role::Probe, None) => CircuitBreaker::Due { wait },
            (
                CircuitBreaker::Closed { failures },
                _,
                Some(ReceiverHealth::Unhealthy { retry_after }),
            ) => match failures + 1 {
                failures if failures < limit => CircuitBreaker::Closed { failures },
                _ => Self::open(FIRST_WAIT, retry_after, now),
            },
            // A request that was in flight when the breaker opened fails, too. Its failure is no news.
            (same, ..) => same,
        };
    }

    fn open(wait: Duration, retry_after: Option<Duration>, now: Instant) -> Self {
        let wait = wait.min(LONGEST_WAIT);
        let until = now + wait.max(retry_after.unwrap_or_default().min(LONGEST_WAIT));
        CircuitBreaker::Open { until, wait }
    }
}

#[cfg(test)]
mod tests {
    use hookline_core::outcome::{ReceiverResponse, RequestFailure};

    use super::*;

    const UNHEALTHY: Option<ReceiverHealth> = Some(ReceiverHealth::Unhealthy { retry_after: None });

    fn opened(now: Instant) -> CircuitBreaker {
        let mut breaker = CircuitBreaker::NEW;
        for _ in 0..3 {
            assert!(breaker.is_closed());
            let role = breaker.started();
            breaker.finished(role, UNHEALTHY, 3, now);
        }
        breaker
    }

    fn answered(status: u16, retry_after: Option<u64>) -> ReceiverHealth {
        let retry_after = retry_after.map(Duration::from_secs);
        (&AttemptOutcome::Answered(ReceiverResponse {
            status,
            body: String::new(),
            retry_after,
            location: None,
        }))
            .into()
    }

    #[test]
    fn a_4xx_response_shows_nothing_about_the_receiver() {
        assert_eq!(answered(204, None), ReceiverHealth::Healthy);
        for status in [301, 400, 401, 404, 410, 422] {
            assert_eq!(answered(status, None), ReceiverHealth::Unknown, "{status}");
        }
        for status in [429, 500, 503] {
            let retry_after = Some(Duration::from_secs(9));
            assert_eq!(
                answered(status, Some(9)),
                ReceiverHealth::Unhealthy { retry_after }
            );
        }
        for (kind, says_something) in [
            (FailureKind::Timeout, true),
            (FailureKind::Dns, true),
            (FailureKind::Connect, true),
            (FailureKind::Tls, true),
            (FailureKind::Response, true),
            (FailureKind::BlockedAddress, false),
        ] {
            let (message, status) = (String::new(), Some(200));
            let failed = AttemptOutcome::Failed(RequestFailure {
                kind,
                message,
                status,
            });
            let is_unhealthy = ReceiverHealth::from(&failed) != ReceiverHealth::Unknown;
            assert_eq!(is_unhealthy, says_something, "{kind:?}");
        }
    }

    #[test]
    fn only_consecutive_failures_open_the_breaker() {
        let now = Instant::now();
        let mut breaker = CircuitBreaker::NEW;
        for health in [
            UNHEALTHY,
            UNHEALTHY,
            Some(ReceiverHealth::Healthy),
            UNHEALTHY,
            UNHEALTHY,
        ] {
            breaker.finished(Role::Ordinary, health, 3, now);
        }
        assert_eq!(breaker, CircuitBreaker::Closed { failures: 2 });
        breaker.finished(Role::Ordinary, Some(ReceiverHealth::Unknown), 3, now);
        breaker.finished(Role::Ordinary, UNHEALTHY, 3, now);
        assert!(matches!(breaker, CircuitBreaker::Open { .. }));
    }

    #[test]
    fn a_successful_probe_closes_the_breaker() {
        let now = Instant::now();
        let mut breaker = opened(now);
        let later = now + FIRST_WAIT;
        assert_eq!(breaker.probe_at(), Some(later));
        breaker.allow_probe();
        assert!(matches!(breaker, CircuitBreaker::Due { .. }));
        let role = breaker.started();
        assert_eq!(role, Role::Probe);
        assert!(matches!(breaker, CircuitBreaker::HalfOpen { .. }));
        breaker.finished(role, Some(ReceiverHealth::Healthy), 3, later);
        assert_eq!(breaker, CircuitBreaker::NEW);
    }

    #[test]
    fn each_failed_probe_doubles_the_wait_up_to_a_minute() {
        let mut now = Instant::now();
        let mut breaker = opened(now);
        for seconds in [1, 2, 4, 8, 16, 32, 60, 60] {
            let wait = Duration::from_secs(seconds);
            assert_eq!(breaker.probe_at(), Some(now + wait));
            assert_eq!(breaker.wait(), Some(wait));
            now += wait;
            let role = breaker.started();
            breaker.finished(role, UNHEALTHY, 3, now);
        }
    }

    #[test]
    fn a_request_from_before_the_opening_closes_the_breaker_by_success_and_changes_nothing_by_failure()
     {
        let now = Instant::now();
        let mut breaker = opened(now);
        let open = breaker;
        breaker.finished(Role::Ordinary, UNHEALTHY, 3, now);
        assert_eq!(breaker, open);
        breaker.finished(Role::Ordinary, Some(ReceiverHealth::Healthy), 3, now);
        assert_eq!(breaker, CircuitBreaker::NEW);
    }

    #[test]
    fn a_retry_after_lengthens_the_wait_up_to_a_minute() {
        let now = Instant::now();
        for (asked, given) in [(30, 30), (3_600, 60)] {
            let retry_after = Some(Duration::from_secs(asked));
            let mut breaker = CircuitBreaker::NEW;
            breaker.finished(
                Role::Ordinary,
                Some(ReceiverHealth::Unhealthy { retry_after }),
                1,
                now,
            );
            let until = now + Duration::from_secs(given);
            assert_eq!(breaker.probe_at(), Some(until));
        }
    }

    #[test]
    fn a_probe_without_a_request_leaves_its_place_to_the_next() {
        let now = Instant::now();
        let mut breaker = opened(now);
        let later = now + FIRST_WAIT;
        let role = breaker.started();
        breaker.finished(role, None, 3, later);
        assert!(matches!(breaker, CircuitBreaker::Due { .. }));
    }
}
