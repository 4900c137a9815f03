//! `hookline partitions`.

use std::process::ExitCode;

use anyhow::{Context as _, bail};
use clap::{Args, Subcommand};
use comfy_table::{Table, TableStyle};
use hookline_core::partition::Partitions as Count;
use hookline_store::{Holding, PartitionTotals, RegisteredDispatcher};
use serde_json::{Value, json};

use crate::place::{Place, Purpose, Whereabouts, now};

/// How many rows a statement moves to their partition.
const AT_ONCE: u32 = 1_000;

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
    /// Divide the subscriptions into another number of partitions; dispatchers take it over within a second
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

/// Rows that are due later keep their old partition until they are moved. Their owner finds them meanwhile, unless
/// their partition is no more.
async fn set(count: u16, place: &Place) -> anyhow::Result<()> {
    if let Whereabouts::Folder(_) = place.whereabouts(Purpose::Change)? {
        bail!("a folder has one partition, for one process delivers from it");
    }
    let store = place.store(Purpose::Change).await?;
    let count = Count::new(count).context("the number of partitions is from 1 to 1024")?;
    store.resize_partitions(count).await?;
    let mut moved = 0;
    loop {
        match store.refile(AT_ONCE).await? {
            0 => break,
            rows => moved += rows,
        }
    }
    println!("{} partitions; moved {moved} deliveries", count.count());
    Ok(())
}

async fn show(place: &Place, as_json: bool) -> anyhow::Result<()> {
    let store = place.store(Purpose::Read).await?;
    let roster = store.roster().await?;
    let now = store.clock().await.unwrap_or_else(now);
    let totals = store.partition_totals(now).await?;
    let rows = roster.partitions.iter().map(|holding| {
        let of = |totals: &&PartitionTotals| totals.partition == holding.partition;
        let by = |one: &&RegisteredDispatcher| Some(one.id) == holding.owner;
        let totals = totals.iter().find(of).copied();
        (holding, roster.dispatchers.iter().find(by), totals)
    });
    if as_json {
        let partitions: Vec<Value> = rows.map(as_value).collect();
        println!("{}", json!({ "partitions": partitions }));
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
    Ok(())
}

type Row<'a> = (
    &'a Holding,
    Option<&'a RegisteredDispatcher>,
    Option<PartitionTotals>,
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

/// A count that stops at [`PartitionTotals::MOST`].
fn capped(count: u64) -> String {
    match count {
        PartitionTotals::MOST.. => format!("{}+", PartitionTotals::MOST),
        count => count.to_string(),
    }
}
