//! `hookline serve`: everything in one process, for production on one machine.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::Args;
use hookline_runtime::admin;
use hookline_runtime::service::host;
use hookline_runtime::settings::Settings;

use crate::place::{listen_address, users_folder};
use crate::single::Single;

/// Keys are made with `hookline key create`; there is none from the start.
#[derive(Debug, Args)]
pub(crate) struct Serve {
    /// Where the API listens, such as 0.0.0.0:8080 or localhost:8080 [default: the setting api.listen]
    #[arg(long, value_name = "ADDRESS", value_parser = listen_address)]
    listen: Option<SocketAddr>,

    /// Where everything is kept [default: a folder of the user's data directory]
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
        let folder = self.data_dir.map_or_else(|| users_folder("serve"), Ok)?;
        host("hookline serve", settings, async |context| {
            let announce = |address| println!("API:  http://{address}\nready");
            let single = Single {
                folder,
                keys,
                listener,
            };
            single.run(context, async |_| Ok(()), announce).await
        })
    }
}
