//! `hookline serve`: standalone mode for production on one machine.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::Args;
use hookline_runtime::admin;
use hookline_runtime::service::host;
use hookline_runtime::settings::Settings;

use crate::standalone::Standalone;
use crate::target_store::{default_folder, listen_address};

/// Create the first API key with `hookline key create`.
#[derive(Debug, Args)]
pub(crate) struct Serve {
    /// The address of the API, such as 0.0.0.0:8080 or localhost:8080 [default: the setting api.listen]
    #[arg(long, value_name = "ADDRESS", value_parser = listen_address)]
    listen: Option<SocketAddr>,

    /// The folder of all data [default: a folder of the user's data directory]
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,

    /// Read settings from FILE
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

impl Serve {
    pub(crate) fn run(self) -> anyhow::Result<()> {
        let settings = Settings::load(self.config.as_deref())?;
        let keys = Some(settings.secrets.required()?);
        let listener = match self.listen {
            Some(address) => admin::listen("--listen", address)?,
            None => admin::listen("api.listen", settings.api.listen)?,
        };
        let folder = self.data_dir.map_or_else(|| default_folder("serve"), Ok)?;
        host("hookline serve", settings, async |context| {
            let announce = |address| println!("API:  http://{address}\nready");
            let standalone = Standalone {
                folder,
                keys,
                listener,
            };
            standalone.run(context, async |_| Ok(()), announce).await
        })
    }
}
