//! Disks that are filled: of the standalone process, or of the database.

use std::time::Duration;

use hookline_testkit::small_disk::{Mebibytes, SmallDisk, missing_requirement};
use hookline_testkit::small_tablespace::SmallTablespace;
use hookline_testkit::waiting::until;

use super::System;
use crate::chaos::fault::{Fault, Target};
use crate::chaos::servers::Servers;

/// A disk that can be filled.
pub(super) enum Disk {
    OfFolder(SmallDisk),
    OfDatabase(SmallTablespace),
}

impl Disk {
    pub(super) fn itself(&self) -> &SmallDisk {
        match self {
            Disk::OfFolder(disk) => disk,
            Disk::OfDatabase(tablespace) => tablespace.disk(),
        }
    }
}

/// A run writes up to 8 MiB each minute; the rest is what the filler takes.
pub(super) async fn disk_of_database(
    servers: &Servers,
    length: Duration,
) -> anyhow::Result<Option<Disk>> {
    if let Some(why) = missing_requirement() {
        println!("chaos: a full disk of the database was NOT TRIED: {why}");
        return Ok(None);
    }
    let minutes = u32::try_from(length.as_secs() / 60)?.saturating_add(1);
    let size = Mebibytes(64 + minutes.saturating_mul(16));
    let database = servers.database()?;
    let server = database.maintenance()?;
    let small = SmallTablespace::create(&server, database.name(), size).await?;
    Ok(Some(Disk::OfDatabase(small)))
}

impl System {
    /// A deployment with a full disk must say that it is not ready.
    pub(super) async fn fill(&mut self, targets: &[Target]) -> anyhow::Result<()> {
        let Some(disk) = &self.disk else {
            // Said when the deployment was made.
            return Ok(());
        };
        disk.itself().fill()?;
        let processes = &self.processes;
        until("a deployment that says that it is not ready", async || {
            for process in processes {
                if process.readiness().await == 503 {
                    return Ok(Some(()));
                }
            }
            Ok(None)
        })
        .await?;
        for target in targets.iter().filter(|target| **target != Target::Disk) {
            self.process(*target)?.inject(Fault::FillDisk).await?;
        }
        Ok(())
    }

    /// It goes on by itself once there is room.
    pub(super) async fn free(&mut self, targets: &[Target]) -> anyhow::Result<()> {
        let Some(disk) = &self.disk else {
            return Ok(());
        };
        disk.itself().free()?;
        for target in targets.iter().filter(|target| **target != Target::Disk) {
            self.process(*target)?.start()?;
        }
        self.wait_ready().await
    }
}
