//! Permissions of a data folder: only its owner has access. It holds bodies of events, and a process of another user that
//! can open its lock file for reading could hold the lock.

use std::fs::{self, DirBuilder, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;

use crate::error::StoreError;

/// The database; beside it SQLite makes `-wal` and `-shm` with the same permissions.
pub(crate) const DATABASE: &str = "hookline.db";

/// Files that earlier versions may have made readable for others.
const FILES: [&str; 6] = [
    DATABASE,
    "hookline.db-wal",
    "hookline.db-shm",
    "lock",
    "time",
    "running",
];

const OTHERS: u32 = 0o077;
const ALL_MAY_WRITE: u32 = 0o002;

/// Options that write a file, and create it for its owner alone.
pub fn owner_only() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.write(true).mode(0o600);
    options
}

/// Creates the folder and the database file where they are missing, and removes access of others.
pub(crate) fn prepare(folder: &Path) -> Result<(), StoreError> {
    let unusable = |why: io::Error| unusable(folder, why);
    let make = DirBuilder::new().recursive(true).mode(0o700).create(folder);
    make.map_err(unusable)?;
    let mode = fs::metadata(folder).map_err(unusable)?.permissions().mode();
    if mode & OTHERS != 0 {
        close_to_others(folder, mode & 0o7777)?;
    }
    for name in FILES {
        let file = folder.join(name);
        match fs::symlink_metadata(&file) {
            Ok(about) if about.is_file() && about.permissions().mode() & OTHERS != 0 => {
                fs::set_permissions(&file, Permissions::from_mode(0o600)).map_err(unusable)?;
            }
            _ => {}
        }
    }
    let database = owner_only()
        .create(true)
        .truncate(false)
        .open(folder.join(DATABASE));
    database.map(drop).map_err(unusable)
}

/// Refuses a folder that others write to, such as /tmp.
fn close_to_others(folder: &Path, mode: u32) -> Result<(), StoreError> {
    let refuse = |why: &str| {
        Err(StoreError::Refused(format!(
            "the folder {shown} {why} (mode {mode:o}): give Hookline a folder of its own, such as \
             {}, which it makes for its user alone, or run `chmod 700 {shown}`",
            folder.join("hookline").display(),
            shown = folder.display(),
        )))
    };
    if mode & ALL_MAY_WRITE != 0 {
        return refuse("can be written by every user");
    }
    let is_empty = || fs::read_dir(folder).is_ok_and(|mut entries| entries.next().is_none());
    if !is_there(folder) && !is_empty() {
        return refuse("has files that are not Hookline's, and other users can enter it");
    }
    match fs::set_permissions(folder, Permissions::from_mode(0o700)) {
        Ok(()) => Ok(()),
        Err(_) => refuse("belongs to another user and can be entered by others"),
    }
}

pub(crate) fn is_there(folder: &Path) -> bool {
    folder.join(DATABASE).is_file()
}

pub(crate) fn unusable(folder: &Path, why: impl std::fmt::Display) -> StoreError {
    StoreError::Refused(format!(
        "the folder {} cannot be used: {why}",
        folder.display()
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o7777
    }

    fn folder(mode: u32) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        fs::set_permissions(folder.path(), Permissions::from_mode(mode)).unwrap();
        folder
    }

    #[test]
    fn a_new_folder_and_its_database_are_their_owners_alone() {
        let parent = tempfile::tempdir().unwrap();
        let folder = parent.path().join("a/b");
        prepare(&folder).unwrap();
        assert_eq!(mode(&folder), 0o700);
        assert_eq!(mode(&folder.join(DATABASE)), 0o600);
    }

    #[test]
    fn a_folder_of_hooklines_own_is_closed_to_others_with_its_files() {
        let empty = folder(0o755);
        prepare(empty.path()).unwrap();
        assert_eq!(mode(empty.path()), 0o700);
        let ours = folder(0o775);
        for name in FILES {
            fs::write(ours.path().join(name), "").unwrap();
            let open = Permissions::from_mode(0o664);
            fs::set_permissions(ours.path().join(name), open).unwrap();
        }
        prepare(ours.path()).unwrap();
        assert_eq!(mode(ours.path()), 0o700);
        for name in FILES {
            assert_eq!(mode(&ours.path().join(name)), 0o600, "{name}");
        }
    }

    #[test]
    fn a_folder_that_others_use_is_refused_and_left_as_it_is() {
        let shared = folder(0o1777);
        let why = prepare(shared.path()).unwrap_err().to_string();
        assert!(
            why.contains("every user (mode 1777)") && why.contains("chmod 700"),
            "{why}"
        );
        let with_files = folder(0o755);
        fs::write(with_files.path().join("another"), "").unwrap();
        let why = prepare(with_files.path()).unwrap_err().to_string();
        assert!(why.contains("not Hookline's"), "{why}");
        for (folder, before) in [(shared, 0o1777), (with_files, 0o755)] {
            assert_eq!(mode(folder.path()), before);
            assert!(!is_there(folder.path()));
        }
    }
}
