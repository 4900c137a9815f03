//! Which store a command works on: a folder, or the database of the settings.

use std::path::PathBuf;
use std::time::SystemTime;

use anyhow::Context as _;
use clap::Args;
use directories::ProjectDirs;
use hookline_core::timestamp::Timestamp;
use hookline_home::distributed;
use hookline_runtime::settings::Settings;
use hookline_store::Store;

use crate::secrets::KEY_FILE;

/// Where everything is.
#[derive(Debug, Args)]
pub(crate) struct Place {
    /// The folder of `hookline serve` or `hookline dev`; else the database of store.url, else the
    /// folder of `hookline serve`
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,

    /// Read settings from FILE
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

impl Place {
    /// The store with the keys of the settings, else the folder's own, to seal everything anew.
    pub(crate) async fn store_to_rekey(&self) -> anyhow::Result<Store> {
        let secrets = Settings::load(self.config.as_deref())?.secrets;
        let own = self.data_dir.as_deref().map(|folder| folder.join(KEY_FILE));
        let keys = match (secrets.given()?, own.filter(|file| file.exists())) {
            (Some(keys), _) => keys,
            (None, Some(file)) => secrets.of_file(&file)?,
            (None, None) => secrets.required()?,
        };
        hookline_home::unlock_to_rekey(self.store().await?, &keys).await
    }

    pub(crate) async fn store(&self) -> anyhow::Result<Store> {
        let settings = match self.whereabouts()? {
            Whereabouts::Servers(settings) => settings,
            Whereabouts::Folder(folder) => return Ok(Store::beside_embedded(&folder)?),
        };
        let store = distributed::store(&settings)?;
        store.check().await?;
        Ok(store)
    }

    pub(crate) fn whereabouts(&self) -> anyhow::Result<Whereabouts> {
        if let Some(folder) = &self.data_dir {
            return Ok(Whereabouts::Folder(folder.clone()));
        }
        let settings = Settings::load(self.config.as_deref())?;
        Ok(match settings.store.url.is_set() {
            true => Whereabouts::Servers(Box::new(settings)),
            false => Whereabouts::Folder(users_folder("serve")?),
        })
    }
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
