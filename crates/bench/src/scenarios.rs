//! The workloads.

mod drain;
mod latency;
mod many;
mod neighbours;
mod pages;
mod rates;
mod slow;

use clap::ValueEnum;
use hookline_acceptance::home::Kind;

use crate::figure::{Figure, Figures, POSTS, RATE, RELAYS};
use crate::role::{Receiver, Scheme, posts_per_second, relays_per_second};
use crate::stage::{Setting, Stage};

/// What is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Scenario {
    /// One subscription, 20,000 events
    A,
    /// Fan-out to ten subscriptions, 4,000 events
    B,
    /// 50 events a second for 30 s: latency
    C,
    /// A backlog of 50,000, and the dispatcher alone (distributed)
    D,
    /// 200 events a second for 120 s, one of ten receivers hangs
    E,
    /// As a, and one delivery in twenty fails at first
    F,
    /// Receivers that take 500 ms, with 1, 2 and 4 dispatchers (distributed)
    G,
    /// 1,000, 10,000 and 100,000 subscriptions of 1,000 organizations
    H,
    /// Pages of a log of 10,000,000 rows
    I,
    /// As a, with receivers that speak TLS
    Tls,
}

/// How much of each.
#[derive(Debug, Clone, Copy)]
pub struct Size(pub f64);

impl Size {
    /// So much of a number, and at least one.
    fn of(self, full: u64) -> u64 {
        ((full as f64 * self.0) as u64).max(1)
    }
}

impl Scenario {
    /// The letter that the issue and the tables know it by.
    pub fn letter(self) -> &'static str {
        match self {
            Self::A => "a",
            Self::B => "b",
            Self::C => "c",
            Self::D => "d",
            Self::E => "e",
            Self::F => "f",
            Self::G => "g",
            Self::H => "h",
            Self::I => "i",
            Self::Tls => "a-tls",
        }
    }

    /// Whether there is such a thing in this home: one process has no part that can be left out
    /// or started twice.
    pub fn is_of(self, kind: Kind) -> bool {
        kind == Kind::Distributed || !matches!(self, Self::D | Self::G)
    }

    /// Runs it once.
    ///
    /// # Errors
    /// When something is missing at the end, or wrong.
    pub async fn run(self, kind: Kind, size: Size) -> anyhow::Result<Vec<Figure>> {
        let figures = Figures {
            scenario: self.letter(),
            home: Some(kind),
        };
        match self {
            Self::A => rates::one(figures, kind, size).await,
            Self::Tls => rates::tls(figures, kind, size).await,
            Self::B => rates::ten(figures, kind, size).await,
            Self::F => rates::failing(figures, kind, size).await,
            Self::C => latency::run(figures, kind, size).await,
            Self::D => drain::run(figures, size).await,
            Self::E => neighbours::run(figures, kind, size).await,
            Self::G => slow::run(figures, size).await,
            Self::H => many::run(figures, kind, size).await,
            Self::I => pages::run(figures, kind, size).await,
        }
    }
}

/// What this machine does without us, at this moment.
///
/// # Errors
/// When it does not.
pub async fn raw(kinds: &[Kind], size: Size) -> anyhow::Result<Vec<Figure>> {
    let figures = Figures {
        scenario: "raw",
        home: None,
    };
    let receiver = Receiver::start(Scheme::Http).await?;
    let posts = posts_per_second(&receiver, size.of(60_000)).await?;
    let mut all = vec![figures.of(POSTS, posts, RATE)];
    if kinds.contains(&Kind::Distributed) {
        let stage = Stage::open(Kind::Distributed, Setting::default()).await?;
        let relays = relays_per_second(&stage.home.peers()?.amqp, size.of(40_000)).await?;
        all.push(figures.of(RELAYS, relays, RATE));
        stage.close().await?;
    }
    Ok(all)
}
