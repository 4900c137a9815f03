//! The master key of a folder: a file beside the database, and not in it.

use std::fs::{self, File};
use std::io::{ErrorKind, Write as _};
use std::path::Path;

use anyhow::Context as _;
use hookline_core::master_key::{InvalidMasterKeys, MasterKey, MasterKeyId, MasterKeys};
use hookline_runtime::settings::{read_key_file, warn_of_key_file};
use hookline_store::owner_only;

pub(crate) const KEY_FILE: &str = "master.key";

pub(crate) fn random_key_id() -> Result<MasterKeyId, InvalidMasterKeys> {
    MasterKeyId::parse(&format!("k{:08x}", rand::random::<u32>()))
}

/// Reads the key of a folder, or makes one. No other process may use the folder meanwhile.
pub(crate) fn read_or_make(folder: &Path) -> anyhow::Result<MasterKeys> {
    let path = folder.join(KEY_FILE);
    let shown = || format!("the master key in {}", path.display());
    if path.exists() {
        let keys = MasterKeys::parse(&read_key_file(&path)?, None).with_context(shown)?;
        if let Some(warning) = warn_of_key_file(&path) {
            tracing::warn!("{warning}");
        }
        return Ok(keys);
    }
    let key = MasterKey::new(random_key_id()?, rand::random());
    write(folder, &key).with_context(shown)?;
    Ok(key.into())
}

/// Writes the whole key or nothing. With half a key, all that it encrypts would be lost.
fn write(folder: &Path, key: &MasterKey) -> std::io::Result<()> {
    let unfinished = folder.join(format!("{KEY_FILE}.new"));
    match fs::remove_file(&unfinished) {
        Err(why) if why.kind() != ErrorKind::NotFound => return Err(why),
        _ => {}
    }
    let mut file = owner_only().create_new(true).open(&unfinished)?;
    writeln!(file, "{}", key.expose_text())?;
    file.sync_all()?;
    fs::rename(&unfinished, folder.join(KEY_FILE))?;
    File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests {
    use std::fs::Permissions;
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn only_the_owner_of_a_folder_can_read_its_key() {
        let folder = tempfile::tempdir().unwrap();
        let made = read_or_make(folder.path()).unwrap();
        assert_eq!(read_or_make(folder.path()).unwrap(), made);
        let file = fs::metadata(folder.path().join(KEY_FILE)).unwrap();
        assert_eq!(file.permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn an_unfinished_key_of_a_crash_is_ignored() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("master.key.new"), "k1:AAEC").unwrap();
        read_or_make(folder.path()).unwrap();
    }

    #[test]
    fn a_key_that_others_could_have_written_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        read_or_make(folder.path()).unwrap();
        let file = folder.path().join(KEY_FILE);
        fs::set_permissions(&file, Permissions::from_mode(0o666)).unwrap();
        let why = read_or_make(folder.path()).unwrap_err().to_string();
        assert!(
            why.contains("can be written by other users (mode 666)"),
            "{why}"
        );
    }

    #[test]
    fn a_file_that_is_no_key_is_not_overwritten() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join(KEY_FILE), "hush").unwrap();
        let why = format!("{:#}", read_or_make(folder.path()).unwrap_err());
        assert!(why.contains("master.key") && !why.contains("hush"), "{why}");
    }
}
