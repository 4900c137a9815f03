//! `hookline secrets`: the master keys that encrypt secrets and header values.

mod rekey;

use std::process::ExitCode;

use anyhow::Context as _;
use clap::Subcommand;
use hookline_core::master_key::{MasterKey, MasterKeyId};

use crate::folder_key::random_key_id;
use crate::target_store::StoreArgs;

#[derive(Debug, Subcommand)]
pub(crate) enum Secrets {
    /// Make a master key and print it for the setting secrets.keys; it is stored nowhere
    NewKey {
        /// The id of the key [default: a random one]
        #[arg(long, value_name = "ID", value_parser = key_id)]
        id: Option<MasterKeyId>,
    },
    /// Encrypt everything under the first key of secrets.keys, while services that have this key run
    ///
    /// After it succeeds, nothing is encrypted under the other keys, and they may be removed from the settings.
    Rekey {
        #[command(flatten)]
        store: StoreArgs,
    },
}

fn key_id(text: &str) -> Result<MasterKeyId, String> {
    MasterKeyId::parse(text).map_err(|why| why.to_string())
}

impl Secrets {
    pub(crate) async fn run(self) -> anyhow::Result<ExitCode> {
        match self {
            Self::NewKey { id } => {
                let id = id.map_or_else(|| random_key_id().context("an id"), Ok)?;
                println!("{}", MasterKey::new(id, rand::random()).expose_text());
                Ok(ExitCode::SUCCESS)
            }
            Self::Rekey { store } => rekey::run(&store.open_for_rekey().await?).await,
        }
    }
}
