//! A breaker for each subscription: a receiver that failed again and again is not called any more,
//! but for one request now and then that finds out whether it is back.
//!
//! A 4xx counts neither way: whoever refuses an event is up, and it says nothing about the next
//! one. So it neither opens the breaker nor makes failures forgotten; as a probe's answer it will
//! do. Waits need no chance in them: receivers that fail together still open one by one, each after
//! failures of its own.

use std::time::{Duration, Instant};

use hookline_core::outcome::{AttemptOutcome, FailureKind};

/// The first wait for a probe; it doubles with each that fails.
const FIRST_WAIT: Duration = Duration::from_secs(1);

/// The longest wait for a probe, whatever the receiver asks for.
const LONGEST_WAIT: Duration = Duration::from_secs(60);

/// What an outcome says about the receiver.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It works.
    Well,
    /// It does not, and may have said for how long.
    Ill {
        /// None when it did not; more than a minute counts as a minute.
        asked_for: Option<Duration>,
    },
    /// Nothing: the answer is about the event, or nobody was called.
    Neither,
}

impl From<&AttemptOutcome> for Verdict {
    fn from(outcome: &AttemptOutcome) -> Self {
        match outcome {
            _ if outcome.is_success() => Verdict::Well,
            AttemptOutcome::Answered(answer) if answer.status >= 500 || answer.status == 429 => {
                Verdict::Ill {
                    asked_for: answer.retry_after,
                }
            }
            AttemptOutcome::Answered(_) => Verdict::Neither,
            AttemptOutcome::Failed(failure) => match failure.kind {
                FailureKind::BlockedAddress | FailureKind::HttpStatus => Verdict::Neither,
                FailureKind::Timeout
                | FailureKind::Dns
                | FailureKind::Connect
                | FailureKind::Tls
                | FailureKind::Response => Verdict::Ill { asked_for: None },
            },
        }
    }
}

/// Whether requests may start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Breaker {
    /// They may; so many have failed in a row.
    Closed { failures: u32 },
    /// None before `until`.
    Open { until: Instant, wait: Duration },
    /// One may.
    Due { wait: Duration },
    /// One is on its way and decides.
    HalfOpen { wait: Duration },
    /// None before `until`, for a reason that is not the receiver's.
    Held { until: Instant },
}

/// How many may start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Admits {
    All,
    One,
    Nobody,
}

/// What a request is to the breaker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    Ordinary,
    Probe,
}

impl Breaker {
    /// Nothing is known.
    pub(crate) const NEW: Self = Breaker::Closed { failures: 0 };

    pub(crate) fn is_closed(self) -> bool {
        matches!(self, Breaker::Closed { .. })
    }

    pub(crate) fn admits(self) -> Admits {
        match self {
            Breaker::Closed { .. } => Admits::All,
            Breaker::Due { .. } => Admits::One,
            Breaker::Open { .. } | Breaker::HalfOpen { .. } | Breaker::Held { .. } => {
                Admits::Nobody
            }
        }
    }

    /// One that an earlier owner opened, or of whose receiver nothing is known but that deliveries wait.
    pub(crate) fn taken_over(wait: Option<Duration>) -> Self {
        let wait = wait.unwrap_or(FIRST_WAIT);
        Breaker::Due { wait }
    }

    /// When it lets one start, where that is a matter of time.
    pub(crate) fn lets_one_start_at(self) -> Option<Instant> {
        match self {
            Breaker::Open { until, .. } | Breaker::Held { until } => Some(until),
            Breaker::Closed { .. } | Breaker::Due { .. } | Breaker::HalfOpen { .. } => None,
        }
    }

    /// That moment has come.
    pub(crate) fn let_one_start(&mut self) {
        *self = match *self {
            Breaker::Open { wait, .. } => Breaker::Due { wait },
            Breaker::Held { .. } => Breaker::Due { wait: FIRST_WAIT },
            same => same,
        };
    }

    /// Its wait, for the next owner; none where it is closed.
    pub(crate) fn wait(self) -> Option<Duration> {
        match self {
            Breaker::Closed { .. } | Breaker::Held { .. } => None,
            Breaker::Open { wait, .. } | Breaker::Due { wait } | Breaker::HalfOpen { wait } => {
                Some(wait)
            }
        }
    }

    /// A request starts.
    pub(crate) fn started(&mut self) -> Role {
        match *self {
            Breaker::Open { wait, .. } | Breaker::Due { wait } => {
                *self = Breaker::HalfOpen { wait };
                Role::Probe
            }
            Breaker::Closed { .. } | Breaker::HalfOpen { .. } | Breaker::Held { .. } => {
                Role::Ordinary
            }
        }
    }

    /// A request is over; none when it was never made. The breaker opens at `limit` failures.
    pub(crate) fn over(&mut self, role: Role, verdict: Option<Verdict>, limit: u32, now: Instant) {
        *self = match (*self, role, verdict) {
            (_, _, Some(Verdict::Well)) => Breaker::NEW,
            (Breaker::HalfOpen { .. }, Role::Probe, Some(Verdict::Neither)) => Breaker::NEW,
            (Breaker::HalfOpen { wait }, Role::Probe, Some(Verdict::Ill { asked_for })) => {
                Self::open(2 * wait, asked_for, now)
            }
            (Breaker::HalfOpen { wait }, Role::Probe, None) => Breaker::Due { wait },
            (Breaker::Closed { failures }, _, Some(Verdict::Ill { asked_for })) => {
                match failures + 1 {
                    failures if failures < limit => Breaker::Closed { failures },
                    _ => Self::open(FIRST_WAIT, asked_for, now),
                }
            }
            // What was on its way when the breaker opened fails, too; that is no news.
            (same, ..) => same,
        };
    }

    fn open(wait: Duration, asked_for: Option<Duration>, now: Instant) -> Self {
        let wait = wait.min(LONGEST_WAIT);
        let until = now + wait.max(asked_for.unwrap_or_default().min(LONGEST_WAIT));
        Breaker::Open { until, wait }
    }
}

#[cfg(test)]
mod tests {
    use hookline_core::outcome::{ReceiverResponse, RequestFailure};

    use super::*;

    const ILL: Option<Verdict> = Some(Verdict::Ill { asked_for: None });

    fn opened(now: Instant) -> Breaker {
        let mut breaker = Breaker::NEW;
        for _ in 0..3 {
            assert_eq!(breaker.admits(), Admits::All);
            let role = breaker.started();
            breaker.over(role, ILL, 3, now);
        }
        breaker
    }

    fn answered(status: u16, retry_after: Option<u64>) -> Verdict {
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
        assert_eq!(answered(204, None), Verdict::Well);
        for status in [301, 400, 401, 404, 410, 422] {
            assert_eq!(answered(status, None), Verdict::Neither, "{status}");
        }
        for status in [429, 500, 503] {
            let asked_for = Some(Duration::from_secs(9));
            assert_eq!(answered(status, Some(9)), Verdict::Ill { asked_for });
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
            let is_ill = Verdict::from(&failed) != Verdict::Neither;
            assert_eq!(is_ill, says_something, "{kind:?}");
        }
    }

    #[test]
    fn failures_in_a_row_open_it_and_a_success_between_them_does_not_count_as_one() {
        let now = Instant::now();
        let mut breaker = Breaker::NEW;
        for verdict in [ILL, ILL, Some(Verdict::Well), ILL, ILL] {
            breaker.over(Role::Ordinary, verdict, 3, now);
        }
        assert_eq!(breaker, Breaker::Closed { failures: 2 });
        breaker.over(Role::Ordinary, Some(Verdict::Neither), 3, now);
        breaker.over(Role::Ordinary, ILL, 3, now);
        assert_eq!(breaker.admits(), Admits::Nobody);
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
        assert_eq!(breaker.admits(), Admits::Nobody);
        breaker.over(role, Some(Verdict::Well), 3, later);
        assert_eq!(breaker, Breaker::NEW);
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
        breaker.over(Role::Ordinary, Some(Verdict::Well), 3, now);
        assert_eq!(breaker, Breaker::NEW);
    }

    #[test]
    fn a_receiver_that_asks_for_time_gets_it_up_to_a_minute() {
        let now = Instant::now();
        for (asked, given) in [(30, 30), (3_600, 60)] {
            let asked_for = Some(Duration::from_secs(asked));
            let mut breaker = Breaker::NEW;
            breaker.over(Role::Ordinary, Some(Verdict::Ill { asked_for }), 1, now);
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
