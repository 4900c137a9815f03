//! Service time as the last process with a folder had it.
//!
//! A folder's clock is this machine's, which may be set back while no process runs, or jump back
//! while one does: then service time goes on in that process and ends with it. The next one would
//! hold up for as long what is due by the time before. So a process writes down what time it is, and
//! the next one moves what is due by as much as the time went back.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use hookline_core::timestamp::Timestamp;
use hookline_store::owner_only;

const FILE: &str = "time";

/// How often the time is written down. A wait gets longer by as much.
const EVERY: Duration = Duration::from_secs(2);

pub(super) struct LastTime(PathBuf);

impl LastTime {
    pub(super) fn of(folder: &Path) -> Self {
        Self(folder.join(FILE))
    }

    /// How far the time went back since it was last written down. Zero where nothing can be read,
    /// as after a crash of the machine.
    pub(super) fn went_back(&self, now: Timestamp) -> Duration {
        let text = fs::read_to_string(&self.0).unwrap_or_default();
        let last = text.trim().parse().map(Timestamp::from_unix_micros);
        last.map_or(Duration::ZERO, |last| last.remaining(now))
    }

    /// Writes it down for as long as the process lives.
    pub(super) async fn keep_writing(self) {
        let mut turns = tokio::time::interval(EVERY);
        let mut fails = false;
        // What is made here stays for its owner alone; a failure shows itself with the first write.
        let _ = owner_only().create(true).truncate(false).open(&self.0);
        loop {
            turns.tick().await;
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
    fn what_the_time_went_back_is_known_from_what_was_written_down() {
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
