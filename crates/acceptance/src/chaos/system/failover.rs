//! A failover of the database that loses the last commits.

use std::collections::HashSet;
use std::path::PathBuf;
use std::time::Instant;

use anyhow::Context as _;
use hookline_testkit::waiting::until;

use super::System;
use super::disks::Disk;
use crate::chaos::ledger::{EventName, Ledger, LostCommits, StoredRows};

/// The database before it was copied.
pub(super) struct DatabaseCopy {
    /// Everything that was confirmed before is in the copy.
    pub(super) confirmed_until: Instant,
    pub(super) events: HashSet<EventName>,
}

impl System {
    /// Waits until all events confirmed so far are in the database, and returns the content of the database.
    pub(super) async fn know_events(&self, ledger: &Ledger) -> anyhow::Result<DatabaseCopy> {
        let confirmed_until = Instant::now();
        let confirmed = ledger.confirmed_events();
        let events = until("the confirmed events in the database", async || {
            let stored = self.stored().await?;
            ledger.mark_lost_by_failover(&self.lost, &stored);
            let is_there = |name| stored.events.contains(name) || ledger.is_lost_by_failover(name);
            Ok(confirmed.iter().all(is_there).then_some(stored.events))
        })
        .await?;
        Ok(DatabaseCopy {
            confirmed_until,
            events,
        })
    }

    /// The database goes on from its copy.
    pub(super) async fn fail_over(&mut self) -> anyhow::Result<()> {
        let copied = self.copied.take().context("nothing was copied")?;
        let tables = self.tables();
        // Later events are committed to the copy.
        let killed = self.servers()?.fall_back_to_copy(tables.as_deref()).await?;
        self.servers()?.start_again().await?;
        let back = Instant::now();
        let stored = self.stored().await?.events;
        let missing = copied.events.difference(&stored).count();
        if missing > 0 {
            self.problems.push(format!(
                "a failover lost {missing} events that were committed before its copy was made"
            ));
        }
        self.lost.push(LostCommits {
            from: copied.confirmed_until,
            until: killed,
            back,
        });
        Ok(())
    }

    /// Where the tables are that a disk can be too small for.
    pub(super) fn tables(&self) -> Option<PathBuf> {
        match &self.disk {
            Some(Disk::OfDatabase(tablespace)) => Some(tablespace.disk().folder().join("tables")),
            _ => None,
        }
    }

    /// The content of a distributed deployment's database.
    pub(crate) async fn stored(&self) -> anyhow::Result<StoredRows> {
        let servers = self.servers.as_ref().context("no database")?;
        let database = servers.database()?;
        let events = "SELECT organization_id || ' ' || event_id FROM events";
        let subscriptions = "SELECT id || ' ' || url FROM subscriptions WHERE deleted_at IS NULL";
        let events = database.sql(events).await?;
        let subscriptions = database.sql(subscriptions).await?;
        let pairs = |text: String| -> Vec<(String, String)> {
            let pairs = text.lines().filter_map(|line| line.split_once(' '));
            pairs
                .map(|(one, other)| (one.to_owned(), other.to_owned()))
                .collect()
        };
        let subscriptions = pairs(subscriptions).into_iter();
        Ok(StoredRows {
            events: pairs(events).into_iter().collect(),
            subscriptions: subscriptions
                .map(|(id, url)| Ok((id.parse()?, url)))
                .collect::<anyhow::Result<_>>()?,
        })
    }
}
