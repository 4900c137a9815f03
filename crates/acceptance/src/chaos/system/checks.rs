//! The owners of partitions after a fault.

use std::time::Duration;

use hookline_testkit::waiting::until;

use super::System;
use crate::chaos::fault::{Fault, Injection};
use crate::chaos::owners::Owners;

/// Longer than a working dispatcher takes to find an owner dead.
const OWNERS_WOULD_HAVE_CHANGED: Duration = Duration::from_secs(6);

impl System {
    /// Checks the effects of a fault, once everything is back.
    pub(crate) async fn check_effects(&mut self, injection: &Injection) -> anyhow::Result<()> {
        if injection.fault == Fault::FailOver {
            // No process was started anew.
            self.wait_ready().await?;
            self.even_owners().await?;
            return Ok(());
        }
        let Some(before) = self.owners.take() else {
            return Ok(());
        };
        self.wait_ready().await?;
        tokio::time::sleep(OWNERS_WOULD_HAVE_CHANGED).await;
        let after = self.read_owners().await?;
        let changed = after.map_or(usize::MAX, |after| before.changed(&after));
        if changed > 0 {
            self.problems.push(format!(
                "{changed} partitions changed their owner in an outage of the database"
            ));
        }
        Ok(())
    }

    pub(super) async fn read_owners(&self) -> anyhow::Result<Option<Owners>> {
        Owners::read(&self.hookline(&["partitions", "--json"]).await?)
    }

    /// Waits until the dispatchers share the partitions evenly: none is on the move then.
    pub(super) async fn even_owners(&self) -> anyhow::Result<Owners> {
        let dispatchers = self.plan.dispatchers;
        until("even shares of partitions", async || {
            let owners = self.read_owners().await?;
            Ok(owners.filter(|owners| owners.are_even(dispatchers)))
        })
        .await
    }
}
