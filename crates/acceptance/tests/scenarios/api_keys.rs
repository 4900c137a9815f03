//! API keys: made, listed, ended, and never kept as they are.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context as _, ensure};
use hookline_acceptance::scenarios;
use hookline_acceptance::suite::SharedScenario;
use hookline_testkit::deployment::{Deployment, Mode};
use ring::digest::{SHA256, digest};

pub(crate) fn shared() -> Vec<SharedScenario> {
    scenarios![
        a_revoked_key_is_refused_at_once,
        only_the_hash_of_a_key_is_stored,
        organizations_and_keys_are_listed,
    ]
}

async fn a_revoked_key_is_refused_at_once(deployment: Arc<Deployment>) -> anyhow::Result<()> {
    let tenant = deployment.tenant().await?;
    let org = tenant.organization.as_str();
    let key = deployment
        .key(&["--org", org, "--name", "short-lived"])
        .await?;
    let client = tenant.client.with_key(Some(&key));
    client.get("/webhooks").await?.expect(200)?;
    let listed = key_line(&deployment, org, "short-lived").await?;
    ensure!(listed[3] == "active", "{listed:?}");

    deployment.hookline(&["key", "revoke", &listed[0]]).await?;
    client.get("/webhooks").await?.problem(401)?;
    client
        .post("/events", &tenant.event("workflow.started"))
        .await?
        .problem(401)?;
    tenant.client.get("/webhooks").await?.expect(200)?;
    let listed = key_line(&deployment, org, "short-lived").await?;
    ensure!(
        listed[3].starts_with("revoked 20") && listed[3].ends_with('Z'),
        "{listed:?}"
    );
    for none in [listed[0].as_str(), "999999999"] {
        ensure!(
            deployment.hookline(&["key", "revoke", none]).await.is_err(),
            "revoked {none} again"
        );
    }
    Ok(())
}

async fn only_the_hash_of_a_key_is_stored(deployment: Arc<Deployment>) -> anyhow::Result<()> {
    let tenant = deployment.tenant().await?;
    let key = deployment
        .key(&["--org", &tenant.organization, "--name", "kept-as-a-hash"])
        .await?;
    let client = tenant.client.with_key(Some(&key));
    client.get("/webhooks").await?.expect(200)?;
    client
        .post("/events", &tenant.event("workflow.started"))
        .await?
        .expect(202)?;

    let kept = everything_kept(&deployment).await?;
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
    ensure!(
        !deployment.output().await.contains(secret),
        "the key is in a log"
    );
    Ok(())
}

async fn organizations_and_keys_are_listed(deployment: Arc<Deployment>) -> anyhow::Result<()> {
    let (tenant, other) = (deployment.tenant().await?, deployment.tenant().await?);
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
    let key = deployment.key(&args).await?;
    ensure!(key.starts_with("hk_") && key.len() > 40, "{key}");
    let listed = key_line(&deployment, org, "for lists").await?;
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
        !deployment.hookline(&["key", "list"]).await?.contains(&key),
        "a list shows a key"
    );

    let organizations = deployment.hookline(&["org", "list"]).await?;
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
            deployment.hookline(refused).await.is_err(),
            "{refused:?} went through"
        );
    }
    Ok(())
}

/// The fields of a key in `hookline key list`: id, organizations, scopes, state, name.
pub(crate) async fn key_line(
    deployment: &Deployment,
    organization: &str,
    name: &str,
) -> anyhow::Result<Vec<String>> {
    let listed = deployment.hookline(&["key", "list"]).await?;
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
pub(crate) async fn everything_kept(deployment: &Deployment) -> anyhow::Result<Vec<u8>> {
    if deployment.mode == Mode::Standalone {
        return files_of(&deployment.data_folder());
    }
    let dependencies = deployment.dependencies()?;
    let tables = "SELECT quote_ident(tablename) FROM pg_tables WHERE schemaname = 'public'";
    let mut kept = String::new();
    for table in dependencies.sql(tables).await?.lines() {
        kept += &dependencies
            .sql(&format!("SELECT t::text FROM {table} t"))
            .await?;
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
