//! A watchdog: a dispatcher beats only while each of its parts makes progress. Another dispatcher then takes the
//! partitions of a process that lives and delivers nothing.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use hookline_runtime::failpoint;

/// A turn that takes longer hangs. An idle part finishes turns as well.
const LONGEST_TURN: Duration = Duration::from_secs(5);

/// A loop that deliveries depend on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part {
    Scheduler,
    Look,
    Recorder,
}

impl Part {
    const ALL: [Self; 3] = [Self::Scheduler, Self::Look, Self::Recorder];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Scheduler => "scheduler",
            Self::Look => "look",
            Self::Recorder => "recorder",
        }
    }
}

/// When each part last finished a turn.
#[derive(Debug, Clone)]
pub(crate) struct Progress {
    began: Instant,
    /// Milliseconds since `began`, in the order of [`Part::ALL`].
    finished: Arc<[AtomicU64; 3]>,
}

impl Progress {
    /// Begins as if each part had just finished a turn.
    pub(crate) fn new(now: Instant) -> Self {
        Self {
            began: now,
            finished: Arc::default(),
        }
    }

    /// Notes a finished turn. A turn that ended with an error of the store is finished as well.
    ///
    /// `dispatcher::turn::PART` is a failpoint. A sleep there simulates a part that hangs in a process that lives.
    pub(crate) fn finished(&self, part: Part, now: Instant) {
        failpoint::point_of("dispatcher::turn", part.name());
        let millis = now.saturating_duration_since(self.began).as_millis();
        let millis = u64::try_from(millis).unwrap_or(u64::MAX);
        self.finished[part as usize].fetch_max(millis, Ordering::Relaxed);
    }

    /// The first part that hangs.
    pub(super) fn hanging(&self, now: Instant) -> Option<Part> {
        Part::ALL.into_iter().find(|part| {
            let millis = self.finished[*part as usize].load(Ordering::Relaxed);
            let last = self.began + Duration::from_millis(millis);
            now.saturating_duration_since(last) > LONGEST_TURN
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_without_a_turn_for_five_seconds_hangs() {
        let began = Instant::now();
        let progress = Progress::new(began);
        let later = began + Duration::from_secs(6);
        assert_eq!(progress.hanging(began + LONGEST_TURN), None);
        progress.finished(Part::Scheduler, later);
        progress.finished(Part::Recorder, later);
        assert_eq!(progress.hanging(later), Some(Part::Look));
        progress.finished(Part::Look, later);
        assert_eq!(progress.hanging(later), None);
    }
}
