//! `hookline key`: a key is shown once, when it is made; the store has its hash alone.

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
use crate::place::{Place, Purpose, now};

#[derive(Debug, Subcommand)]
pub(crate) enum Keys {
    /// Create a key and show it, this once
    Create(Create),
    /// List the keys: id, organizations (the default one first), scopes, state, end, last use and name
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

    /// How long the key works, such as 90d, 12h, 30m or 45s [default: until it is revoked]
    #[arg(long, value_name = "TIME", value_parser = duration)]
    expires: Option<Duration>,

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
                for key in place.store(Purpose::Read).await?.keys().await? {
                    println!("{}", line(&key, now()));
                }
            }
            Self::Revoke { id, place } => {
                let store = place.store(Purpose::Change).await?;
                let revoked = store.revoke_key(KeyId(id), now()).await?;
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
            expires_at: self.expires.map(|wait| now().after(wait)),
        };
        let store = self.place.store(Purpose::Change).await?;
        let id = store.create_key(new, now()).await?;
        id.context("an organization of the key does not exist: see `hookline org create`")?;
        println!("{key}");
        Ok(())
    }
}

/// A whole number and its unit.
fn duration(text: &str) -> Result<Duration, String> {
    let wrong = || "must be a whole number and d, h, m or s, such as 90d".to_owned();
    let (number, unit) = text
        .split_at_checked(text.len().saturating_sub(1))
        .ok_or_else(wrong)?;
    let seconds = match unit {
        "d" => 86_400,
        "h" => 3_600,
        "m" => 60,
        "s" => 1,
        _ => return Err(wrong()),
    };
    // More than a hundred years is never.
    let number: u64 = number.parse().map_err(|_| wrong())?;
    match number.checked_mul(seconds) {
        Some(0) => Err("must not be 0".to_owned()),
        Some(seconds) if seconds <= 100 * 366 * 86_400 => Ok(Duration::from_secs(seconds)),
        _ => Err("must be at most 100 years".to_owned()),
    }
}

fn line(key: &KeyInfo, now: Timestamp) -> String {
    let scopes: Vec<&str> = key.scopes.iter().map(|scope| scope.as_str()).collect();
    let state = match (key.revoked_at, key.expires_at) {
        (Some(at), _) => format!("ended {at}"),
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
        or(key.expires_at, "no end"),
        or(key.last_used_at, "not used"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_a_number_and_a_unit() {
        for (text, seconds) in [
            ("90d", 7_776_000),
            ("12h", 43_200),
            ("30m", 1_800),
            ("1s", 1),
        ] {
            assert_eq!(duration(text), Ok(Duration::from_secs(seconds)), "{text}");
        }
        for bad in [
            "",
            "d",
            "90",
            "0d",
            "-1d",
            "1.5h",
            "90 d",
            "1w",
            "9é",
            "99999999999999999999d",
            "40000d",
        ] {
            assert!(duration(bad).is_err(), "{bad}");
        }
    }
}
