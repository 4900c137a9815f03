//! `hookline partitions`.

use std::collections::HashMap;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, bail};
use clap::{Args, Subcommand};
use comfy_table::{Table, TableStyle};
use hookline_core::partition::{DispatcherId, Partition, Partitions};
use hookline_store::{PartitionCounts, PartitionOwner, RegisteredDispatcher};
use serde_json::{Value, json};

use crate::target_store::{Purpose, StoreArgs, TargetStore, now};

/// After this time, each dispatcher has read the change, or its heartbeats fail and it starts no request.
const PROPAGATION: Duration = Duration::from_secs(3);

/// Time to record the last requests.
const RECORDING: Duration = Duration::from_secs(1);

/// A dispatcher without a heartbeat for this time has died or hangs, or the database was unavailable.
const SILENT: Duration = Duration::from_secs(3);

#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct PartitionsCommand {
    #[command(subcommand)]
    change: Option<Change>,

    /// Print one JSON object
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    store: StoreArgs,
}

#[derive(Debug, Subcommand)]
enum Change {
    /// Change the number of partitions, while all services run
    Set {
        /// The number of partitions (1 to 1024): at least that of dispatchers, better four times as many
        #[arg(value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1_024))]
        count: u16,

        #[command(flatten)]
        store: StoreArgs,
    },
}

impl PartitionsCommand {
    pub(crate) async fn run(self) -> anyhow::Result<ExitCode> {
        match self.change {
            Some(Change::Set { count, store }) => set(count, &store).await?,
            None => show(&self.store, self.json).await?,
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// Deliveries of removed partitions are moved when no dispatcher works on them any more. Other deliveries that change
/// their partition are moved by its owner when they are due.
async fn set(count: u16, store: &StoreArgs) -> anyhow::Result<()> {
    let settings = match store.target(Purpose::Change)? {
        TargetStore::Servers(settings) => settings,
        TargetStore::Folder(_) => {
            bail!("a folder has one partition, because one process delivers from it")
        }
    };
    let store = store.open(Purpose::Change).await?;
    let count = Partitions::new(count).context("the number of partitions is from 1 to 1024")?;
    let before = store.partitions().await?;
    store.announce_resize().await?;
    tokio::time::sleep(PROPAGATION).await;
    store.resize_partitions(count).await?;
    if before.count() > count.count() {
        let wait = PROPAGATION + settings.dispatcher.deadline + RECORDING;
        eprintln!(
            "waiting {} s for requests of the removed partitions",
            wait.as_secs()
        );
        tokio::time::sleep(wait).await;
    }
    let moved = store.repartition_all().await?;
    println!("{} partitions; moved {moved} deliveries", count.count());
    Ok(())
}

async fn show(store: &StoreArgs, as_json: bool) -> anyhow::Result<()> {
    let store = store.open(Purpose::Read).await?;
    let mut roster = store.cluster_state().await?;
    roster
        .partitions
        .retain(|holding| holding.partition != Partition::CHANGE);
    let heartbeat_ages: HashMap<DispatcherId, Duration> =
        store.heartbeat_ages().await?.into_iter().collect();
    let now = store.clock().await.unwrap_or_else(now);
    let totals = store.partition_counts(now).await?;
    let rows = roster.partitions.iter().map(|holding| {
        let of = |totals: &&PartitionCounts| totals.partition == holding.partition;
        let by = |one: &&RegisteredDispatcher| Some(one.id) == holding.owner;
        let totals = totals.iter().find(of).copied();
        (holding, roster.dispatchers.iter().find(by), totals)
    });
    let dispatchers = roster.dispatchers.iter().map(|dispatcher| Member {
        dispatcher,
        partitions: roster
            .partitions
            .iter()
            .filter(|holding| holding.owner == Some(dispatcher.id))
            .count(),
        silence: heartbeat_ages.get(&dispatcher.id).copied(),
    });
    if as_json {
        let partitions: Vec<Value> = rows.map(as_value).collect();
        let dispatchers: Vec<Value> = dispatchers.map(|one| one.as_value()).collect();
        println!(
            "{}",
            json!({ "partitions": partitions, "dispatchers": dispatchers })
        );
        return Ok(());
    }
    let mut table = Table::new();
    table.load_style(TableStyle::new()).set_header([
        "partition",
        "owner",
        "epoch",
        "heartbeat",
        "due",
        "backlog",
        "later",
    ]);
    for (holding, owner, totals) in rows {
        table.add_row([
            holding.partition.0.to_string(),
            holding
                .owner
                .map_or("none".to_owned(), |id| id.0.to_string()),
            holding.epoch.to_string(),
            owner.map_or("-".to_owned(), |owner| owner.heartbeat.to_string()),
            totals.map_or("-".to_owned(), |totals| capped(totals.due)),
            totals.map_or("-".to_owned(), |totals| capped(totals.backlog)),
            totals.map_or("-".to_owned(), |totals| capped(totals.later)),
        ]);
    }
    println!("{table}");
    let mut table = Table::new();
    table.load_style(TableStyle::new()).set_header([
        "dispatcher",
        "state",
        "partitions",
        "heartbeat",
    ]);
    for one in dispatchers {
        table.add_row([
            one.dispatcher.id.0.to_string(),
            one.state().to_owned(),
            one.partitions.to_string(),
            one.dispatcher.heartbeat.to_string(),
        ]);
    }
    println!("{table}");
    Ok(())
}

struct Member<'a> {
    dispatcher: &'a RegisteredDispatcher,
    partitions: usize,
    /// None in a folder.
    silence: Option<Duration>,
}

impl Member<'_> {
    fn state(&self) -> &'static str {
        match self.partitions {
            _ if self.silence.is_some_and(|silence| silence >= SILENT) => "silent",
            _ if self.dispatcher.draining => "stops",
            0 => "stands by",
            _ => "owns",
        }
    }

    fn as_value(&self) -> Value {
        json!({
            "dispatcher": self.dispatcher.id.0,
            "state": self.state(),
            "partitions": self.partitions,
            "heartbeat": self.dispatcher.heartbeat,
        })
    }
}

type PartitionRow<'a> = (
    &'a PartitionOwner,
    Option<&'a RegisteredDispatcher>,
    Option<PartitionCounts>,
);

fn as_value((holding, owner, totals): PartitionRow<'_>) -> Value {
    json!({
        "partition": holding.partition.0,
        "owner": holding.owner.map(|id| id.0),
        "epoch": holding.epoch,
        "heartbeat": owner.map(|owner| owner.heartbeat),
        "draining": owner.map(|owner| owner.draining),
        "due": totals.map(|totals| totals.due),
        "backlog": totals.map(|totals| totals.backlog),
        "later": totals.map(|totals| totals.later),
    })
}

/// A count that stops at [`PartitionCounts::MOST`].
fn capped(count: u64) -> String {
    match count {
        PartitionCounts::MOST.. => format!("{}+", PartitionCounts::MOST),
        count => count.to_string(),
    }
}
