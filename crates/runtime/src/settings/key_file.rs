//! Files that hold a key. A file that other users can write is refused, because the key may be theirs. A file that
//! they can read is no secret, and causes a warning.

use std::fs::{self, File};
use std::io::{self, Read as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use super::error::SettingsError;

const OTHERS_WRITE: u32 = 0o022;
const OTHERS_READ: u32 = 0o004;

/// Reads a file that only its owner may write.
///
/// # Errors
/// [`SettingsError`] for a file that cannot be read, or that others can write.
pub fn read_key_file(path: &Path) -> Result<String, SettingsError> {
    let unreadable = |source: io::Error| SettingsError::UnreadableFile {
        path: path.to_owned(),
        source,
    };
    let mut file = File::open(path).map_err(unreadable)?;
    // The permissions of the open file: another file cannot take its place in between.
    let mode = file.metadata().map_err(unreadable)?.permissions().mode();
    if mode & OTHERS_WRITE != 0 {
        return Err(SettingsError::WritableFile {
            path: path.to_owned(),
            mode: mode & 0o777,
        });
    }
    let mut text = String::new();
    file.read_to_string(&mut text).map_err(unreadable)?;
    Ok(text)
}

/// A warning where every user can read the file.
pub fn warn_of_key_file(path: &Path) -> Option<String> {
    let mode = fs::metadata(path).ok()?.permissions().mode() & 0o777;
    (mode & OTHERS_READ != 0).then(|| {
        format!(
            "the key file {path} can be read by every user (mode {mode:o}): run `chmod 600 {path}`",
            path = path.display()
        )
    })
}

#[cfg(test)]
mod tests {
    use std::fs::Permissions;

    use super::*;

    #[test]
    fn a_key_file_that_others_can_write_is_refused_and_a_readable_one_causes_a_warning() {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), "hush").unwrap();
        for (mode, is_read, is_warned_of) in [
            (0o600, true, false),
            (0o640, true, false),
            (0o644, true, true),
            (0o620, false, false),
            (0o602, false, false),
            (0o666, false, true),
        ] {
            fs::set_permissions(file.path(), Permissions::from_mode(mode)).unwrap();
            let read = read_key_file(file.path());
            assert_eq!(read.is_ok(), is_read, "{mode:o}");
            if let Err(why) = read {
                let why = why.to_string();
                assert!(
                    why.contains(&format!("(mode {mode:o})")) && !why.contains("hush"),
                    "{why}"
                );
            }
            assert_eq!(
                warn_of_key_file(file.path()).is_some(),
                is_warned_of,
                "{mode:o}"
            );
        }
    }
}
