//! The disk of the database is full, and has room again.

use anyhow::Context as _;
use hookline_testkit::deployment::{Deployment, Mode, Service};
use hookline_testkit::small_disk::{Mebibytes, missing_requirement};
use hookline_testkit::small_tablespace::SmallTablespace;

use super::{BEFORE, DeliveryProbe, FAULT_DURATION, LANGUAGES, MEANWHILE, not_ready, speak};

/// An empty database has 8 MiB.
const SIZE: Mebibytes = Mebibytes(48);

pub(super) async fn events_wait_while_the_database_disk_is_full(mode: Mode) -> anyhow::Result<()> {
    if let Some(why) = missing_requirement() {
        println!("a full disk of the database: NOT TRIED: {why}");
        return Ok(());
    }
    let deployment = Deployment::prepare(mode, &[]).await?;
    let database = deployment.dependencies()?.as_superuser()?;
    let server = database.maintenance()?;
    let small = SmallTablespace::create(&server, database.name(), SIZE).await?;
    let description = filled(&deployment, &small).await;
    // In this order, also after a failure: PostgreSQL fails its checkpoints when tables are gone.
    deployment.end().await?;
    small.remove(&server).await?;
    description
}

async fn filled(deployment: &Deployment, small: &SmallTablespace) -> anyhow::Result<()> {
    for service in deployment.services() {
        deployment.start_service(service, &[]).await?;
    }
    deployment.wait_ready().await?;
    let database = deployment.dependencies()?.as_superuser()?;
    let tenant = deployment.tenant().await?;
    let mut probe = DeliveryProbe::of(&tenant).await?;
    for language in LANGUAGES {
        if !speak(deployment, &database, language).await? {
            continue;
        }
        let description = || format!("a full disk in {language}");
        probe.publish(BEFORE).await?;
        small.disk().fill()?;
        probe.during_fault().await.with_context(description)?;
        // The rest of the pages that were begun takes some more events.
        while deployment.readiness(Service::Ingest).await != 503 && probe.accepted.len() < 20_000 {
            probe.publish(MEANWHILE).await?;
        }
        not_ready(deployment, &[Service::Ingest])
            .await
            .with_context(description)?;
        tokio::time::sleep(FAULT_DURATION).await;
        small.disk().free()?;
        probe.recovers().await.with_context(description)?;
    }
    Ok(())
}
