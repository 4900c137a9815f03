//! `hookline key`: a key is shown once, when it is made; the store has its hash alone.

use std::process::ExitCode;

use anyhow::{Context as _, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use clap::{Args, Subcommand};
use hookline_core::access::Scope;
use hookline_core::ids::{KeyId, OrganizationId};
use hookline_store::{KeyHash, KeyInfo, NewKey};

use crate::dev::organization;
use crate::place::{Place, now};

#[derive(Debug, Subcommand)]
pub(crate) enum Keys {
    /// Create a key and show it, this once
    Create(Create),
    /// List the keys: id, organization, scopes, state and name
    List {
        #[command(flatten)]
        place: Place,
    },
    /// End a key
    Revoke {
        /// The id that `hookline key list` shows
        id: i64,
        #[command(flatten)]
        place: Place,
    },
}

#[derive(Debug, Args)]
pub(crate) struct Create {
    /// The organization of requests that name none
    #[arg(long, value_name = "ID", value_parser = organization)]
    org: OrganizationId,

    /// A further organization that the key belongs to; may be given again
    #[arg(long, value_name = "ID", value_parser = organization)]
    also: Vec<OrganizationId>,

    /// What the key may be used for
    #[arg(long, value_delimiter = ',', default_value = "read,write,publish")]
    scopes: Vec<Scope>,

    /// What to call it in lists
    #[arg(long, default_value = "")]
    name: String,

    #[command(flatten)]
    place: Place,
}

impl Keys {
    pub(crate) async fn run(self) -> anyhow::Result<ExitCode> {
        match self {
            Self::Create(create) => create.run().await?,
            Self::List { place } => {
                for key in place.store().await?.keys().await? {
                    println!("{}", line(&key));
                }
            }
            Self::Revoke { id, place } => {
                let revoked = place.store().await?.revoke_key(KeyId(id), now()).await?;
                ensure!(revoked, "there is no key {id} that could be ended");
                println!("ended key {id}");
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}

impl Create {
    async fn run(self) -> anyhow::Result<()> {
        ensure!(
            !self.name.contains(char::is_control),
            "--name must not have control characters"
        );
        let mut scopes = self.scopes;
        scopes.dedup();
        let key = format!("hk_{}", URL_SAFE_NO_PAD.encode(rand::random::<[u8; 32]>()));
        let new = NewKey {
            hash: KeyHash::of(&key),
            name: self.name,
            scopes,
            default_organization: self.org,
            organizations: self.also,
        };
        let id = self.place.store().await?.create_key(new, now()).await?;
        id.context("an organization of the key does not exist: see `hookline org create`")?;
        println!("{key}");
        Ok(())
    }
}

fn line(key: &KeyInfo) -> String {
    let scopes: Vec<&str> = key.scopes.iter().map(|scope| scope.as_str()).collect();
    let state = match key.revoked_at {
        None => "active".to_owned(),
        Some(at) => format!("ended {at}"),
    };
    let KeyInfo {
        id,
        name,
        default_organization,
        ..
    } = key;
    format!(
        "{id}\t{default_organization}\t{}\t{state}\t{name}",
        scopes.join(",")
    )
}
