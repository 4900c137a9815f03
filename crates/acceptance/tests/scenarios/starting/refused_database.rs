//! A service refuses at its start a database on which it could not work for long. One line says how to mend it.

use anyhow::Context as _;
use hookline_acceptance::scenarios;
use hookline_acceptance::suite::IsolatedScenario;
use hookline_testkit::deployment::{Deployment, MASTER_KEY, Mode};

use super::start::{Cases, Start};

pub(crate) fn distributed() -> Vec<IsolatedScenario> {
    scenarios![
        a_database_that_is_not_utf8_is_refused,
        a_schema_that_is_newer_is_refused,
        a_schema_of_an_unreleased_version_is_refused,
        a_role_that_may_not_write_is_refused,
        a_database_that_refuses_the_login_is_named_at_the_start,
    ]
}

const SERVICES: [&str; 3] = ["subscription-api", "ingest", "dispatcher"];

/// Each service is refused, with these words in its line.
async fn is_refused(deployment: &Deployment, database: &str, words: &[&str]) -> anyhow::Result<()> {
    let mut cases = Cases::default();
    for name in SERVICES {
        let start = Start::of(name, &[])
            .with("HOOKLINE__ADMIN__LISTEN", "127.0.0.1:0")
            .with("HOOKLINE__API__LISTEN", "127.0.0.1:0")
            .with("HOOKLINE__STORE__URL", database)
            .with("HOOKLINE__BROKER__URL", &deployment.dependencies()?.amqp)
            .with("HOOKLINE__SECRETS__KEYS", MASTER_KEY)
            // The servers are there: a busy machine must not make one look away.
            .with("HOOKLINE__START__WAIT_FOR_PEERS_SECONDS", "20");
        let begin = format!("{name}: ");
        cases.add(start, 1, &[&[begin.as_str()], words].concat());
    }
    cases.all().await
}

async fn a_database_that_refuses_the_login_is_named_at_the_start(mode: Mode) -> anyhow::Result<()> {
    let deployment = Deployment::prepare(mode, &[]).await?;
    let database = &deployment.dependencies()?.database;
    let mut unknown_user: reqwest::Url = database.parse()?;
    unknown_user
        .set_username("stranger")
        .ok()
        .context("a URL with a user")?;
    is_refused(
        &deployment,
        unknown_user.as_str(),
        &[
            "PostgreSQL refuses the login",
            "stranger",
            "correct store.url",
        ],
    )
    .await?;
    let missing = format!("{database}_not");
    is_refused(
        &deployment,
        &missing,
        &["PostgreSQL refuses the login", "_not", "correct store.url"],
    )
    .await?;
    deployment.end().await
}

async fn a_database_that_is_not_utf8_is_refused(mode: Mode) -> anyhow::Result<()> {
    let deployment = Deployment::prepare(mode, &[]).await?;
    let database = deployment.dependencies()?.as_superuser()?;
    let (server, name) = (database.maintenance()?, database.name());
    for sql in [
        format!("DROP DATABASE {name}"),
        format!(
            "CREATE DATABASE {name} OWNER hookline ENCODING 'LATIN1' LC_COLLATE 'C' LC_CTYPE 'C' \
             TEMPLATE template0"
        ),
    ] {
        server.sql(&sql).await?;
    }
    let url = &deployment.dependencies()?.database;
    let migrated = Start::of("hookline", &["migrate"])
        .with("HOOKLINE__STORE__URL", url)
        .with("HOOKLINE__START__WAIT_FOR_PEERS_SECONDS", "20");
    let mut cases = Cases::default();
    cases.add(migrated, 1, &["hookline: ", "LATIN1", "UTF8"]);
    cases.all().await?;
    is_refused(&deployment, url, &["LATIN1", "UTF8"]).await?;
    deployment.end().await
}

async fn a_schema_that_is_newer_is_refused(mode: Mode) -> anyhow::Result<()> {
    let deployment = Deployment::prepare(mode, &[]).await?;
    let dependencies = deployment.dependencies()?;
    dependencies
        .sql("INSERT INTO __diesel_schema_migrations (version) VALUES ('99991231000000')")
        .await?;
    let migrated = Start::of("hookline", &["migrate"])
        .with("HOOKLINE__STORE__URL", &dependencies.database)
        .with("HOOKLINE__START__WAIT_FOR_PEERS_SECONDS", "20");
    let mut cases = Cases::default();
    let line = "hookline: the database's schema is newer than this program (migration 99991231000000): \
                run the version that migrated it, or a newer one\n";
    cases.add(migrated, 1, &[line]);
    cases.all().await?;
    is_refused(&deployment, &dependencies.database, &["schema", "newer"]).await?;
    deployment.end().await
}

/// It has the versions of the migrations before the initial one, and none that this program knows.
async fn a_schema_of_an_unreleased_version_is_refused(mode: Mode) -> anyhow::Result<()> {
    let deployment = Deployment::prepare(mode, &[]).await?;
    let dependencies = deployment.dependencies()?;
    dependencies
        .sql(
            "DELETE FROM __diesel_schema_migrations;
             INSERT INTO __diesel_schema_migrations (version) VALUES ('20261123000000'), ('20261130000170')",
        )
        .await?;
    let migrated = Start::of("hookline", &["migrate"])
        .with("HOOKLINE__STORE__URL", &dependencies.database)
        .with("HOOKLINE__START__WAIT_FOR_PEERS_SECONDS", "20");
    let mut cases = Cases::default();
    let line = "hookline: an unreleased version of Hookline made the database's schema (migration 20261123000000), \
                and no version migrates it: start with a new database\n";
    cases.add(migrated, 1, &[line]);
    cases.all().await?;
    is_refused(
        &deployment,
        &dependencies.database,
        &["an unreleased version", "start with a new database"],
    )
    .await?;
    deployment.end().await
}

async fn a_role_that_may_not_write_is_refused(mode: Mode) -> anyhow::Result<()> {
    let deployment = Deployment::prepare(mode, &[]).await?;
    let dependencies = deployment.dependencies()?;
    let database = dependencies.as_superuser()?;
    let role = format!("reader_{}", database.name());
    database
        .sql(&format!(
            "CREATE ROLE {role} LOGIN PASSWORD 'hush'; \
             GRANT USAGE ON SCHEMA public TO {role}; \
             GRANT SELECT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO {role}"
        ))
        .await?;
    let mut url: reqwest::Url = dependencies.database.parse()?;
    url.set_username(&role).ok().context("a URL with a user")?;
    url.set_password(Some("hush"))
        .ok()
        .context("a URL with a password")?;
    let refused = is_refused(
        &deployment,
        url.as_str(),
        &["rights", "GRANT ", "INSERT on events"],
    )
    .await;
    database
        .sql(&format!("DROP OWNED BY {role}; DROP ROLE {role}"))
        .await?;
    refused?;
    deployment.end().await
}
