//! Whether the process before this one came to a good end.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use hookline_store::owner_only;

/// Stands in the folder while a process lives.
const MARK: &str = "running";

/// A process's life with a folder.
pub(super) struct Life {
    mark: PathBuf,
}

/// How the one before ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum LastLife {
    EndedWell,
    /// It was killed, or died of something; or nobody can say.
    Died,
}

impl Life {
    /// The folder is ours alone.
    pub(super) fn begin(folder: &Path) -> (Self, LastLife) {
        let mark = folder.join(MARK);
        let last = match owner_only().create_new(true).open(&mark) {
            Ok(_) => LastLife::EndedWell,
            Err(why) => {
                if why.kind() != ErrorKind::AlreadyExists {
                    tracing::warn!(error = %why, "cannot note in the folder that a process lives");
                }
                LastLife::Died
            }
        };
        (Self { mark }, last)
    }

    /// All is done.
    pub(super) fn end(self) {
        if let Err(why) = std::fs::remove_file(&self.mark) {
            tracing::warn!(error = %why, "cannot note in the folder that this process has ended");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_did_not_come_to_an_end_has_died() {
        let folder = tempfile::tempdir().unwrap();
        let (_killed, first) = Life::begin(folder.path());
        assert_eq!(first, LastLife::EndedWell);
        let (second, before) = Life::begin(folder.path());
        assert_eq!(before, LastLife::Died);
        second.end();
        let (_, before) = Life::begin(folder.path());
        assert_eq!(before, LastLife::EndedWell);
    }
}
