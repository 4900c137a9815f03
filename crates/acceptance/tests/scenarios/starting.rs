//! Start: a process starts, or says in one line why not, and stops on request.

mod least_rights;
mod refused;
mod refused_broker;
mod refused_database;
pub(crate) mod start;

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use hookline_acceptance::scenarios;
use hookline_acceptance::suite::IsolatedScenario;
use hookline_testkit::client::ApiClient;
use hookline_testkit::deployment::{Deployment, Mode, Service};
use hookline_testkit::managed_process::ManagedProcess;
use hookline_testkit::receiver::{Receiver, Reply};
use hookline_testkit::waiting::until;
use serde_json::{Value, json};

use self::start::{Cases, Start};

pub(crate) fn distributed() -> Vec<IsolatedScenario> {
    [
        least_rights::distributed(),
        refused::distributed(),
        refused_broker::distributed(),
        refused_database::distributed(),
    ]
    .concat()
}

pub(crate) fn isolated() -> Vec<IsolatedScenario> {
    scenarios![sigterm_finishes_requests_in_flight_and_exits_with_0]
}

pub(crate) fn standalone() -> Vec<IsolatedScenario> {
    let mut all: Vec<IsolatedScenario> = scenarios![
        dev_prints_its_address_and_serves_only_loopback,
        reading_commands_create_nothing_and_name_their_target,
    ];
    all.extend(refused::standalone());
    all
}

async fn dev_prints_its_address_and_serves_only_loopback(_: Mode) -> anyhow::Result<()> {
    let files = tempfile::tempdir()?;
    let folder = files.path().join("data");
    let args = [
        "dev",
        "--listen",
        "localhost:0",
        "--api-key",
        "hk_it's_mine",
        "--org",
        "org_mine",
        "--data-dir",
    ];
    let args = [
        &args[..],
        &[folder.to_str().context("a folder that is UTF-8")?],
    ]
    .concat();
    for round in 1..=2 {
        let mut process = ManagedProcess::start("hookline", &args, &[], files.path())?;
        // The second one adds to the same file.
        let output = until("ready", async || {
            let output = process.output();
            let ready = output.lines().filter(|line| *line == "ready").count();
            ensure!(
                ready >= round || process.is_running(),
                "ended early: {output}"
            );
            Ok((ready == round).then_some(output))
        })
        .await?;
        let last = |name: &str| {
            let line = output
                .lines()
                .rev()
                .find_map(|line| line.strip_prefix(name));
            line.map(str::trim)
                .with_context(|| format!("no {name} in {output}"))
        };
        let (url, key) = (last("API:")?, last("key:")?);
        ensure!(
            url.starts_with("http://127.0.0.1:") && !url.ends_with(":0"),
            "{url}"
        );
        ensure!(key == "hk_it's_mine", "{key}");
        ensure!(last("organization:")? == "org_mine", "{output}");
        ensure!(Path::new(last("folder:")?) == folder, "{output}");
        ensure!(last("docs:")? == format!("{url}/docs"), "{output}");
        let client = ApiClient::new(&format!("{url}/v1"), key);
        let receiver = Receiver::healthy()?;
        client
            .subscribe(
                &json!({"name": "dev", "url": receiver.url("/"), "events": ["workflow.started"]}),
            )
            .await?;
        let event = json!({
            "event_type": "workflow.started", "workflow_id": "wf", "organization_id": "org_mine",
            "timestamp": "2025-12-21T10:30:00Z", "data": {},
        });
        client.post("/events", &event).await?.expect(202)?;
        receiver.wait_for(1).await?;
        let kept = client.get("/webhooks").await?.expect(200)?;
        ensure!(kept.json["total"] == round, "{}", kept.json);
        let pasted = output.lines().rev().find(|line| line.starts_with("curl "));
        let made = paste(pasted.context("no first command")?).await?;
        let path = format!("/webhooks/{}", made["id"]);
        client.delete(&path).await?.expect(204)?;
        for path in ["/v1/webhooks", "/docs", "/nowhere"] {
            let misdirected = client_for(&format!("{url}{path}"), "rebound.example").await?;
            ensure!(misdirected == 421, "{path}: {misdirected}");
        }
        let admin = output
            .lines()
            .rev()
            .find(|line| line.contains("health and metrics"));
        let (_, admin) = admin
            .and_then(|line| line.split_once("address="))
            .context("no address")?;
        for (host, status) in [("rebound.example", 421), ("localhost:1", 200)] {
            let answered = client_for(&format!("http://{admin}/metrics"), host).await?;
            ensure!(answered == status, "{host}: {answered}");
        }
        is_the_owners_alone(&folder)?;
        process.signal("TERM").await?;
        ensure!(process.wait().await?.success(), "{}", process.output());
    }
    Ok(())
}

/// Does what a shell and curl do with a line.
async fn paste(line: &str) -> anyhow::Result<Value> {
    let shown = line.replacen("curl", "printf '%s\\n'", 1);
    let split = tokio::process::Command::new("sh")
        .args(["-c", &shown])
        .output()
        .await?;
    let split = String::from_utf8(split.stdout)?;
    let mut request = hookline_testkit::http::http_client().post("http://127.0.0.1");
    let (mut words, mut url) = (split.lines(), None);
    while let Some(word) = words.next() {
        match word {
            "-sS" => {}
            "-H" => {
                let header = words.next().context("a header")?;
                let (name, value) = header.split_once(": ").context("a header")?;
                request = request.header(name, value);
            }
            "-d" => request = request.body(words.next().context("a body")?.to_owned()),
            word => url = Some(word.parse()?),
        }
    }
    let mut request = request.build()?;
    *request.url_mut() = url.context("a URL")?;
    let answer = hookline_testkit::http::http_client()
        .execute(request)
        .await?;
    ensure!(answer.status() == 201, "{line}: {}", answer.status());
    Ok(serde_json::from_slice(&answer.bytes().await?)?)
}

/// The status of a GET that names this host.
async fn client_for(url: &str, host: &str) -> anyhow::Result<u16> {
    let get = hookline_testkit::http::http_client()
        .get(url)
        .header("host", host);
    Ok(get.send().await?.status().as_u16())
}

fn is_the_owners_alone(folder: &Path) -> anyhow::Result<()> {
    let mut names = vec![folder.to_owned()];
    for entry in std::fs::read_dir(folder)? {
        names.push(entry?.path());
    }
    ensure!(names.len() >= 7, "the folder has only {names:?}");
    for name in names {
        let mode = std::fs::metadata(&name)?.permissions().mode();
        ensure!(mode & 0o077 == 0, "{name:?} has mode {mode:o}");
    }
    Ok(())
}

async fn reading_commands_create_nothing_and_name_their_target(mode: Mode) -> anyhow::Result<()> {
    let deployment = Deployment::start(mode).await?;
    let files = tempfile::tempdir()?;
    let user = files.path().to_string_lossy().into_owned();
    let absent = files.path().join("absent");
    let absent = absent.to_string_lossy();
    let there = deployment.data_folder();
    let there = there.to_string_lossy();
    let mut cases = Cases::default();
    for command in [
        &["key", "list"][..],
        &["org", "list"],
        &["dead-letters", "list"],
        &["dead-letters", "show", "7"],
    ] {
        let start = Start::of("hookline", command)
            .with("HOME", &user)
            .with("XDG_DATA_HOME", &user);
        let nowhere = [
            "hookline: name a store: ",
            "--data-dir",
            "HOOKLINE__STORE__URL",
            &user,
        ];
        cases.add(start.clone(), 1, &nowhere);
        let missing = ["hookline: the folder ", &absent, " has no data of Hookline"];
        cases.add(start.arg("--data-dir").arg(&absent), 1, &missing);
        let (_, output) = start.arg("--data-dir").arg(&there).end().await?;
        ensure!(
            output.contains(&format!("folder: {there}\n")),
            "{command:?}: {output}"
        );
        let database = start
            .with("HOOKLINE__STORE__URL", "postgres://u:hush@127.0.0.1:1/d")
            .with("HOOKLINE__BROKER__URL", "amqp://u:hush@127.0.0.1:1/v");
        let (status, output) = database.end().await?;
        ensure!(status == Some(1), "{command:?}: {status:?}");
        let is_named = output.starts_with("database: postgres://u:***@127.0.0.1:1/d\n");
        ensure!(
            is_named && !output.contains("hush"),
            "{command:?}: {output}"
        );
    }
    cases.all().await?;
    let made = std::fs::read_dir(files.path())?.count();
    ensure!(
        made == 0,
        "a command that reads has made {made} files or folders"
    );
    deployment.end().await
}

async fn sigterm_finishes_requests_in_flight_and_exits_with_0(mode: Mode) -> anyhow::Result<()> {
    let deployment = Deployment::start(mode).await?;
    let tenant = deployment.tenant().await?;
    let receiver = Receiver::with(|_, _| Reply::status(200).after(Duration::from_millis(1_500)))?;
    let subscription = tenant.subscribe(&receiver, &["workflow.started"]).await?;
    tenant.publish_one("workflow.started").await?;
    receiver.wait_for(1).await?;
    for service in deployment.services().into_iter().rev() {
        deployment.stop(service).await?;
    }
    for service in deployment.services() {
        deployment.start_service(service, &[]).await?;
    }
    deployment.wait_ready().await?;
    tenant.publish_one("workflow.started").await?;
    let log = tenant.client.wait_for_log(subscription, 2).await?;
    ensure!(
        log.iter().all(|entry| entry["status"] == "success"),
        "{log:#?}"
    );
    let received = receiver.received();
    ensure!(
        received.len() == 2,
        "{} requests for two events",
        received.len()
    );
    ensure!(deployment.readiness(Service::Api).await == 200);
    deployment.end().await
}
