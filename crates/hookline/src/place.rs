//! Which store a command works on: a folder, or the database of the settings.

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

use crate::secrets::KEY_FILE;

/// Where everything is.
#[derive(Debug, Args)]
pub(crate) struct Place {
    /// The folder of `hookline serve` or `hookline dev`; else the database of the setting store.url
    /// (HOOKLINE__STORE__URL), else the folder of `hookline serve`
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,

    /// Read settings from FILE
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

/// What a command does with its place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// It reads, and makes nothing.
    Read,
    /// It changes what is there.
    Change,
    /// It may come first, in a folder that its caller names.
    Begin,
}

impl Purpose {
    /// Says where a command that reads looks.
    pub(crate) fn say(self, what: &str, place: &impl fmt::Display) {
        if self == Self::Read {
            eprintln!("{what}: {place}");
        }
    }
}

impl Place {
    /// The store with the keys of the settings, else the folder's own, to seal everything anew.
    pub(crate) async fn store_to_rekey(&self) -> anyhow::Result<Store> {
        let secrets = settings(self.config.as_deref())?.secrets;
        let own = self.data_dir.as_deref().map(|folder| folder.join(KEY_FILE));
        let keys = match (secrets.given()?, own.filter(|file| file.exists())) {
            (Some(keys), _) => keys,
            (None, Some(file)) => secrets.of_file(&file)?,
            (None, None) => secrets.required()?,
        };
        hookline_bootstrap::master_keys::unlock_to_rekey(self.store(Purpose::Change).await?, &keys)
            .await
    }

    pub(crate) async fn store(&self, purpose: Purpose) -> anyhow::Result<Store> {
        let settings = match (self.whereabouts(purpose)?, purpose) {
            (Whereabouts::Servers(settings), _) => settings,
            (Whereabouts::Folder(folder), Purpose::Read) => {
                return Ok(Store::in_existing_folder(&folder)?);
            }
            (Whereabouts::Folder(folder), Purpose::Change | Purpose::Begin) => {
                return Ok(Store::beside_embedded(&folder)?);
            }
        };
        let store = distributed::store(&settings)?;
        store.check().await?;
        Ok(store)
    }

    /// The place that the arguments and the settings name. A command that reads says on standard error which one it
    /// is: an operator who has forgotten a variable sees it there. A command that changes something says what it did
    /// and nothing else, because scripts read that. A folder that is named and not there is made by
    /// [`Purpose::Begin`] alone.
    pub(crate) fn whereabouts(&self, purpose: Purpose) -> anyhow::Result<Whereabouts> {
        let folder = match &self.data_dir {
            Some(folder) => {
                ensure!(
                    purpose == Purpose::Begin || Store::is_in_folder(folder),
                    "there is no data of Hookline in the folder {}: `hookline dev` and `hookline serve` \
                     make one with --data-dir",
                    folder.display()
                );
                folder.clone()
            }
            None => {
                let settings = settings(self.config.as_deref())?;
                if settings.store.url.is_set() {
                    purpose.say("database", &settings.store.url);
                    return Ok(Whereabouts::Servers(Box::new(settings)));
                }
                let folder = users_folder("serve")?;
                ensure!(
                    Store::is_in_folder(&folder),
                    "say where: no --data-dir is given, the setting store.url (HOOKLINE__STORE__URL) is not \
                     set, and `hookline serve` has made no folder {}",
                    folder.display()
                );
                folder
            }
        };
        purpose.say("folder", &folder.display());
        Ok(Whereabouts::Folder(folder))
    }
}

/// The settings of a command, which says on standard error what a service logs as a warning.
pub(crate) fn settings(file: Option<&Path>) -> anyhow::Result<Settings> {
    let settings = Settings::load(file)?;
    for warning in settings.warnings() {
        eprintln!("warning: {warning}");
    }
    Ok(settings)
}

/// Which home that is.
pub(crate) enum Whereabouts {
    /// A folder of `hookline serve` or `hookline dev`.
    Folder(PathBuf),
    /// The servers that these settings name.
    Servers(Box<Settings>),
}

/// A fixed folder of the user's data directory.
pub(crate) fn users_folder(home: &str) -> anyhow::Result<PathBuf> {
    let user = ProjectDirs::from("", "", "hookline")
        .context("the user has no data directory: say where with --data-dir")?;
    Ok(user.data_dir().join(home))
}

pub(crate) fn now() -> Timestamp {
    Timestamp::from(SystemTime::now())
}

/// An address to listen on: an IP address or a name, and a port. A name such as `localhost` stands for its
/// first IPv4 address, else for its first one.
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
    fn a_name_of_this_machine_is_an_address_to_listen_on() {
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
