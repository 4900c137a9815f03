//! `hookline org`.

use std::process::ExitCode;

use clap::Subcommand;
use hookline_core::ids::OrganizationId;

use crate::dev::organization;
use crate::target_store::{Purpose, StoreArgs, now};

#[derive(Debug, Subcommand)]
pub(crate) enum Organizations {
    /// Create one or more organizations
    Create {
        /// The organization_id of its events, at most 255 characters
        #[arg(value_name = "ID", required = true, value_parser = organization)]
        ids: Vec<OrganizationId>,
        #[command(flatten)]
        store: StoreArgs,
    },
    /// List the organizations, each with the time of its creation
    List {
        #[command(flatten)]
        store: StoreArgs,
    },
}

impl Organizations {
    pub(crate) async fn run(self) -> anyhow::Result<ExitCode> {
        match self {
            Self::Create { ids, store } => {
                let store = store.open(Purpose::Create).await?;
                for id in ids {
                    let created = store.create_organization(id.clone(), now()).await?;
                    anyhow::ensure!(created, "organization {id} exists already");
                    println!("{id}");
                }
            }
            Self::List { store } => {
                let store = store.open(Purpose::Read).await?;
                for (id, created_at) in store.organizations().await? {
                    println!("{id}\t{created_at}");
                }
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}
