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
pub enum Health {
    /// The receiver works.
    Healthy,
    /// The receiver fails.
    Unhealthy {
        /// The `Retry-After` of the response, if any; more than a minute counts as a minute.
        asked_for: Option<Duration>,
    },
    /// The outcome shows nothing: the response is about the event, or no request was made.
    Unknown,
}

impl From<&AttemptOutcome> for Health {
    fn from(outcome: &AttemptOutcome) -> Self {
        match outcome {
            _ if outcome.is_success() => Health::Healthy,
            AttemptOutcome::Answered(answer) if answer.status >= 500 || answer.status == 429 => {
                Health::Unhealthy {
                    asked_for: answer.retry_after,
                }
            }
            AttemptOutcome::Answered(_) => Health::Unknown,
            AttemptOutcome::Failed(failure) => match failure.kind {
                FailureKind::BlockedAddress | FailureKind::HttpStatus => Health::Unknown,
                FailureKind::Timeout
                | FailureKind::Dns
                | FailureKind::Connect
                | FailureKind::Tls
                | FailureKind::Response => Health::Unhealthy { asked_for: None },
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
    Held { until: Instant },
}

/// How many requests may start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Admits {
    All,
    One,
    Nothing,
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

    pub(crate) fn admits(self) -> Admits {
        match self {
            CircuitBreaker::Closed { .. } => Admits::All,
            CircuitBreaker::Due { .. } => Admits::One,
            CircuitBreaker::Open { .. }
            | CircuitBreaker::HalfOpen { .. }
            | CircuitBreaker::Held { .. } => Admits::Nothing,
        }
    }

    /// The breaker of a subscription that was taken over with waiting deliveries. The breaker was open at an earlier
    /// owner, or the health of its receiver is unknown.
    pub(crate) fn taken_over(wait: Option<Duration>) -> Self {
        let wait = wait.unwrap_or(FIRST_WAIT);
        CircuitBreaker::Due { wait }
    }

    /// When the breaker lets a probe start, where this depends on the time alone.
    pub(crate) fn lets_one_start_at(self) -> Option<Instant> {
        match self {
            CircuitBreaker::Open { until, .. } | CircuitBreaker::Held { until } => Some(until),
            CircuitBreaker::Closed { .. }
            | CircuitBreaker::Due { .. }
            | CircuitBreaker::HalfOpen { .. } => None,
        }
    }

    /// Ends the wait: one probe may start.
    pub(crate) fn let_one_start(&mut self) {
        *self = match *self {
            CircuitBreaker::Open { wait, .. } => CircuitBreaker::Due { wait },
            CircuitBreaker::Held { .. } => CircuitBreaker::Due { wait: FIRST_WAIT },
            same => same,
        };
    }

    /// The wait that the next owner continues; none for a closed breaker.
    pub(crate) fn wait(self) -> Option<Duration> {
        match self {
            CircuitBreaker::Closed { .. } | CircuitBreaker::Held { .. } => None,
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
            | CircuitBreaker::Held { .. } => Role::Ordinary,
        }
    }

    /// Counts the end of a request; `verdict` is none where no request was made. The breaker opens at `limit` failures.
    pub(crate) fn over(&mut self, role: Role, verdict: Option<Health>, limit: u32, now: Instant) {
        *self = match (*self, role, verdict) {
            (_, _, Some(Health::Healthy)) => CircuitBreaker::NEW,
            (CircuitBreaker::HalfOpen { .. }, Role::Probe, Some(Health::Unknown)) => {
                CircuitBreaker::NEW
            }
            (
                CircuitBreaker::HalfOpen { wait },
                Role::Probe,
                Some(Health::Unhealthy { asked_for }),
            ) => Self::open(2 * wait, asked_for, now),
            (CircuitBreaker::HalfOpen { wait }, Role::Probe, None) => CircuitBreaker::Due { wait },
            (CircuitBreaker::Closed { failures }, _, Some(Health::Unhealthy { asked_for })) => {
                match failures + 1 {
                    failures if failures < limit => CircuitBreaker::Closed { failures },
                    _ => Self::open(FIRST_WAIT, asked_for, now),
                }
            }
            // A request that was in flight when the breaker opened fails, too. Its failure is no news.
            (same, ..) => same,
        };
    }

    fn open(wait: Duration, asked_for: Option<Duration>, now: Instant) -> Self {
        let wait = wait.min(LONGEST_WAIT);
        let until = now + wait.max(asked_for.unwrap_or_default().min(LONGEST_WAIT));
        CircuitBreaker::Open { until, wait }
    }
}

#[cfg(test)]
mod tests {
    use hookline_core::outcome::{ReceiverResponse, RequestFailure};

    use super::*;

    const ILL: Option<Health> = Some(Health::Unhealthy { asked_for: None });

    fn opened(now: Instant) -> CircuitBreaker {
        let mut breaker = CircuitBreaker::NEW;
        for _ in 0..3 {
            assert_eq!(breaker.admits(), Admits::All);
            let role = breaker.started();
            breaker.over(role, ILL, 3, now);
        }
        breaker
    }

    fn answered(status: u16, retry_after: Option<u64>) -> Health {
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
    fn an_answer_about_the_event_says_nothing_about_the_receiver() {
        assert_eq!(answered(204, None), Health::Healthy);
        for status in [301, 400, 401, 404, 410, 422] {
            assert_eq!(answered(status, None), Health::Unknown, "{status}");
        }
        for status in [429, 500, 503] {
            let asked_for = Some(Duration::from_secs(9));
            assert_eq!(answered(status, Some(9)), Health::Unhealthy { asked_for });
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
            let is_ill = Health::from(&failed) != Health::Unknown;
            assert_eq!(is_ill, says_something, "{kind:?}");
        }
    }

    #[test]
    fn failures_in_a_row_open_it_and_a_success_between_them_does_not_count_as_one() {
        let now = Instant::now();
        let mut breaker = CircuitBreaker::NEW;
        for verdict in [ILL, ILL, Some(Health::Healthy), ILL, ILL] {
            breaker.over(Role::Ordinary, verdict, 3, now);
        }
        assert_eq!(breaker, CircuitBreaker::Closed { failures: 2 });
        breaker.over(Role::Ordinary, Some(Health::Unknown), 3, now);
        breaker.over(Role::Ordinary, ILL, 3, now);
        assert_eq!(breaker.admits(), Admits::Nothing);
    }

    #[test]
    fn after_its_wait_one_probe_goes_out_and_a_success_closes_it() {
        let now = Instant::now();
        let mut breaker = opened(now);
        let later = now + FIRST_WAIT;
        assert_eq!(breaker.lets_one_start_at(), Some(later));
        breaker.let_one_start();
        assert_eq!(breaker.admits(), Admits::One);
        let role = breaker.started();
        assert_eq!(role, Role::Probe);
        assert_eq!(breaker.admits(), Admits::Nothing);
        breaker.over(role, Some(Health::Healthy), 3, later);
        assert_eq!(breaker, CircuitBreaker::NEW);
    }

    #[test]
    fn each_probe_that_fails_doubles_the_wait_up_to_a_minute() {
        let mut now = Instant::now();
        let mut breaker = opened(now);
        for seconds in [1, 2, 4, 8, 16, 32, 60, 60] {
            let wait = Duration::from_secs(seconds);
            assert_eq!(breaker.lets_one_start_at(), Some(now + wait));
            assert_eq!(breaker.wait(), Some(wait));
            now += wait;
            let role = breaker.started();
            breaker.over(role, ILL, 3, now);
        }
    }

    #[test]
    fn what_was_on_its_way_when_it_opened_changes_nothing_by_failing_and_closes_it_by_success() {
        let now = Instant::now();
        let mut breaker = opened(now);
        let open = breaker;
        breaker.over(Role::Ordinary, ILL, 3, now);
        assert_eq!(breaker, open);
        breaker.over(Role::Ordinary, Some(Health::Healthy), 3, now);
        assert_eq!(breaker, CircuitBreaker::NEW);
    }

    #[test]
    fn a_receiver_that_asks_for_time_gets_it_up_to_a_minute() {
        let now = Instant::now();
        for (asked, given) in [(30, 30), (3_600, 60)] {
            let asked_for = Some(Duration::from_secs(asked));
            let mut breaker = CircuitBreaker::NEW;
            breaker.over(
                Role::Ordinary,
                Some(Health::Unhealthy { asked_for }),
                1,
                now,
            );
            let until = now + Duration::from_secs(given);
            assert_eq!(breaker.lets_one_start_at(), Some(until));
        }
    }

    #[test]
    fn a_probe_that_was_never_made_leaves_its_place_to_the_next() {
        let now = Instant::now();
        let mut breaker = opened(now);
        let later = now + FIRST_WAIT;
        let role = breaker.started();
        breaker.over(role, None, 3, later);
        assert_eq!(breaker.admits(), Admits::One);
    }
}
