//! A watchdog: a dispatcher beats only while each of its parts makes progress. Another dispatcher then takes the
//! partitions of a process that lives and delivers nothing.

use std::sync::Arc;
use std::time::{Duration, Instant};

use hookline_runtime::failpoint;
use parking_lot::Mutex;
use strum::{EnumCount, EnumIter, IntoEnumIterator as _, IntoStaticStr};

/// A turn that takes longer hangs. An idle part finishes turns as well.
const LONGEST_TURN: Duration = Duration::from_secs(5);

/// A loop that deliveries depend on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, EnumCount, EnumIter, IntoStaticStr)]
#[strum(serialize_all = "snake_case")]
pub(crate) enum WatchedPart {
    Scheduler,
    Look,
    Recorder,
}

/// When each part last finished a turn.
#[derive(Debug, Clone)]
pub(crate) struct Watchdog {
    finished_at: Arc<Mutex<[Instant; WatchedPart::COUNT]>>,
}

impl Watchdog {
    /// Begins as if each part had just finished a turn.
    pub(crate) fn new(now: Instant) -> Self {
        let finished_at = Arc::new(Mutex::new([now; WatchedPart::COUNT]));
        Self { finished_at }
    }

    /// Notes a finished turn. A turn that ended with an error of the store is finished as well.
    ///
    /// `dispatcher::turn::PART` is a failpoint. A sleep there simulates a part that hangs in a process that lives.
    pub(crate) fn finished(&self, part: WatchedPart, now: Instant) {
        failpoint::point_of("dispatcher::turn", <&str>::from(part));
        self.finished_at.lock()[part as usize] = now;
    }

    /// The first part that hangs.
    pub(super) fn hanging(&self, now: Instant) -> Option<WatchedPart> {
        let finished_at = *self.finished_at.lock();
        WatchedPart::iter()
            .find(|part| now.saturating_duration_since(finished_at[*part as usize]) > LONGEST_TURN)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_without_a_turn_for_five_seconds_hangs() {
        let began = Instant::now();
        let watchdog = Watchdog::new(began);
        let later = began + Duration::from_secs(6);
        assert_eq!(watchdog.hanging(began + LONGEST_TURN), None);
        watchdog.finished(WatchedPart::Scheduler, later);
        watchdog.finished(WatchedPart::Recorder, later);
        assert_eq!(watchdog.hanging(later), Some(WatchedPart::Look));
        watchdog.finished(WatchedPart::Look, later);
        assert_eq!(watchdog.hanging(later), None);
    }
}
