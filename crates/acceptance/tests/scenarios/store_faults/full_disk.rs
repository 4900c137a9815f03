//! The disk of the database is full, and has room again.

use anyhow::Context as _;
use hookline_testkit::deployment::{Deployment, Mode, Service};
use hookline_testkit::small_disk::{Mebibytes, obstacle};
use hookline_testkit::small_tablespace::SmallTablespace;

use super::{BEFORE, LANGUAGES, LASTS, MEANWHILE, Witness, not_ready, speak};

/// An empty database has 8 MiB.
const SIZE: Mebibytes = Mebibytes(48);

pub(super) async fn events_wait_while_the_database_disk_is_full(mode: Mode) -> anyhow::Result<()> {
    if let Some(why) = obstacle() {
        println!("a full disk of the database: NOT TRIED: {why}");
        return Ok(());
    }
    let deployment = Deployment::prepare(mode, &[]).await?;
    let database = deployment.dependencies()?.as_superuser()?;
    let server = database.maintenance()?;
    let small = SmallTablespace::create(&server, database.name(), SIZE).await?;
    let told = filled(&deployment, &small).await;
    // In this order, also after a failure: PostgreSQL fails its checkpoints when tables are gone.
    deployment.end().await?;
    small.remove(&server).await?;
    told
}

async fn filled(deployment: &Deployment, small: &SmallTablespace) -> anyhow::Result<()> {
    for service in deployment.services() {
        deployment.start_service(service, &[]).await?;
    }
    deployment.wait_ready().await?;
    let database = deployment.dependencies()?.as_superuser()?;
    let tenant = deployment.tenant().await?;
    let mut witness = Witness::of(&tenant).await?;
    for language in LANGUAGES {
        if !speak(deployment, &database, language).await? {
            continue;
        }
        let told = || format!("a full disk in {language}");
        witness.publish(BEFORE).await?;
        small.disk().fill()?;
        witness.meanwhile().await.with_context(told)?;
        // The rest of the pages that were begun takes some more events.
        while deployment.readiness(Service::Ingest).await != 503 && witness.accepted.len() < 20_000
        {
            witness.publish(MEANWHILE).await?;
        }
        not_ready(deployment, &[Service::Ingest])
            .await
            .with_context(told)?;
        tokio::time::sleep(LASTS).await;
        small.disk().free()?;
        witness.goes_on().await.with_context(told)?;
    }
    Ok(())
}
