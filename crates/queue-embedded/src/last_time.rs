//! The service time of the last process with a folder.
//!
//! A folder's clock is the machine's, which may be set back between two processes, or during one: then service time goes on
//! and ends with that process. The due times of the next process would all be late by that much. Each process writes the
//! time into the folder, and the next one moves due times back by the difference.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use hookline_core::timestamp::Timestamp;
use hookline_store::owner_only;

const FILE: &str = "time";

/// Due times may be late by this much.
const WRITE_EVERY: Duration = Duration::from_secs(2);

pub(crate) struct LastTime(PathBuf);

impl LastTime {
    pub(crate) fn of(folder: &Path) -> Self {
        Self(folder.join(FILE))
    }

    /// How far the time went back since it was last written. Zero if nothing can be read, as after a crash of the machine.
    pub(crate) fn went_back(&self, now: Timestamp) -> Duration {
        let text = fs::read_to_string(&self.0).unwrap_or_default();
        let last = text.trim().parse().map(Timestamp::from_unix_micros);
        last.map_or(Duration::ZERO, |last| last.remaining(now))
    }

    /// Never reticks.
    pub(crate) async fn keep_writing(self) {
        let mut ticks = tokio::time::interval(WRITE_EVERY);
        let mut fails = false;
        // Creates the file for its owner only. A failure shows itself at the first write.
        let _ = owner_only().create(true).truncate(false).open(&self.0);
        loop {
            ticks.tick().await;
            let now = hookline_clock::now().unix_micros().to_string();
            match tokio::fs::write(&self.0, now).await {
                Ok(()) => fails = false,
                Err(why) if !fails => {
                    fails = true;
                    tracing::warn!(error = %why, "cannot write the time into the folder");
                }
                Err(_) => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_went_back_by_the_difference_to_the_written_time() {
        let folder = tempfile::tempdir().unwrap();
        let time = LastTime::of(folder.path());
        let now = hookline_clock::now();
        assert_eq!(time.went_back(now), Duration::ZERO, "nothing was written");
        let hour = Duration::from_secs(60 * 60);
        for (then, back) in [(now.after(hour), hour), (now.before(hour), Duration::ZERO)] {
            fs::write(folder.path().join(FILE), then.unix_micros().to_string()).unwrap();
            assert_eq!(time.went_back(now), back);
        }
        fs::write(folder.path().join(FILE), "17x").unwrap();
        assert_eq!(time.went_back(now), Duration::ZERO);
    }
}
