//! The disk of the database is full, and has room again.

use anyhow::Context as _;
use hookline_testkit::deployment::{Home, Kind, Part};
use hookline_testkit::small_disk::{Mebibytes, obstacle};
use hookline_testkit::small_tablespace::SmallTablespace;

use super::{BEFORE, LANGUAGES, LASTS, MEANWHILE, ONE_AT_A_TIME, Witness, not_ready, speak};

/// An empty database has 8 MiB.
const SIZE: Mebibytes = Mebibytes(48);

pub(super) async fn a_full_disk_of_the_database_is_waited_for(kind: Kind) -> anyhow::Result<()> {
    if let Some(why) = obstacle() {
        println!("a full disk of the database: NOT TRIED: {why}");
        return Ok(());
    }
    let home = Home::prepare(kind, &[]).await?;
    let database = home.peers()?.as_superuser()?;
    let server = database.maintenance()?;
    let small = SmallTablespace::of(&server, database.name(), SIZE).await?;
    let told = filled(&home, &small).await;
    // In this order, also after a failure: PostgreSQL fails its checkpoints when tables are gone.
    home.end().await?;
    small.remove(&server).await?;
    told
}

async fn filled(home: &Home, small: &SmallTablespace) -> anyhow::Result<()> {
    for part in home.parts() {
        home.start_part(part, &[]).await?;
    }
    home.wait_ready().await?;
    let database = home.peers()?.as_superuser()?;
    let tenant = home.tenant().await?;
    let mut witness = Witness::of(&tenant).await?;
    for language in LANGUAGES {
        if !speak(home, &database, language).await? {
            continue;
        }
        let told = || format!("a full disk in {language}");
        witness.publish(BEFORE).await?;
        let _turn = ONE_AT_A_TIME.lock().await;
        small.disk().fill()?;
        witness.meanwhile().await.with_context(told)?;
        // The rest of the pages that were begun takes some more events.
        while home.readiness(Part::Ingest).await != 503 && witness.accepted.len() < 20_000 {
            witness.publish(MEANWHILE).await?;
        }
        not_ready(home, &[Part::Ingest]).await.with_context(told)?;
        tokio::time::sleep(LASTS).await;
        small.disk().free()?;
        witness.goes_on().await.with_context(told)?;
    }
    Ok(())
}
