//! `hookline dev`: standalone mode for trying Hookline out on one machine.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use anyhow::{bail, ensure};
use clap::Args;
use hookline_core::access::Scope;
use hookline_core::ids::OrganizationId;
use hookline_runtime::admin;
use hookline_runtime::hosts::Hosts;
use hookline_runtime::service::host;
use hookline_runtime::settings::Settings;
use hookline_store::{KeyHash, NewKey, Store};

use crate::standalone::Standalone;
use crate::target_store::{default_folder, listen_address, now};

/// Listens on loopback only, allows `http` and private targets, and has a well-known API key.
#[derive(Debug, Args)]
pub(crate) struct Dev {
    /// The loopback address of the API, or a name such as localhost:8080
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8080", value_parser = listen_address)]
    listen: SocketAddr,

    /// The folder of all data [default: a folder of the user's data directory]
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,

    /// The API key. The variable keeps it out of process lists
    #[arg(
        long,
        value_name = "KEY",
        default_value = "hk_dev",
        env = "HOOKLINE_DEV_API_KEY",
        hide_env_values = true
    )]
    api_key: String,

    /// The organization of the key
    #[arg(long, value_name = "ID", default_value = "org_dev", value_parser = organization)]
    org: OrganizationId,

    /// Read settings from FILE
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

pub(crate) fn organization(text: &str) -> Result<OrganizationId, String> {
    OrganizationId::parse(text).map_err(|why| why.to_string())
}

impl Dev {
    pub(crate) fn run(self) -> anyhow::Result<()> {
        ensure!(
            self.listen.ip().is_loopback(),
            "`hookline dev` has a well-known API key and listens on loopback only, not on {}",
            self.listen
        );
        ensure!(
            is_key(&self.api_key),
            "--api-key (or HOOKLINE_DEV_API_KEY) must be letters, digits and signs of ASCII, without spaces, as \
             HTTP headers require"
        );
        let mut settings = Settings::load(self.config.as_deref())?;
        settings.targets.allow_http = true;
        settings.targets.allow_private_networks = true;
        settings.targets.max_per_second_per_origin = 0;
        settings.limits.events_per_second = 0;
        settings.hosts = Hosts::Loopback(self.listen.ip());
        settings.admin.listen = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let keys = settings.secrets.given()?;
        let listener = admin::listen("--listen", self.listen)?;
        let folder = self.data_dir.map_or_else(|| default_folder("dev"), Ok)?;
        let folder = std::path::absolute(folder)?;
        let (key, org) = (self.api_key, self.org);
        host("hookline dev", settings, async |context| {
            let prepare = async |store: &Store| ensure_key(store, &key, &org).await;
            let shown = folder.display().to_string();
            let announce = |address| print!("{}", announcement(address, &key, &org, &shown));
            let standalone = Standalone {
                folder,
                keys,
                listener,
            };
            standalone.run(context, prepare, announce).await
        })
    }
}

fn is_key(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic())
}

/// The printed `curl` command creates a subscription when it is pasted into a shell.
fn announcement(address: SocketAddr, key: &str, org: &OrganizationId, folder: &str) -> String {
    let quoted = |text: &str| format!("'{}'", text.replace('\'', r"'\''"));
    let authorization = quoted(&format!("Authorization: Bearer {key}"));
    format!(
        "API:           http://{address}\n\
         docs:          http://{address}/docs\n\
         key:           {key}\n\
         organization:  {org}\n\
         folder:        {folder}\n\
         \n\
         A first subscription:\n\
         curl -sS -H {authorization} -H 'Content-Type: application/json' http://{address}/v1/webhooks \
         -d '{SUBSCRIPTION}'\n\
         \n\
         ready\n"
    )
}

const SUBSCRIPTION: &str =
    r#"{"name": "first", "url": "http://127.0.0.1:9000/hooks", "events": ["workflow.completed"]}"#;

/// Creates the API key with every scope, unless it exists.
async fn ensure_key(store: &Store, key: &str, org: &OrganizationId) -> anyhow::Result<()> {
    let hash = KeyHash::of(key);
    match store.access_of(hash, now()).await? {
        Some(access) if access.organizations.contains(org) => return Ok(()),
        Some(_) => bail!("the key of --api-key belongs to another organization than {org}"),
        None => {}
    }
    store.create_organization(org.clone(), now()).await?;
    let key = NewKey {
        hash,
        name: "dev".to_owned(),
        scopes: Scope::ALL.to_vec(),
        default_organization: org.clone(),
        organizations: Vec::new(),
        expires_at: None,
    };
    store.create_key(key, now()).await?;
    Ok(())
}
