//! A process that cannot start says why in one line, and shows no password.

use std::net::{Ipv4Addr, TcpListener};

use anyhow::ensure;
use hookline_acceptance::scenarios;
use hookline_acceptance::suite::IsolatedScenario;
use hookline_testkit::deployment::{Deployment, MASTER_KEY, Mode};
use hookline_testkit::managed_process::free_port;
use tempfile::TempDir;

use super::start::{Cases, Start};

pub(crate) fn distributed() -> Vec<IsolatedScenario> {
    scenarios![a_service_that_cannot_start_says_why_in_one_line]
}

pub(crate) fn standalone() -> Vec<IsolatedScenario> {
    scenarios![standalone_mode_that_cannot_start_says_why_in_one_line]
}

const SERVICES: [&str; 3] = ["subscription-api", "ingest", "dispatcher"];

fn taken_port() -> anyhow::Result<(TcpListener, String)> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let address = listener.local_addr()?.to_string();
    Ok((listener, address))
}

/// The exit status that tells a supervisor that a restart mends nothing.
const BAD_SETTINGS: i32 = 2;

/// Errors in settings are the same for every process; `name` begins the line.
fn add_bad_settings(
    cases: &mut Cases,
    name: &str,
    start: &Start,
    files: &TempDir,
) -> anyhow::Result<()> {
    let slots = "HOOKLINE__DISPATCHER__SLOTS";
    let begin = &format!("{name}: setting ");
    cases.add(
        start.with(slots, "0"),
        BAD_SETTINGS,
        &[
            begin,
            "dispatcher.slots = 0 (from HOOKLINE__DISPATCHER__SLOTS) is not allowed: it must be ",
            "from 1 to 10000",
        ],
    );
    cases.add(
        start
            .with(slots, "many")
            .with("HOOKLINE__RETRY__SCHEDULE_SECONDS", "[5,0]")
            .with("HOOKLINE__LOGS__LEVEL", "info"),
        BAD_SETTINGS,
        &[begin],
    );
    cases.add(
        start.with("HOOKLINE__STORE__ULR", "postgres://u:hush@h/d"),
        BAD_SETTINGS,
        &[
            begin,
            "store.ulr (from HOOKLINE__STORE__ULR) is unknown: [store] has ",
        ],
    );
    cases.add(
        start.with("HOOKLINE__STORE__URL", "mysql://u:hush@h/d"),
        BAD_SETTINGS,
        &[
            begin,
            "store.url = ",
            "(from HOOKLINE__STORE__URL) is not allowed: it must be",
        ],
    );
    cases.add(
        start.with("HOOKLINE__LOG__FORMAT", "json").with(slots, "0"),
        BAD_SETTINGS,
        &[
            "{\"level\":\"ERROR\",\"message\":\"",
            "dispatcher.slots = 0 ",
        ],
    );
    let file = files.path().join(format!("{name}.toml"));
    std::fs::write(&file, "[api]\nlisten = \n")?;
    let file = file.to_string_lossy();
    let config = start.arg("--config");
    cases.add(
        config.arg(&file),
        BAD_SETTINGS,
        &[&format!(
            "{name}: the settings file {file} is not TOML: line 2: "
        )],
    );
    cases.add(
        config.arg("/nowhere/at/all.toml"),
        BAD_SETTINGS,
        &[&format!(
            "{name}: the settings file /nowhere/at/all.toml cannot be read: "
        )],
    );
    Ok(())
}

const KEYS: &str = "HOOKLINE__SECRETS__KEYS";

/// A process that needs master keys has none, or malformed ones. Its message shows no part of a key.
fn add_bad_keys(cases: &mut Cases, name: &str, start: &Start) {
    let not_set = format!("{name}: setting secrets.keys is not set: ");
    let how = "`openssl rand -base64 32`";
    cases.add(start.clone(), BAD_SETTINGS, &[&not_set, how, KEYS]);
    let begin = format!("{name}: setting secrets.keys is not allowed: it must ");
    for (keys, why) in [
        ("hush", "be ID:KEY"),
        ("k1:hush", "have keys of 32 bytes in base64"),
        ("a hush:b2gs", "have "),
    ] {
        cases.add(start.with(KEYS, keys), BAD_SETTINGS, &[&begin, why]);
    }
    let file = start.with("HOOKLINE__SECRETS__KEY_FILE", "/nowhere/at/all.key");
    let unreadable = format!("{name}: the file /nowhere/at/all.key cannot be read: ");
    cases.add(file, BAD_SETTINGS, &[&unreadable]);
}

async fn a_service_that_cannot_start_says_why_in_one_line(mode: Mode) -> anyhow::Result<()> {
    let deployment = Deployment::prepare(mode, &[]).await?;
    let dependencies = deployment.dependencies()?;
    let (_listener, taken) = taken_port()?;
    let files = tempfile::tempdir()?;
    let closed_address = format!("127.0.0.1:{}", free_port()?);
    let mut cases = Cases::default();
    for name in SERVICES {
        let begin = |rest: &str| format!("{name}: {rest}");
        let mut bare = Start::of(name, &[])
            .with("HOOKLINE__ADMIN__LISTEN", "127.0.0.1:0")
            .with("HOOKLINE__API__LISTEN", "127.0.0.1:0");
        if name != "ingest" {
            add_bad_keys(&mut cases, name, &bare);
            bare = bare.with(KEYS, MASTER_KEY);
        }
        add_bad_settings(&mut cases, name, &bare, &files)?;
        cases.add(
            bare.clone(),
            2,
            &[&begin("setting store.url is not set: it must look like postgres://USER:PASSWORD@HOST/DATABASE (in the file of --config, or as HOOKLINE__STORE__URL)")],
        );
        let stored = bare.with("HOOKLINE__STORE__URL", &dependencies.database);
        cases.add(
            stored.clone(),
            2,
            &[&begin(
                "setting broker.url is not set: it must look like amqp://",
            )],
        );
        let whole = stored.with("HOOKLINE__BROKER__URL", &dependencies.amqp);
        cases.add(
            whole.with("HOOKLINE__ADMIN__LISTEN", &taken),
            1,
            &[
                &begin("setting admin.listen = "),
                &taken,
                ": cannot listen on this address: Address already in use",
            ],
        );
        cases.add(
            whole
                .with(
                    "HOOKLINE__BROKER__URL",
                    &format!("amqp://u:hush@{closed_address}/v"),
                )
                .with("HOOKLINE__START__WAIT_FOR_PEERS_SECONDS", "6"),
            1,
            &[
                &begin("RabbitMQ is not reachable after 6 s: "),
                "cannot connect to the broker",
                "refused",
            ],
        );
        cases.add(
            whole
                .with(
                    "HOOKLINE__STORE__URL",
                    &format!("postgres://u:hush@{closed_address}/d"),
                )
                .with("HOOKLINE__START__WAIT_FOR_PEERS_SECONDS", "6"),
            1,
            &[&begin("PostgreSQL is not reachable after 6 s: "), "refused"],
        );
        let printed = Start::of(name, &["--print-default-config"]).end().await?;
        ensure!(printed.0 == Some(0), "{printed:?}");
        let file = files.path().join(name);
        std::fs::write(&file, printed.1)?;
        cases.add(
            bare.arg("--config").arg(&file.to_string_lossy()),
            2,
            &[&begin("setting store.url is not set")],
        );
        if name == "subscription-api" {
            cases.add(
                whole.with("HOOKLINE__API__LISTEN", &taken),
                1,
                &[
                    &begin("setting api.listen = "),
                    &taken,
                    ": cannot listen on this address: Address already in use",
                ],
            );
        }
    }
    cases.all().await?;

    dependencies
        .sql("DROP SCHEMA public CASCADE; CREATE SCHEMA public")
        .await?;
    let mut cases = Cases::default();
    for name in SERVICES {
        let start = Start::of(name, &[])
            .with("HOOKLINE__ADMIN__LISTEN", "127.0.0.1:0")
            .with("HOOKLINE__API__LISTEN", "127.0.0.1:0")
            .with("HOOKLINE__STORE__URL", &dependencies.database)
            .with("HOOKLINE__BROKER__URL", &dependencies.amqp)
            .with(KEYS, MASTER_KEY);
        let line = format!(
            "{name}: the database's schema is older than this program: run `hookline migrate`"
        );
        cases.add(start, 1, &[&line]);
    }
    cases.all().await?;
    deployment.end().await
}

async fn standalone_mode_that_cannot_start_says_why_in_one_line(mode: Mode) -> anyhow::Result<()> {
    let deployment = Deployment::start(mode).await?;
    let (_listener, taken) = taken_port()?;
    let files = tempfile::tempdir()?;
    let folder = files.path().join("data");
    let start = Start::of(
        "hookline",
        &["serve", "--listen", "127.0.0.1:0", "--data-dir"],
    )
    .with("HOOKLINE__ADMIN__LISTEN", "127.0.0.1:0");
    let whole = start.arg(&folder.to_string_lossy());
    let mut cases = Cases::default();
    add_bad_keys(&mut cases, "hookline", &whole);
    let start = start.with(KEYS, MASTER_KEY);
    let whole = whole.with(KEYS, MASTER_KEY);
    add_bad_settings(&mut cases, "hookline", &whole, &files)?;
    let data = deployment.data_folder();
    let data = data.to_string_lossy();
    let owned = format!("another process delivers from the folder {data}");
    cases.add(start.arg(&data), 1, &["hookline: ", &owned]);
    let occupied = "cannot listen on this address: Address already in use";
    cases.add(
        Start::of(
            "hookline",
            &[
                "serve",
                "--listen",
                &taken,
                "--data-dir",
                &folder.to_string_lossy(),
            ],
        )
        .with(KEYS, MASTER_KEY),
        1,
        &["hookline: setting --listen = ", &taken, occupied],
    );
    cases.add(
        whole.with("HOOKLINE__ADMIN__LISTEN", &taken),
        1,
        &["hookline: setting admin.listen = ", &taken, occupied],
    );
    let file = files.path().join("file");
    std::fs::write(&file, "")?;
    let file = file.to_string_lossy();
    let unusable = format!("the folder {file} cannot be used: ");
    cases.add(start.arg(&file), 1, &["hookline: ", &unusable]);
    for address in ["0.0.0.0:0", "[::]:0", "192.0.2.1:80"] {
        cases.add(
            Start::of("hookline", &["dev", "--listen", address]),
            1,
            &["hookline: ", "loopback only, not on ", address],
        );
    }
    for url in [
        "postgres://u:hush%zz@h/d",
        "postgres://u:1@hush@h/d",
        "host=h password=hush",
    ] {
        cases.add(
            whole.with("HOOKLINE__STORE__URL", url),
            BAD_SETTINGS,
            &[
                "hookline: setting store.url = ",
                "(from HOOKLINE__STORE__URL) is not allowed: it must",
            ],
        );
    }
    cases.add(
        Start::of("hookline", &["dev", "--api-key", "a b"]),
        1,
        &["hookline: --api-key ", "without spaces"],
    );
    cases.all().await?;
    // The process that owns the folder was not disturbed.
    deployment.wait_ready().await?;
    deployment.end().await
}
