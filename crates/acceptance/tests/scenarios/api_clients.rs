//! Clients that generators make from the OpenAPI document: they compile, and each does a round trip.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use hookline_acceptance::scenarios;
use hookline_acceptance::suite::IsolatedScenario;
use hookline_testkit::dependencies::variable;
use hookline_testkit::deployment::{Deployment, Mode};
use tokio::process::Command;

/// A run of this long hangs.
const LONGEST: Duration = Duration::from_secs(300);

/// The subscriptions that are made here point nowhere.
const NOWHERE: [(&str, &str); 1] = [("HOOKLINE__TARGETS__NAME_SERVERS", "[\"127.0.0.1:1\"]")];

/// The document and the API are the same in both deployment modes.
pub(crate) fn standalone() -> Vec<IsolatedScenario> {
    scenarios![generated_clients_compile_and_do_a_round_trip]
}

async fn generated_clients_compile_and_do_a_round_trip(mode: Mode) -> anyhow::Result<()> {
    let (node, python) = (
        variable("HOOKLINE_CLIENTS_NODE")?,
        variable("HOOKLINE_CLIENTS_PYTHON")?,
    );
    let deployment = Deployment::start_with(mode, &NOWHERE).await?;
    let tenant = deployment.tenant().await?;
    let key = deployment.key(&["--org", &tenant.organization]).await?;

    let place = tempfile::tempdir()?;
    let run = Command::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("clients/round_trip"))
        .arg(place.path())
        .env("HOOKLINE_URL", deployment.api())
        .env("HOOKLINE_KEY", key)
        .env("HOOKLINE_ORGANIZATION", &tenant.organization)
        .env("HOOKLINE_CLIENTS_NODE", node)
        .env("HOOKLINE_CLIENTS_PYTHON", python)
        .kill_on_drop(true)
        .output();
    let output = tokio::time::timeout(LONGEST, run)
        .await
        .context("the clients do not end")??;
    ensure!(
        output.status.success(),
        "{}\n{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    deployment.end().await
}
