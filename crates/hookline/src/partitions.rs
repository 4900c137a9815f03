//! `hookline partitions`.

use std::collections::HashMap;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, bail};
use clap::{Args, Subcommand};
use comfy_table::{Table, TableStyle};
use hookline_core::partition::{DispatcherId, Partition, Partitions as Count};
use hookline_store::{PartitionCounts, PartitionOwner, RegisteredDispatcher};
use serde_json::{Value, json};

use crate::place::{Place, Purpose, Whereabouts, now};

/// Later, each dispatcher knows of a change, or its beats are not answered and it starts nothing.
const UNTIL_ALL_KNOW: Duration = Duration::from_secs(3);

/// The time to record the last requests.
const TO_RECORD: Duration = Duration::from_secs(1);

/// A dispatcher without a sign of life for so long has died or is frozen, or the database was away.
const SILENT: Duration = Duration::from_secs(3);

#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct Partitions {
    #[command(subcommand)]
    change: Option<Change>,

    /// Print one JSON object
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    place: Place,
}

#[derive(Debug, Subcommand)]
enum Change {
    /// Divide the subscriptions into another number of partitions, while all services run
    Set {
        /// At least the number of dispatchers, better four times as many (1 to 1024)
        #[arg(value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1_024))]
        count: u16,

        #[command(flatten)]
        place: Place,
    },
}

impl Partitions {
    pub(crate) async fn run(self) -> anyhow::Result<ExitCode> {
        match self.change {
            Some(Change::Set { count, place }) => set(count, &place).await?,
            None => show(&self.place, self.json).await?,
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// Deliveries of partitions that do not exist any more are moved when no dispatcher has one of them in hand. Those of other
/// partitions are moved by their owners when they are due.
async fn set(count: u16, place: &Place) -> anyhow::Result<()> {
    let settings = match place.whereabouts(Purpose::Change)? {
        Whereabouts::Servers(settings) => settings,
        Whereabouts::Folder(_) => {
            bail!("a folder has one partition, for one process delivers from it")
        }
    };
    let store = place.store(Purpose::Change).await?;
    let count = Count::new(count).context("the number of partitions is from 1 to 1024")?;
    let before = store.partitions().await?;
    store.announce_resize().await?;
    tokio::time::sleep(UNTIL_ALL_KNOW).await;
    store.resize_partitions(count).await?;
    if before.count() > count.count() {
        let wait = UNTIL_ALL_KNOW + settings.dispatcher.deadline + TO_RECORD;
        eprintln!(
            "waiting {} s for requests of the partitions that are no more",
            wait.as_secs()
        );
        tokio::time::sleep(wait).await;
    }
    let moved = store.repartition_all().await?;
    println!("{} partitions; moved {moved} deliveries", count.count());
    Ok(())
}

async fn show(place: &Place, as_json: bool) -> anyhow::Result<()> {
    let store = place.store(Purpose::Read).await?;
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
        "beat",
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
            owner.map_or("-".to_owned(), |owner| owner.beat.to_string()),
            totals.map_or("-".to_owned(), |totals| capped(totals.due)),
            totals.map_or("-".to_owned(), |totals| capped(totals.backlog)),
            totals.map_or("-".to_owned(), |totals| capped(totals.later)),
        ]);
    }
    println!("{table}");
    let mut table = Table::new();
    table
        .load_style(TableStyle::new())
        .set_header(["dispatcher", "state", "partitions", "beat"]);
    for one in dispatchers {
        table.add_row([
            one.dispatcher.id.0.to_string(),
            one.state().to_owned(),
            one.partitions.to_string(),
            one.dispatcher.beat.to_string(),
        ]);
    }
    println!("{table}");
    Ok(())
}

/// A dispatcher as the command shows it.
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
            "beat": self.dispatcher.beat,
        })
    }
}

type Row<'a> = (
    &'a PartitionOwner,
    Option<&'a RegisteredDispatcher>,
    Option<PartitionCounts>,
);

fn as_value((holding, owner, totals): Row<'_>) -> Value {
    json!({
        "partition": holding.partition.0,
        "owner": holding.owner.map(|id| id.0),
        "epoch": holding.epoch,
        "beat": owner.map(|owner| owner.beat),
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
