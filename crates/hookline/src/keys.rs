//! `hookline key`. A key is shown once, when it is created: the store has only its hash.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use clap::{Args, Subcommand};
use hookline_core::access::Scope;
use hookline_core::ids::{KeyId, OrganizationId};
use hookline_core::timestamp::Timestamp;
use hookline_store::{KeyHash, KeyInfo, NewKey};

use crate::dev::organization;
use crate::target_store::{Purpose, StoreArgs, now};

#[derive(Debug, Subcommand)]
pub(crate) enum Keys {
    /// Create an API key and print it; it cannot be shown again
    Create(Create),
    /// List the API keys: id, organizations (default first), scopes, state, expiry, last use and name
    List {
        #[command(flatten)]
        store: StoreArgs,
    },
    /// Revoke an API key
    Revoke {
        /// The id that `hookline key list` shows
        id: i64,
        #[command(flatten)]
        store: StoreArgs,
    },
}

#[derive(Debug, Args)]
pub(crate) struct Create {
    /// The default organization: of requests without the header X-Org-Id
    #[arg(long, value_name = "ID", value_parser = organization)]
    org: OrganizationId,

    /// Another organization of the key; repeatable
    #[arg(long, value_name = "ID", value_parser = organization)]
    also: Vec<OrganizationId>,

    /// Permissions of the key, with commas between
    #[arg(long, value_delimiter = ',', default_value = "read,write,publish")]
    scopes: Vec<Scope>,

    /// Time until the key expires, such as 90d, 12h or 30m [default: until it is revoked]
    #[arg(long, value_name = "TIME", value_parser = expiry)]
    expires: Option<Duration>,

    /// The name of the key in lists
    #[arg(long, default_value = "")]
    name: String,

    #[command(flatten)]
    store: StoreArgs,
}

impl Keys {
    pub(crate) async fn run(self) -> anyhow::Result<ExitCode> {
        match self {
            Self::Create(create) => create.run().await?,
            Self::List { store } => {
                for key in store.open(Purpose::Read).await?.keys().await? {
                    println!("{}", line(&key, now()));
                }
            }
            Self::Revoke { id, store } => {
                let store = store.open(Purpose::Change).await?;
                let revoked = store.revoke_key(KeyId(id), now()).await?;
                ensure!(revoked, "there is no active key {id}");
                println!("revoked key {id}");
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
            expires_at: self.expires.map(|wait| now().after(wait)),
        };
        let store = self.store.open(Purpose::Change).await?;
        let id = store.create_key(new, now()).await?;
        id.context(
            "an organization of the key does not exist: create it with `hookline org create`",
        )?;
        println!("{key}");
        Ok(())
    }
}

/// A time such as `90d`, more than zero and at most 100 years.
fn expiry(text: &str) -> Result<Duration, String> {
    const MAX: Duration = Duration::from_secs(100 * 366 * 86_400);
    let time = humantime::parse_duration(text)
        .map_err(|_| "must be a number and a unit, such as 90d".to_owned())?;
    match time {
        Duration::ZERO => Err("must not be 0".to_owned()),
        time if time <= MAX => Ok(time),
        _ => Err("must be at most 100 years".to_owned()),
    }
}

fn line(key: &KeyInfo, now: Timestamp) -> String {
    let scopes: Vec<&str> = key.scopes.iter().map(|scope| scope.as_str()).collect();
    let state = match (key.revoked_at, key.expires_at) {
        (Some(at), _) => format!("revoked {at}"),
        (None, Some(at)) if at <= now => "expired".to_owned(),
        _ => "active".to_owned(),
    };
    let or = |at: Option<Timestamp>, none: &str| at.map_or(none.to_owned(), |at| at.to_string());
    let organizations: Vec<&str> = key.organizations.iter().map(|id| id.as_str()).collect();
    let KeyInfo { id, name, .. } = key;
    format!(
        "{id}\t{}\t{}\t{state}\t{}\t{}\t{name}",
        organizations.join(","),
        scopes.join(","),
        or(key.expires_at, "no expiry"),
        or(key.last_used_at, "never used"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_expiry_is_a_number_and_a_unit() {
        for (text, seconds) in [
            ("90d", 7_776_000),
            ("12h", 43_200),
            ("30m", 1_800),
            ("1s", 1),
        ] {
            assert_eq!(expiry(text), Ok(Duration::from_secs(seconds)), "{text}");
        }
        for bad in [
            "",
            "d",
            "90",
            "0d",
            "-1d",
            "9é",
            "99999999999999999999d",
            "40000d",
        ] {
            assert!(expiry(bad).is_err(), "{bad}");
        }
    }
}
