//! `hookline dead-letters`: list, show, redrive and drop dead letters.
//!
//! A letter is removed only after its event or delivery is durable elsewhere. A command that dies half-way repeats work
//! and loses nothing.

mod deliveries;
mod folder;
mod letter;
mod location;
mod outcome;
mod rabbit;
mod selection;
mod terminal_escape;

use std::process::ExitCode;

use anyhow::ensure;
use clap::{Args, Subcommand};
use serde_json::json;

use crate::dead_letters::letter::{Letter, Listed, table};
use crate::dead_letters::location::Location;
use crate::dead_letters::outcome::{Outcome, print};
use crate::dead_letters::selection::{Action, DeadLetterKind, Selection};
use crate::dead_letters::terminal_escape::escaped;
use crate::target_store::{Purpose, StoreArgs};

#[derive(Debug, Subcommand)]
pub(crate) enum DeadLettersCommand {
    /// List dead letters, oldest first
    List(ListCommand),
    /// Show one dead letter with its body, and a delivery with its data in the store
    Show(Show),
    /// Process dead letters again: publish events, and start deliveries as a manual retry does
    Redrive {
        #[command(flatten)]
        selected: SelectionArgs,
        #[command(flatten)]
        store: StoreArgs,
    },
    /// Remove dead letters for good
    Drop {
        #[command(flatten)]
        selected: SelectionArgs,
        /// Confirm --all
        #[arg(long, requires = "all")]
        yes: bool,
        #[command(flatten)]
        store: StoreArgs,
    },
}

#[derive(Debug, Args)]
pub(crate) struct ListCommand {
    /// List only this kind
    #[arg(long)]
    kind: Option<DeadLetterKind>,

    /// Show at most N of each kind
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    limit: u32,

    /// Print one JSON object
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    store: StoreArgs,
}

#[derive(Debug, Args)]
pub(crate) struct Show {
    /// The id that `hookline dead-letters list` shows
    id: String,

    #[command(flatten)]
    search: SearchArgs,

    /// Print one JSON object
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    store: StoreArgs,
}

#[derive(Debug, Args)]
pub(crate) struct SelectionArgs {
    /// The id that `hookline dead-letters list` shows
    #[arg(required_unless_present = "all", conflicts_with = "all")]
    id: Option<String>,

    /// Select all dead letters that exist now
    #[arg(long)]
    all: bool,

    /// With --all: select only this kind
    #[arg(long, requires = "all")]
    kind: Option<DeadLetterKind>,

    #[command(flatten)]
    search: SearchArgs,
}

/// RabbitMQ has no index: an id is found by reading the queue.
#[derive(Debug, Clone, Copy, Args)]
struct SearchArgs {
    /// Search at most N events in RabbitMQ for the id
    #[arg(long = "limit", value_name = "N", default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    limit: u32,
}

impl DeadLettersCommand {
    pub(crate) async fn run(self) -> anyhow::Result<ExitCode> {
        match self {
            Self::List(list) => list.run().await,
            Self::Show(show) => show.run().await,
            Self::Redrive { selected, store } => selected.act(Action::Redrive, &store).await,
            Self::Drop {
                selected,
                yes,
                store,
            } => {
                ensure!(
                    yes || !selected.all,
                    "--all removes all dead letters for good: confirm it with --yes"
                );
                selected.act(Action::Drop, &store).await
            }
        }
    }
}

impl ListCommand {
    async fn run(self) -> anyhow::Result<ExitCode> {
        let target = self.store.target(Purpose::Read)?;
        let mut all = Listed::default();
        for kind in DeadLetterKind::filtered(self.kind) {
            let location = Location::of(*kind, &target, Purpose::Read).await?;
            let listed = location.list(self.limit).await?;
            all.letters.extend(listed.letters);
            all.more += listed.more;
        }
        if self.json {
            let letters: Vec<_> = all.letters.iter().map(Letter::json).collect();
            print(&format!(
                "{}\n",
                json!({"dead_letters": letters, "more": all.more})
            ));
        } else if all.letters.is_empty() {
            print("there are no dead letters\n");
        } else {
            print(&table(&all.letters));
            if all.more > 0 {
                print(&format!("… and {} more: see --limit\n", all.more));
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}

impl Show {
    async fn run(self) -> anyhow::Result<ExitCode> {
        let target = self.store.target(Purpose::Read)?;
        let selection = Selection::One(self.id.clone());
        for kind in selection.kinds() {
            let location = Location::of(*kind, &target, Purpose::Read).await?;
            if let Some(details) = location.find(&selection, self.search.limit).await? {
                print(&match self.json {
                    true => format!("{}\n", details.json()),
                    false => details.text(),
                });
                return Ok(ExitCode::SUCCESS);
            }
        }
        Ok(missing(&self.id))
    }
}

impl SelectionArgs {
    async fn act(self, action: Action, store: &StoreArgs) -> anyhow::Result<ExitCode> {
        let target = store.target(Purpose::Change)?;
        let selection = match self.id {
            Some(id) => Selection::One(id),
            None => Selection::All(self.kind),
        };
        let mut all = Outcome::default();
        for kind in selection.kinds() {
            let location = Location::of(*kind, &target, Purpose::Change).await?;
            let outcome = location.act(action, &selection, self.search.limit).await?;
            all.done += outcome.done;
            all.kept += outcome.kept;
            if matches!(selection, Selection::One(_)) && !all.is_nothing() {
                break;
            }
        }
        match &selection {
            Selection::One(id) if all.is_nothing() => return Ok(missing(id)),
            Selection::All(_) if all.is_nothing() => print("there are no dead letters\n"),
            _ => {}
        }
        Ok(match all.kept {
            0 => ExitCode::SUCCESS,
            _ => ExitCode::FAILURE,
        })
    }
}

fn missing(id: &str) -> ExitCode {
    eprintln!(
        "there is no dead letter {} among those searched: see `hookline dead-letters list`, and --limit",
        escaped(id)
    );
    ExitCode::FAILURE
}
