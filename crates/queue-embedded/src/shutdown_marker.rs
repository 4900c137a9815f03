//! Whether the last process with a folder shut down cleanly.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use hookline_store::owner_only;

/// The file exists while a process runs.
const FILE: &str = "running";

pub(crate) struct ShutdownMarker {
    file: PathBuf,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LastShutdown {
    Clean,
    /// The process was killed or crashed; also where the folder does not tell.
    Unclean,
}

impl ShutdownMarker {
    /// The folder must be locked.
    pub(crate) fn create(folder: &Path) -> (Self, LastShutdown) {
        let file = folder.join(FILE);
        let last = match owner_only().create_new(true).open(&file) {
            Ok(_) => LastShutdown::Clean,
            Err(why) => {
                if why.kind() != ErrorKind::AlreadyExists {
                    tracing::warn!(error = %why, "cannot write the shutdown marker into the folder");
                }
                LastShutdown::Unclean
            }
        };
        (Self { file }, last)
    }

    pub(crate) fn remove(self) {
        if let Err(why) = std::fs::remove_file(&self.file) {
            tracing::warn!(error = %why, "cannot remove the shutdown marker from the folder");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_marker_that_was_not_removed_means_an_unclean_shutdown() {
        let folder = tempfile::tempdir().unwrap();
        let (_killed, first) = ShutdownMarker::create(folder.path());
        assert_eq!(first, LastShutdown::Clean);
        let (second, before) = ShutdownMarker::create(folder.path());
        assert_eq!(before, LastShutdown::Unclean);
        second.remove();
        let (_, before) = ShutdownMarker::create(folder.path());
        assert_eq!(before, LastShutdown::Clean);
    }
}
