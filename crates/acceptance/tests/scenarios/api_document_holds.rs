//! Schemathesis reads the OpenAPI document and tests the API against it. It sends requests that the document allows and
//! requests that it does not allow, one by one and along its links.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use hookline_acceptance::scenarios;
use hookline_acceptance::suite::IsolatedScenario;
use hookline_testkit::deployment::{Deployment, Mode};
use tokio::process::Command;

/// The organization of the document's examples.
const ORGANIZATION: &str = "org_123";

/// The most requests to one operation in one phase. The requests bound the run, and not a time: a slow
/// machine would leave out the last phases. More with `HOOKLINE_TEST_SCHEMATHESIS_EXAMPLES`.
const EXAMPLES: u32 = 10;

/// A run of this long hangs.
const LONGEST: Duration = Duration::from_secs(900);

/// Another run's choices, with `HOOKLINE_TEST_SCHEMATHESIS_SEED`.
const SEED: &str = "1";

/// The subscriptions that are made here point anywhere. With these settings no name is found, and no address inside
/// is called.
const NOWHERE: [(&str, &str); 3] = [
    ("HOOKLINE__TARGETS__NAME_SERVERS", "[\"127.0.0.1:1\"]"),
    ("HOOKLINE__TARGETS__ALLOW_HTTP", "false"),
    ("HOOKLINE__TARGETS__ALLOW_PRIVATE_NETWORKS", "false"),
];

pub(crate) fn isolated() -> Vec<IsolatedScenario> {
    scenarios![every_response_conforms_to_the_openapi_document]
}

async fn every_response_conforms_to_the_openapi_document(mode: Mode) -> anyhow::Result<()> {
    let deployment = Deployment::start_with(mode, &NOWHERE).await?;
    deployment
        .hookline(&["org", "create", ORGANIZATION])
        .await?;
    let key = deployment.key(&["--org", ORGANIZATION]).await?;

    let program = std::env::var("HOOKLINE_TEST_SCHEMATHESIS")
        .context("HOOKLINE_TEST_SCHEMATHESIS is not set: run the tests with `make test`")?;
    let examples: u32 = match std::env::var("HOOKLINE_TEST_SCHEMATHESIS_EXAMPLES") {
        Ok(examples) => examples.parse()?,
        Err(_) => EXAMPLES,
    };
    let seed = std::env::var("HOOKLINE_TEST_SCHEMATHESIS_SEED");
    let seed = seed.as_deref().unwrap_or(SEED);
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("schemathesis");
    // It leaves its findings where it is run, and reads them when it is run there again.
    let place = tempfile::tempdir()?;
    let published = place.path().join("published");
    let run = Command::new(program)
        .current_dir(place.path())
        .env("PYTHONPATH", &folder)
        .env("SCHEMATHESIS_HOOKS", "hooks")
        .env("HOOKLINE_PUBLISHED", &published)
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .arg("--config-file")
        .arg(folder.join("schemathesis.toml"))
        .args(["run", &format!("{}/openapi.json", deployment.api())])
        .args(["--url", &deployment.api(), "--checks", "all"])
        .args(["--header", &format!("Authorization: Bearer {key}")])
        .args(["--max-examples", &examples.to_string(), "--seed", seed])
        .args(["--no-color", "--continue-on-failure"])
        .kill_on_drop(true)
        .output();
    let output = tokio::time::timeout(LONGEST, run)
        .await
        .context("schemathesis does not end")??;
    let stdout = String::from_utf8_lossy(&output.stdout);
    ensure!(
        output.status.success(),
        "{stdout}\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
    // It also ends well when it had nothing to try.
    for phase in ["Examples", "Coverage", "Fuzzing", "Stateful"] {
        ensure!(
            stdout.contains(&format!("✅ {phase}")),
            "no {phase}: {stdout}"
        );
    }
    let published = std::fs::read_to_string(&published).unwrap_or_default();
    let published = published.lines().count();
    ensure!(
        published >= 10,
        "POST /events took {published} requests: {stdout}"
    );
    deployment.end().await
}
