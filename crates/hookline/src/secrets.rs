//! `hookline secrets`: the master keys that secrets and header values are sealed under.

mod rekey;

use std::fs::{self, File};
use std::io::{ErrorKind, Write as _};
use std::path::Path;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::Subcommand;
use hookline_core::master_key::{MasterKey, MasterKeyId, MasterKeys};
use hookline_runtime::settings::{read_key_file, warn_of_key_file};
use hookline_store::owner_only;

use crate::place::Place;

/// Where `hookline dev` keeps the key that it has made: beside the database, not in it.
pub(crate) const KEY_FILE: &str = "master.key";

#[derive(Debug, Subcommand)]
pub(crate) enum Secrets {
    /// Make a master key and print it as the setting secrets.keys takes it; it is kept nowhere
    NewKey {
        /// What to call it [default: one that no other key has]
        #[arg(long, value_name = "ID", value_parser = key_id)]
        id: Option<MasterKeyId>,
    },
    /// Encrypt everything under the first of secrets.keys, while services run that have it, too
    ///
    /// When it ends well, nothing is encrypted under the other keys any more, and they may be taken
    /// out of the settings.
    Rekey {
        #[command(flatten)]
        place: Place,
    },
}

fn key_id(text: &str) -> Result<MasterKeyId, String> {
    MasterKeyId::parse(text).map_err(|why| why.to_string())
}

impl Secrets {
    pub(crate) async fn run(self) -> anyhow::Result<ExitCode> {
        match self {
            Self::NewKey { id } => {
                let id = id.map_or_else(|| key_id_by_chance().context("an id"), Ok)?;
                println!("{}", MasterKey::new(id, rand::random()).expose_text());
                Ok(ExitCode::SUCCESS)
            }
            Self::Rekey { place } => rekey::run(&place.store_to_rekey().await?).await,
        }
    }
}

fn key_id_by_chance() -> Result<MasterKeyId, hookline_core::master_key::InvalidMasterKeys> {
    MasterKeyId::parse(&format!("k{:08x}", rand::random::<u32>()))
}

/// The key of a folder that nobody else uses meanwhile; it is made where there is none.
pub(crate) fn key_of_folder(folder: &Path) -> anyhow::Result<MasterKeys> {
    let path = folder.join(KEY_FILE);
    let shown = || format!("the master key in {}", path.display());
    if path.exists() {
        let keys = MasterKeys::parse(&read_key_file(&path)?, None).with_context(shown)?;
        if let Some(warning) = warn_of_key_file(&path) {
            tracing::warn!("{warning}");
        }
        return Ok(keys);
    }
    let key = MasterKey::new(key_id_by_chance()?, rand::random());
    write_key(folder, &key).with_context(shown)?;
    Ok(key.into())
}

/// Whole or not at all: with half a key, everything that it sealed would be lost.
fn write_key(folder: &Path, key: &MasterKey) -> std::io::Result<()> {
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
    fn a_folder_keeps_its_key_for_its_owner_alone() {
        let folder = tempfile::tempdir().unwrap();
        let made = key_of_folder(folder.path()).unwrap();
        assert_eq!(key_of_folder(folder.path()).unwrap(), made);
        let file = fs::metadata(folder.path().join(KEY_FILE)).unwrap();
        assert_eq!(file.permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn what_a_crash_left_of_a_key_is_none() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("master.key.new"), "k1:AAEC").unwrap();
        key_of_folder(folder.path()).unwrap();
    }

    #[test]
    fn a_key_that_others_could_have_written_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        key_of_folder(folder.path()).unwrap();
        let file = folder.path().join(KEY_FILE);
        fs::set_permissions(&file, Permissions::from_mode(0o666)).unwrap();
        let why = key_of_folder(folder.path()).unwrap_err().to_string();
        assert!(
            why.contains("can be written by other users (mode 666)"),
            "{why}"
        );
    }

    #[test]
    fn a_file_that_is_no_key_is_not_written_over() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join(KEY_FILE), "hush").unwrap();
        let why = format!("{:#}", key_of_folder(folder.path()).unwrap_err());
        assert!(why.contains("master.key") && !why.contains("hush"), "{why}");
    }
}
