//! Repeated requests: which are allowed, and how many.
//!
//! A dispatcher repeats a request that was answered with 2xx if the record of the answer is lost. The request was in
//! flight, or answered and not yet recorded, when its process was killed, frozen or cut off. Each repeat needs such an
//! fault to explain it. One fault explains at most as many repeats as a dispatcher has slots. An answer that comes after
//! the deadline is no answer: its repeat is the receiver's doing.
//!
//! A failover takes committed records back. It explains a repeat of every request that was answered in its window, and
//! its bound is their number.

use std::time::{Duration, Instant};

use super::fault::Fault;
use super::plan::{DEADLINE, Performed, SLOTS};

/// The time that a dispatcher's own work may add to an answer, as its deadline sees it.
const NEARLY: Duration = Duration::from_millis(300);

/// Within this time an answer is recorded, while the database takes records.
const RECORDED_WITHIN: Duration = Duration::from_secs(2);

/// How long after a failover a former owner of a partition may still act. The table of partitions does not name it any
/// more, but a beat is valid for 2.5 s.
const OWNERS_AGREE_WITHIN: Duration = Duration::from_secs(3);

/// A request that was answered with 2xx.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct AcceptedRequest {
    pub(super) received_at: Instant,
    pub(super) answered: Instant,
}

impl AcceptedRequest {
    fn is_late(&self) -> bool {
        self.answered.saturating_duration_since(self.received_at) + NEARLY >= DEADLINE
    }
}

/// How often requests were repeated.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Repeats {
    /// After an answer that came too late.
    pub after_late_answers: usize,
    /// Explained by a fault.
    pub explained: usize,
    /// Explained by no fault.
    pub unexplained: usize,
    /// How many the faults of the run may explain.
    pub bound: usize,
}

impl Repeats {
    /// Sorts the repeats of all deliveries: of each, those that were taken.
    pub(super) fn of(deliveries: &[Vec<AcceptedRequest>], performed: &[Performed]) -> Self {
        let slots: usize = performed
            .iter()
            .map(|done| done.injection.slots_repeated())
            .sum();
        let windows = windows(performed);
        let fail_overs: Vec<Window> = windows
            .iter()
            .copied()
            .filter(|one| one.fails_over)
            .collect();
        let accepted = deliveries.iter().flatten();
        let in_fail_overs =
            accepted.filter(|accepted| fail_overs.iter().any(|one| one.explains(accepted)));
        let mut repeats = Self {
            bound: slots * SLOTS + in_fail_overs.count(),
            ..Self::default()
        };
        for delivery in deliveries {
            let (late, mut in_time): (Vec<AcceptedRequest>, Vec<AcceptedRequest>) =
                delivery.iter().partition(|accepted| accepted.is_late());
            repeats.after_late_answers += late.len().min(delivery.len().saturating_sub(1));
            in_time.sort_by_key(|accepted| accepted.answered);
            // The last one was not made again.
            in_time.pop();
            for accepted in in_time {
                match windows.iter().any(|window| window.explains(&accepted)) {
                    true => repeats.explained += 1,
                    false => repeats.unexplained += 1,
                }
            }
        }
        repeats
    }

    pub(super) fn are_allowed(&self) -> bool {
        self.unexplained == 0 && self.explained <= self.bound
    }
}

/// When a record may have been lost.
#[derive(Debug, Clone, Copy)]
struct Window {
    from: Instant,
    until: Instant,
    fails_over: bool,
}

impl Window {
    fn explains(&self, accepted: &AcceptedRequest) -> bool {
        accepted.answered >= self.from && accepted.received_at <= self.until
    }
}

/// While a fault on a dispatcher, or a failover, lasts, and shortly before. If earlier faults held up the records, it is
/// from the beginning of those faults.
fn windows(performed: &[Performed]) -> Vec<Window> {
    let mut windows = Vec::new();
    for (index, done) in performed.iter().enumerate() {
        let fails_over = done.injection.fault == Fault::FailOver;
        if done.injection.slots_repeated() == 0 && !fails_over {
            continue;
        }
        let mut from = done.began - RECORDED_WITHIN;
        for before in performed[..index].iter().rev() {
            if before.back < from {
                break;
            }
            from = before.began - RECORDED_WITHIN;
        }
        let until = match fails_over {
            true => done.back + OWNERS_AGREE_WITHIN,
            false => done.back,
        };
        windows.push(Window {
            from,
            until,
            fails_over,
        });
    }
    windows
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chaos::fault::{Injection, Target};

    const SECOND: Duration = Duration::from_secs(1);

    fn done(began: Instant, from: u32, until: u32, target: Target) -> Performed {
        Performed {
            injection: Injection {
                at: from * SECOND,
                fault: Fault::Kill,
                targets: vec![target],
                away: SECOND,
            },
            began: began + from * SECOND,
            back: began + until * SECOND,
        }
    }

    fn accepted(began: Instant, received_at: f64, answered: f64) -> AcceptedRequest {
        AcceptedRequest {
            received_at: began + Duration::from_secs_f64(received_at),
            answered: began + Duration::from_secs_f64(answered),
        }
    }

    #[test]
    fn a_repeat_needs_a_fault_that_lost_the_record() {
        let began = Instant::now() + 60 * SECOND;
        let performed = [
            done(began, 10, 12, Target::Dispatcher(0)),
            done(began, 30, 34, Target::Postgres),
            done(began, 35, 36, Target::Serve),
        ];
        let again = accepted(began, 50.0, 50.1);
        let of = |first| Repeats::of(&[vec![again, first]], &performed);
        for (received_at, answered, explained) in [
            (5.0, 5.1, 0),
            (9.0, 9.1, 1),
            (9.9, 11.0, 1),
            (13.0, 13.1, 0),
            // Not recorded while the database was away, and then killed.
            (29.0, 29.5, 1),
        ] {
            let repeats = of(accepted(began, received_at, answered));
            assert_eq!(
                (repeats.explained, repeats.unexplained),
                (explained, 1 - explained),
                "{received_at}"
            );
        }
        assert_eq!(of(accepted(began, 5.0, 9.0)).after_late_answers, 1);
        assert_eq!(of(again).bound, 2 * SLOTS);
    }

    #[test]
    fn a_failover_repeats_what_was_answered_in_its_window_at_most() {
        let began = Instant::now() + 60 * SECOND;
        let mut fail_over = done(began, 10, 12, Target::Postgres);
        fail_over.injection.fault = Fault::FailOver;
        let again = accepted(began, 20.0, 20.1);
        let deliveries: Vec<Vec<AcceptedRequest>> = [5.0, 9.0, 11.0, 14.0, 16.0]
            .map(|received_at| vec![again, accepted(began, received_at, received_at + 0.1)])
            .to_vec();
        let repeats = Repeats::of(&deliveries, &[fail_over]);
        assert_eq!((repeats.explained, repeats.unexplained), (3, 2));
        assert_eq!(repeats.bound, 3);
    }

    #[test]
    fn a_single_request_is_no_repeat() {
        let began = Instant::now();
        let once = [
            vec![accepted(began, 0.0, 0.1)],
            vec![accepted(began, 0.0, 4.0)],
            vec![],
        ];
        assert_eq!(Repeats::of(&once, &[]), Repeats::default());
    }
}
