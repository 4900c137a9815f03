//! Each program works with exactly the rights that docs/rights.md lists.

use std::collections::BTreeMap;

use anyhow::{Context as _, ensure};
use hookline_acceptance::scenarios;
use hookline_acceptance::suite::IsolatedScenario;
use hookline_testkit::broker_users::{BrokerUser, Rights};
use hookline_testkit::deployment::{Deployment, Mode, Service};
use hookline_testkit::managed_process::hookline;
use hookline_testkit::receiver::{Receiver, Reply};
use hookline_testkit::waiting::until;
use serde_json::Value;

pub(crate) fn distributed() -> Vec<IsolatedScenario> {
    scenarios![the_rights_of_the_document_are_enough]
}

const DOCUMENT: &str = include_str!("../../../../../docs/rights.md");

/// The rows of the table that begins with this column: the program, and its three patterns.
fn broker_rights() -> BTreeMap<&'static str, [String; 3]> {
    let rows = DOCUMENT.lines().filter_map(|line| {
        let inner = line.strip_prefix("| ")?.strip_suffix(" |")?;
        let cells: Vec<&str> = inner.split(" | ").collect();
        let [program, patterns @ ..] = &cells[..] else {
            return None;
        };
        let patterns: [&str; 3] = patterns.try_into().ok()?;
        let is_pattern = patterns.iter().all(|pattern| pattern.starts_with("`^"));
        let unquoted = patterns.map(|pattern| pattern.trim_matches('`').replace("\\|", "|"));
        is_pattern.then_some((*program, unquoted))
    });
    rows.collect()
}

/// The block of SQL, for these roles.
fn database_rights(owner: &str, service: &str) -> anyhow::Result<String> {
    let block = DOCUMENT.split_once("```sql\n").context("a block of SQL")?;
    let (sql, _) = block.1.split_once("```").context("its end")?;
    Ok(sql
        .replace("hookline_owner", owner)
        .replace("hookline_service", service))
}

async fn user(deployment: &Deployment, program: &str) -> anyhow::Result<BrokerUser> {
    let rights = broker_rights();
    let [configure, write, read] = rights
        .get(program)
        .with_context(|| format!("docs/rights.md does not list {program}"))?;
    deployment
        .dependencies()?
        .broker_user(Rights {
            configure,
            write,
            read,
        })
        .await
}

async fn the_rights_of_the_document_are_enough(mode: Mode) -> anyhow::Result<()> {
    let deployment = Deployment::prepare(mode, &[]).await?;
    let dependencies = deployment.dependencies()?;
    let database = dependencies.as_superuser()?;
    let role = format!("service_{}", database.name());
    database
        .sql(&format!("CREATE ROLE {role} LOGIN PASSWORD 'hush'"))
        .await?;
    database.sql(&database_rights("hookline", &role)?).await?;
    let mut store: reqwest::Url = dependencies.database.parse()?;
    store
        .set_username(&role)
        .ok()
        .context("a URL with a user")?;
    store
        .set_password(Some("hush"))
        .ok()
        .context("a URL with a password")?;

    // The topology is declared with the rights of `hookline migrate` and no others.
    dependencies.lose_broker_data().await?;
    let migrating = user(&deployment, "`hookline migrate`").await?;
    let output = deployment
        .hookline_with(&["migrate"], &[("HOOKLINE__BROKER__URL", migrating.url())])
        .await?;
    ensure!(
        output.contains("exchanges and queues are declared"),
        "{output}"
    );

    let mut users = vec![migrating];
    for (service, program) in [
        (Service::Api, "`subscription-api`"),
        (Service::Ingest, "`ingest`"),
        (Service::Dispatcher, "`dispatcher`"),
    ] {
        let user = user(&deployment, program).await?;
        let additional_variables = [
            ("HOOKLINE__BROKER__URL", user.url()),
            ("HOOKLINE__STORE__URL", store.as_str()),
        ];
        deployment
            .start_service(service, &additional_variables)
            .await?;
        users.push(user);
    }
    deployment.wait_ready().await?;

    // Events over HTTP and from a publisher, each with a retry after a delay.
    let tenant = deployment.tenant().await?;
    let receiver = Receiver::with(|request, _| match request.header("x-webhook-attempt") {
        Ok("1") => Reply::status(500),
        _ => Reply::status(200),
    })?;
    let subscription = tenant.subscribe(&receiver, &["workflow.completed"]).await?;
    let event = tenant.event("workflow.completed");
    tenant.client.post("/events", &event).await?.expect(202)?;
    let file = tempfile::NamedTempFile::new()?;
    std::fs::write(file.path(), tenant.event("workflow.completed").to_string())?;
    let publisher = user(&deployment, "a publisher, `hookline publish --amqp`").await?;
    let path = file.path().to_str().context("a path that is UTF-8")?;
    hookline(&["publish", path, "--amqp", publisher.url()], &[]).await?;
    let log = tenant.client.wait_for_log(subscription, 4).await?;
    let successes = log.iter().filter(|entry| entry["status"] == "success");
    ensure!(successes.count() == 2, "{log:#?}");

    // `ingest` dead-letters a message that is no event. `hookline dead-letters` shows it and puts it back.
    deployment
        .publish_amqp("workflow.completed", b"no event", Default::default())
        .await?;
    let dead = user(&deployment, "`hookline dead-letters`").await?;
    let additional_variables = [
        ("HOOKLINE__BROKER__URL", dead.url()),
        ("HOOKLINE__STORE__URL", store.as_str()),
    ];
    until("the dead letter", async || {
        let listed = deployment
            .hookline_with(&["dead-letters", "list", "--json"], &additional_variables)
            .await?;
        let listed: Value = serde_json::from_str(&listed)?;
        let letters = listed["dead_letters"].as_array().context("a list")?;
        Ok((letters.len() == 1).then_some(()))
    })
    .await?;

    users.extend([publisher, dead]);
    deployment.end_processes().await;
    database
        .sql(&format!("DROP OWNED BY {role}; DROP ROLE {role}"))
        .await?;
    for user in users {
        user.remove().await?;
    }
    deployment.end().await
}
