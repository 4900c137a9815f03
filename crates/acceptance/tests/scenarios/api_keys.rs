//! API keys: made, listed, ended, and never kept as they are.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context as _, ensure};
use hookline_acceptance::sentences;
use hookline_acceptance::suite::Shared;
use hookline_testkit::deployment::{Home, Kind};
use ring::digest::{SHA256, digest};

pub(crate) fn shared() -> Vec<Shared> {
    sentences![
        a_revoked_key_ends_at_once,
        a_key_is_kept_as_its_hash_alone,
        organizations_and_keys_are_listed,
    ]
}

async fn a_revoked_key_ends_at_once(home: Arc<Home>) -> anyhow::Result<()> {
    let tenant = home.tenant().await?;
    let org = tenant.organization.as_str();
    let key = home.key(&["--org", org, "--name", "short-lived"]).await?;
    let client = tenant.client.with_key(Some(&key));
    client.get("/webhooks").await?.expect(200)?;
    let listed = key_line(&home, org, "short-lived").await?;
    ensure!(listed[3] == "active", "{listed:?}");

    home.hookline(&["key", "revoke", &listed[0]]).await?;
    client.get("/webhooks").await?.problem(401)?;
    client
        .post("/events", &tenant.event("workflow.started"))
        .await?
        .problem(401)?;
    tenant.client.get("/webhooks").await?.expect(200)?;
    let listed = key_line(&home, org, "short-lived").await?;
    ensure!(
        listed[3].starts_with("revoked 20") && listed[3].ends_with('Z'),
        "{listed:?}"
    );
    for none in [listed[0].as_str(), "999999999"] {
        ensure!(
            home.hookline(&["key", "revoke", none]).await.is_err(),
            "revoked {none} again"
        );
    }
    Ok(())
}

async fn a_key_is_kept_as_its_hash_alone(home: Arc<Home>) -> anyhow::Result<()> {
    let tenant = home.tenant().await?;
    let key = home
        .key(&["--org", &tenant.organization, "--name", "kept-as-a-hash"])
        .await?;
    let client = tenant.client.with_key(Some(&key));
    client.get("/webhooks").await?.expect(200)?;
    client
        .post("/events", &tenant.event("workflow.started"))
        .await?
        .expect(202)?;

    let kept = everything_kept(&home).await?;
    let has = |needle: &[u8]| kept.windows(needle.len()).any(|window| window == needle);
    ensure!(
        has(b"kept-as-a-hash"),
        "the search does not find what is there"
    );
    let hash = digest(&SHA256, key.as_bytes());
    ensure!(
        has(hash.as_ref()) || has(hex(hash.as_ref()).as_bytes()),
        "the hash is not there"
    );
    let secret = key.trim_start_matches("hk_");
    ensure!(
        !has(secret.as_bytes()) && !has(hex(secret.as_bytes()).as_bytes()),
        "the key is there"
    );
    ensure!(!home.said().await.contains(secret), "the key is in a log");
    Ok(())
}

async fn organizations_and_keys_are_listed(home: Arc<Home>) -> anyhow::Result<()> {
    let (tenant, other) = (home.tenant().await?, home.tenant().await?);
    let org = tenant.organization.as_str();
    let args = [
        "--org",
        org,
        "--also",
        &other.organization,
        "--scopes",
        "read,publish",
        "--name",
        "for lists",
    ];
    let key = home.key(&args).await?;
    ensure!(key.starts_with("hk_") && key.len() > 40, "{key}");
    let listed = key_line(&home, org, "for lists").await?;
    ensure!(
        listed[1..]
            == [
                &format!("{org},{}", other.organization),
                "read,publish",
                "active",
                "no expiry",
                "never used",
                "for lists"
            ],
        "{listed:?}"
    );
    ensure!(
        !home.hookline(&["key", "list"]).await?.contains(&key),
        "a list shows a key"
    );

    let organizations = home.hookline(&["org", "list"]).await?;
    let line = organizations
        .lines()
        .find_map(|line| line.strip_prefix(&format!("{org}\t")));
    ensure!(
        line.is_some_and(|at| at.starts_with("20") && at.ends_with('Z')),
        "{organizations}"
    );
    for refused in [
        &["org", "create", org][..],
        &["org", "create", ""],
        &[
            "key",
            "create",
            "--org",
            "an organization that does not exist",
        ],
        &[
            "key",
            "create",
            "--org",
            org,
            "--also",
            "an organization that does not exist",
        ],
        &["key", "create", "--org", org, "--name", "a\nb"],
    ] {
        ensure!(
            home.hookline(refused).await.is_err(),
            "{refused:?} went through"
        );
    }
    Ok(())
}

/// The fields of a key in `hookline key list`: id, organizations, scopes, state, name.
pub(crate) async fn key_line(
    home: &Home,
    organization: &str,
    name: &str,
) -> anyhow::Result<Vec<String>> {
    let listed = home.hookline(&["key", "list"]).await?;
    let lines = listed
        .lines()
        .map(|line| line.split('\t').map(str::to_owned).collect::<Vec<_>>());
    let mut ours = lines.filter(|line| {
        line[1].split(',').next() == Some(organization)
            && line.last().is_some_and(|last| last == name)
    });
    ours.next()
        .with_context(|| format!("no key {name} in:\n{listed}"))
}

/// All bytes of the database: its files, or its tables as text.
pub(crate) async fn everything_kept(home: &Home) -> anyhow::Result<Vec<u8>> {
    if home.kind == Kind::Embedded {
        return files_of(&home.data_folder());
    }
    let peers = home.peers()?;
    let tables = "SELECT quote_ident(tablename) FROM pg_tables WHERE schemaname = 'public'";
    let mut kept = String::new();
    for table in peers.sql(tables).await?.lines() {
        kept += &peers.sql(&format!("SELECT t::text FROM {table} t")).await?;
    }
    Ok(kept.into_bytes())
}

fn files_of(folder: &Path) -> anyhow::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        match entry.file_type()?.is_dir() {
            true => bytes.extend(files_of(&entry.path())?),
            false => bytes.extend(fs::read(entry.path())?),
        }
    }
    Ok(bytes)
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
