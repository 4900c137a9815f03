//! `hookline dead`: what was put aside, and putting it back.
//!
//! Whatever is removed here is durable elsewhere first, so a command that dies half-way repeats
//! work and loses nothing.

mod deliveries;
mod folder;
mod letter;
mod safe;
mod servers;

use std::io::Write as _;
use std::process::ExitCode;

use anyhow::ensure;
use clap::{Args, Subcommand, ValueEnum};
use hookline_bootstrap::distributed;
use hookline_store::{EmbeddedDeadLetters, Store};
use serde_json::json;

use crate::dead::deliveries::Deliveries;
use crate::dead::folder::Folder;
use crate::dead::letter::{Exhibit, Letter, table};
use crate::dead::safe::safe;
use crate::dead::servers::Servers;
use crate::place::{Place, Purpose, Whereabouts};

#[derive(Debug, Subcommand)]
pub(crate) enum Dead {
    /// List dead letters, oldest first
    List(List),
    /// Show one dead letter whole, with what the store says of it
    Show(Show),
    /// Put dead letters back where they came from
    Redrive(Redrive),
    /// Remove dead letters for good
    Drop(Drop),
}

#[derive(Debug, Args)]
pub(crate) struct List {
    /// Only those of this kind
    #[arg(long)]
    kind: Option<Kind>,

    /// How many of each kind at most
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    limit: u32,

    /// Print one JSON object
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    place: Place,
}

#[derive(Debug, Args)]
pub(crate) struct Show {
    /// The id that `hookline dead list` shows
    id: String,

    #[command(flatten)]
    depth: Depth,

    /// Print one JSON object
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    place: Place,
}

#[derive(Debug, Args)]
pub(crate) struct Redrive {
    #[command(flatten)]
    which: Which,

    #[command(flatten)]
    place: Place,
}

#[derive(Debug, Args)]
pub(crate) struct Drop {
    #[command(flatten)]
    which: Which,

    /// With --all: yes, all of them
    #[arg(long, requires = "all")]
    yes: bool,

    #[command(flatten)]
    place: Place,
}

#[derive(Debug, Args)]
struct Which {
    /// The id that `hookline dead list` shows
    #[arg(required_unless_present = "all", conflicts_with = "all")]
    id: Option<String>,

    /// All that are there now
    #[arg(long)]
    all: bool,

    /// With --all: only those of this kind
    #[arg(long, requires = "all")]
    kind: Option<Kind>,

    #[command(flatten)]
    depth: Depth,
}

/// How far a broker's queue is searched for the id of an event: it knows no other way.
#[derive(Debug, Clone, Copy, Args)]
struct Depth {
    /// How many events in RabbitMQ to look through for the id
    #[arg(long = "limit", value_name = "N", default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    depth: u32,
}

/// What a dead letter was.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Kind {
    /// Events that were published and rejected
    Event,
    /// Deliveries that could not be handled
    Delivery,
}

impl Kind {
    /// Deliveries come first: the store finds an id at once, and a broker's queue has to be searched for it.
    const ALL: [Self; 2] = [Self::Delivery, Self::Event];

    fn as_str(self) -> &'static str {
        match self {
            Self::Event => "event",
            Self::Delivery => "delivery",
        }
    }

    /// This one, or every one.
    fn of(only: Option<Self>) -> &'static [Self] {
        match only {
            None => &Self::ALL,
            Some(Self::Delivery) => &Self::ALL[..1],
            Some(Self::Event) => &Self::ALL[1..],
        }
    }
}

/// Whom a command is about.
#[derive(Debug, Clone)]
enum Aim {
    One(String),
    All(Option<Kind>),
}

impl Aim {
    /// Whose queues have to be looked through.
    fn kinds(&self) -> &'static [Kind] {
        match self {
            Self::One(_) => &Kind::ALL,
            Self::All(only) => Kind::of(*only),
        }
    }

    fn is_at(&self, id: &str) -> bool {
        match self {
            Self::One(wanted) => id == wanted || safe(id) == *wanted,
            Self::All(_) => true,
        }
    }
}

/// What to do with dead letters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Act {
    Redrive,
    Drop,
}

/// What was done.
#[derive(Debug, Default)]
struct Done {
    /// Letters that are dead no more.
    acted: u64,
    /// Letters that stay, and were said to.
    left: u64,
}

impl Done {
    fn is_nothing(&self) -> bool {
        self.acted + self.left == 0
    }

    fn tell(&mut self, act: Act, id: &str, kind: Kind) {
        self.acted += 1;
        let (act, note) = match (act, kind) {
            (Act::Drop, _) => ("dropped", ""),
            (Act::Redrive, Kind::Delivery) => ("put back", ""),
            (Act::Redrive, Kind::Event) => ("put back", "; if it is still not valid, it returns"),
        };
        say(&format!("{act} {} {}{note}\n", kind.as_str(), safe(id)));
    }

    fn leave(&mut self, id: &str, why: &str) {
        self.left += 1;
        eprintln!("{} stays: {}", safe(id), safe(why));
    }
}

/// A part of the dead letters, and how many there are besides.
#[derive(Debug, Default)]
struct Listed {
    letters: Vec<Letter>,
    more: u64,
}

/// Where dead letters of one kind are.
enum Home {
    Deliveries(Deliveries),
    Folder(Folder),
    Servers(Servers),
}

impl Home {
    async fn of(kind: Kind, whereabouts: &Whereabouts, purpose: Purpose) -> anyhow::Result<Self> {
        Ok(match (kind, whereabouts) {
            (Kind::Delivery, Whereabouts::Folder(folder)) => Self::Deliveries(Deliveries {
                store: Store::in_existing_folder(folder)?,
            }),
            (Kind::Delivery, Whereabouts::Servers(settings)) => {
                let store = distributed::store(settings)?;
                store.check().await?;
                Self::Deliveries(Deliveries { store })
            }
            (Kind::Event, Whereabouts::Folder(folder)) => Self::Folder(Folder {
                letters: EmbeddedDeadLetters::beside_embedded(folder)?,
            }),
            (Kind::Event, Whereabouts::Servers(settings)) => {
                purpose.say("broker", &settings.broker.required_url()?);
                Self::Servers(Servers::connect(settings).await?)
            }
        })
    }

    async fn list(self, limit: u32) -> anyhow::Result<Listed> {
        match self {
            Self::Deliveries(deliveries) => deliveries.list(limit).await,
            Self::Folder(folder) => folder.list(limit).await,
            Self::Servers(servers) => servers.list(limit).await,
        }
    }

    async fn find(self, aim: &Aim, depth: u32) -> anyhow::Result<Option<Exhibit>> {
        match self {
            Self::Deliveries(deliveries) => deliveries.find(aim).await,
            Self::Folder(folder) => folder.find(aim).await,
            Self::Servers(servers) => servers.find(aim, depth).await,
        }
    }

    async fn act(self, act: Act, aim: &Aim, depth: u32) -> anyhow::Result<Done> {
        match self {
            Self::Deliveries(deliveries) => deliveries.act(act, aim).await,
            Self::Folder(folder) => folder.act(act, aim).await,
            Self::Servers(servers) => servers.act(act, aim, depth).await,
        }
    }
}

impl Dead {
    pub(crate) async fn run(self) -> anyhow::Result<ExitCode> {
        match self {
            Self::List(list) => list.run().await,
            Self::Show(show) => show.run().await,
            Self::Redrive(Redrive { which, place }) => which.act(Act::Redrive, &place).await,
            Self::Drop(Drop { which, yes, place }) => {
                ensure!(
                    yes || !which.all,
                    "this removes dead letters for good: say --yes, too"
                );
                which.act(Act::Drop, &place).await
            }
        }
    }
}

impl List {
    async fn run(self) -> anyhow::Result<ExitCode> {
        let whereabouts = self.place.whereabouts(Purpose::Read)?;
        let mut all = Listed::default();
        for kind in Kind::of(self.kind) {
            let home = Home::of(*kind, &whereabouts, Purpose::Read).await?;
            let listed = home.list(self.limit).await?;
            all.letters.extend(listed.letters);
            all.more += listed.more;
        }
        if self.json {
            let letters: Vec<_> = all.letters.iter().map(Letter::json).collect();
            say(&format!(
                "{}\n",
                json!({"dead_letters": letters, "more": all.more})
            ));
        } else if all.letters.is_empty() {
            say("there are no dead letters\n");
        } else {
            say(&table(&all.letters));
            if all.more > 0 {
                say(&format!("… and {} more: see --limit\n", all.more));
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}

impl Show {
    async fn run(self) -> anyhow::Result<ExitCode> {
        let whereabouts = self.place.whereabouts(Purpose::Read)?;
        let aim = Aim::One(self.id.clone());
        for kind in aim.kinds() {
            let home = Home::of(*kind, &whereabouts, Purpose::Read).await?;
            if let Some(exhibit) = home.find(&aim, self.depth.depth).await? {
                say(&match self.json {
                    true => format!("{}\n", exhibit.json()),
                    false => exhibit.text(),
                });
                return Ok(ExitCode::SUCCESS);
            }
        }
        Ok(missing(&self.id))
    }
}

impl Which {
    async fn act(self, act: Act, place: &Place) -> anyhow::Result<ExitCode> {
        let whereabouts = place.whereabouts(Purpose::Change)?;
        let aim = match self.id {
            Some(id) => Aim::One(id),
            None => Aim::All(self.kind),
        };
        let mut all = Done::default();
        for kind in aim.kinds() {
            let home = Home::of(*kind, &whereabouts, Purpose::Change).await?;
            let done = home.act(act, &aim, self.depth.depth).await?;
            all.acted += done.acted;
            all.left += done.left;
            if matches!(aim, Aim::One(_)) && !all.is_nothing() {
                break;
            }
        }
        match &aim {
            Aim::One(id) if all.is_nothing() => return Ok(missing(id)),
            Aim::All(_) if all.is_nothing() => say("there are no dead letters\n"),
            _ => {}
        }
        Ok(match all.left {
            0 => ExitCode::SUCCESS,
            _ => ExitCode::FAILURE,
        })
    }
}

fn missing(id: &str) -> ExitCode {
    eprintln!(
        "there is no dead letter {} where it was looked for: see `hookline dead list`, and --limit",
        safe(id)
    );
    ExitCode::FAILURE
}

/// Whoever has seen enough may stop reading.
fn say(text: &str) {
    let _unread = std::io::stdout().write_all(text.as_bytes());
}
