//! The store that a command works on: a folder, or the database of the settings.

use std::fmt;
use std::net::{SocketAddr, ToSocketAddrs as _};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use anyhow::{Context as _, ensure};
use clap::Args;
use directories::ProjectDirs;
use hookline_bootstrap::distributed;
use hookline_core::timestamp::Timestamp;
use hookline_runtime::settings::Settings;
use hookline_store::Store;

use crate::folder_key::KEY_FILE;

#[derive(Debug, Args)]
pub(crate) struct StoreArgs {
    /// The folder of `hookline serve` or `hookline dev` [default: the database of the setting store.url
    /// (HOOKLINE__STORE__URL), or the folder of `hookline serve` without that setting]
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,

    /// Read settings from FILE
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// Read an existing store.
    Read,
    /// Change an existing store.
    Change,
    /// Change a store, and create it in a folder that `--data-dir` names.
    Create,
}

impl Purpose {
    /// Prints the source of a command that reads.
    pub(crate) fn announce(self, what: &str, source: &impl fmt::Display) {
        if self == Self::Read {
            eprintln!("{what}: {source}");
        }
    }
}

impl StoreArgs {
    /// Opens the store with the keys of the settings, or with the key of the folder.
    pub(crate) async fn open_for_rekey(&self) -> anyhow::Result<Store> {
        let secrets = settings(self.config.as_deref())?.secrets;
        let own = self.data_dir.as_deref().map(|folder| folder.join(KEY_FILE));
        let keys = match (secrets.given()?, own.filter(|file| file.exists())) {
            (Some(keys), _) => keys,
            (None, Some(file)) => secrets.of_file(&file)?,
            (None, None) => secrets.required()?,
        };
        hookline_bootstrap::master_keys::unlock(self.open(Purpose::Change).await?, &keys).await
    }

    pub(crate) async fn open(&self, purpose: Purpose) -> anyhow::Result<Store> {
        let settings = match (self.target(purpose)?, purpose) {
            (TargetStore::Servers(settings), _) => settings,
            (TargetStore::Folder(folder), Purpose::Read) => {
                return Ok(Store::in_existing_folder(&folder)?);
            }
            (TargetStore::Folder(folder), Purpose::Change | Purpose::Create) => {
                return Ok(Store::beside_embedded(&folder)?);
            }
        };
        let store = distributed::store(&settings)?;
        store.check().await?;
        Ok(store)
    }

    /// The store that the arguments and the settings name. A command that reads names it on standard error, which shows
    /// an operator a missing variable. A command that changes something prints only its result, because scripts read
    /// that.
    pub(crate) fn target(&self, purpose: Purpose) -> anyhow::Result<TargetStore> {
        let folder = match &self.data_dir {
            Some(folder) => {
                ensure!(
                    purpose == Purpose::Create || Store::is_in_folder(folder),
                    "the folder {} has no data of Hookline: `hookline dev` and `hookline serve` create one with \
                     --data-dir",
                    folder.display()
                );
                folder.clone()
            }
            None => {
                let settings = settings(self.config.as_deref())?;
                if settings.store.url.is_set() {
                    purpose.announce("database", &settings.store.url);
                    return Ok(TargetStore::Servers(Box::new(settings)));
                }
                let folder = default_folder("serve")?;
                ensure!(
                    Store::is_in_folder(&folder),
                    "name a store: no --data-dir is given, the setting store.url (HOOKLINE__STORE__URL) is not \
                     set, and `hookline serve` has created no folder {}",
                    folder.display()
                );
                folder
            }
        };
        purpose.announce("folder", &folder.display());
        Ok(TargetStore::Folder(folder))
    }
}

/// The settings of a command. Warnings go to standard error; a service logs them.
pub(crate) fn settings(file: Option<&Path>) -> anyhow::Result<Settings> {
    let settings = Settings::load(file)?;
    for warning in settings.warnings() {
        eprintln!("warning: {warning}");
    }
    Ok(settings)
}

pub(crate) enum TargetStore {
    /// A folder of `hookline serve` or `hookline dev`.
    Folder(PathBuf),
    /// PostgreSQL and RabbitMQ, as the settings name them.
    Servers(Box<Settings>),
}

/// The default folder of `command`, in the user's data directory.
pub(crate) fn default_folder(command: &str) -> anyhow::Result<PathBuf> {
    let user = ProjectDirs::from("", "", "hookline")
        .context("the user has no data directory: name a folder with --data-dir")?;
    Ok(user.data_dir().join(command))
}

pub(crate) fn now() -> Timestamp {
    Timestamp::from(SystemTime::now())
}

/// Parses an IP address or a name, and a port. A name such as `localhost` stands for its first IPv4 address, or for its
/// first address.
pub(crate) fn listen_address(text: &str) -> Result<SocketAddr, String> {
    if let Ok(address) = text.parse() {
        return Ok(address);
    }
    let found: Vec<SocketAddr> = text.to_socket_addrs().into_iter().flatten().collect();
    let first = found.iter().find(|address| address.is_ipv4());
    let first = first.or(found.first()).copied();
    first.ok_or_else(|| {
        "must be an IP address or a name of this machine, and a port, such as 127.0.0.1:8080 or localhost:8080"
            .to_owned()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_of_this_machine_is_a_listen_address() {
        for (text, address) in [
            ("127.0.0.1:8080", "127.0.0.1:8080"),
            ("[::1]:1", "[::1]:1"),
            ("localhost:8080", "127.0.0.1:8080"),
        ] {
            assert_eq!(listen_address(text), Ok(address.parse().unwrap()), "{text}");
        }
        for text in [
            "localhost",
            "8080",
            "",
            "host.invalid:80",
            "127.0.0.1:65536",
        ] {
            let why = listen_address(text).unwrap_err();
            assert!(why.contains("such as 127.0.0.1:8080"), "{why}");
        }
    }
}
