//! `hookline org`.

use std::process::ExitCode;

use clap::Subcommand;
use hookline_core::ids::OrganizationId;

use crate::dev::organization;
use crate::place::{Place, Purpose, now};

#[derive(Debug, Subcommand)]
pub(crate) enum Organizations {
    /// Create an organization, or several
    Create {
        /// What it is called in events, at most 255 characters
        #[arg(value_name = "ID", required = true, value_parser = organization)]
        ids: Vec<OrganizationId>,
        #[command(flatten)]
        place: Place,
    },
    /// List the organizations: a line each, with the time of creation
    List {
        #[command(flatten)]
        place: Place,
    },
}

impl Organizations {
    pub(crate) async fn run(self) -> anyhow::Result<ExitCode> {
        match self {
            Self::Create { ids, place } => {
                let store = place.store(Purpose::Begin).await?;
                for id in ids {
                    let created = store.create_organization(id.clone(), now()).await?;
                    anyhow::ensure!(created, "there is an organization {id} already");
                    println!("{id}");
                }
            }
            Self::List { place } => {
                let store = place.store(Purpose::Read).await?;
                for (id, created_at) in store.organizations().await? {
                    println!("{id}\t{created_at}");
                }
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}
