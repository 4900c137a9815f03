//! The scenarios of chaos, and the kinds of faults.

use clap::ValueEnum;
use hookline_testkit::deployment::Mode;

use super::fault::Target;

/// The parts of a run, and the faults that hit them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scenario {
    /// Three services, two or more of ingest and dispatcher, with PostgreSQL and RabbitMQ.
    Distributed,
    /// The same with a RabbitMQ of three nodes, which are hit one at a time.
    Cluster,
    /// `hookline serve`.
    Standalone,
    /// `hookline serve` on a disk that fills up.
    FullDisk,
}

impl Scenario {
    /// The deployment mode.
    pub fn mode(self) -> Mode {
        match self {
            Scenario::Distributed | Scenario::Cluster => Mode::Distributed,
            Scenario::Standalone | Scenario::FullDisk => Mode::Standalone,
        }
    }

    /// The name in a report.
    pub fn name(self) -> &'static str {
        match self {
            Scenario::Distributed => "distributed",
            Scenario::Cluster => "cluster",
            Scenario::Standalone => "embedded",
            Scenario::FullDisk => "full disk",
        }
    }

    /// Everything that can be killed there.
    pub fn targets(self, dispatchers: usize) -> Vec<Target> {
        let mut all = match self {
            Scenario::Standalone | Scenario::FullDisk => return vec![Target::Serve],
            Scenario::Distributed | Scenario::Cluster => vec![Target::Ingest(0), Target::Ingest(1)],
        };
        all.extend((0..dispatchers).map(Target::Dispatcher));
        all.push(Target::Api);
        match self {
            Scenario::Cluster => all.extend((0..NODES).map(Target::Node)),
            _ => all.push(Target::RabbitMq),
        }
        all.push(Target::Postgres);
        all
    }
}

/// Nodes of a cluster.
pub(super) const NODES: usize = 3;

/// A kind of fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum FaultKind {
    /// Kills, freezes and stops of every part
    Strike,
    /// Errors that PostgreSQL raises itself, and its full disk
    Database,
    /// Clients that mean harm
    Abuse,
    /// Wake-ups that are not published
    WakeUps,
    /// Freezes of 20 s
    LongFreeze,
    /// Dispatchers that start and end every few seconds
    ComeAndGo,
    /// Clocks that are an hour ahead or back
    Clock,
    /// A database that is away for longer than an owner waits for it
    Outage,
    /// A dispatcher that is cut from one server
    Cut,
    /// Another number of partitions
    Divide,
    /// A scheduler that hangs while its process lives
    Hang,
    /// A database that loses about a second of commits
    FailOver,
    /// Processes that end when they have marked or read backlog
    Backlog,
}
