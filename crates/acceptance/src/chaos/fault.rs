//! An act: one fault, the parts that it hits, and for how long.

use std::fmt;
use std::time::Duration;

use super::abuse::Abuse;
use hookline_testkit::database_faults::Fault;

/// A process that can be hit. Some targets have several replicas.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Target {
    /// `ingest`, one of its replicas.
    Ingest(usize),
    /// `dispatcher`, one of its replicas.
    Dispatcher(usize),
    /// `subscription-api`
    Api,
    /// The RabbitMQ node.
    RabbitMq,
    /// A RabbitMQ node of a cluster of three.
    Node(usize),
    /// PostgreSQL, all of its processes.
    Postgres,
    /// `hookline serve`, the one process of an embedded home.
    Serve,
    /// The disk of an embedded home, or that of a distributed home's database.
    Disk,
}

impl Target {
    /// The name of the part, the same for each replica.
    pub fn part(self) -> &'static str {
        match self {
            Target::Ingest(_) => "ingest",
            Target::Dispatcher(_) => "dispatcher",
            Target::Api => "subscription-api",
            Target::RabbitMq | Target::Node(_) => "rabbitmq",
            Target::Postgres => "postgres",
            Target::Serve => "serve",
            Target::Disk => "disk",
        }
    }

    /// How long it may take to come up, so that acts do not follow one another too closely.
    pub(super) fn coming_up(self) -> Duration {
        Duration::from_secs(match self {
            Target::RabbitMq => 8,
            Target::Postgres => 3,
            _ => 1,
        })
    }

    /// Whether the target makes requests to receivers.
    pub(super) fn delivers(self) -> bool {
        matches!(self, Target::Dispatcher(_) | Target::Serve)
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Target::Ingest(replica) | Target::Dispatcher(replica) | Target::Node(replica) => {
                write!(f, "{}-{}", self.part(), replica + 1)
            }
            _ => f.write_str(self.part()),
        }
    }
}

/// A server that a dispatcher can be cut from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Peer {
    /// RabbitMQ.
    Broker,
    /// PostgreSQL.
    Database,
}

/// The kind of a server's outage.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Away {
    /// Killed, and started again in the end.
    Killed,
    /// Frozen: connections stay and say nothing.
    Frozen,
}

/// A fault point at which the dispatcher holds backlog.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum BacklogPoint {
    /// The rows are marked, and nothing in memory knows it.
    Marked,
    /// The rows are read, and none of them has begun.
    Read,
}

impl BacklogPoint {
    pub(super) const ALL: [Self; 2] = [Self::Marked, Self::Read];

    pub(super) fn name(self) -> &'static str {
        match self {
            BacklogPoint::Marked => "dispatcher::marked",
            BacklogPoint::Read => "dispatcher::read_backlog",
        }
    }
}

/// Where a clock is set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Shift {
    /// An hour ahead.
    Ahead,
    /// An hour back.
    Back,
}

/// The kinds of acts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Blow {
    /// SIGKILL.
    Kill,
    /// SIGSTOP, and SIGCONT in the end.
    Freeze,
    /// SIGSTOP for much longer than a lease.
    LongFreeze,
    /// SIGTERM, and a graceful shutdown.
    Stop,
    /// The disk is full. A process that is hit with it is killed then, and started when there is room again.
    Fill,
    /// The database raises transient errors.
    Raise(Fault),
    /// Clients that mean harm occupy the API.
    Abuse(Abuse),
    /// Each process drops one wake-up in this many.
    DropWakeUps(u8),
    /// Further dispatchers start, are killed and stopped, every three seconds.
    ComeAndGo,
    /// The database is away for longer than an owner waits for it; no owner may change.
    Outage(Away),
    /// The connections to one server end, and new ones are refused.
    Cut(Peer),
    /// The connections to one server stay and say nothing.
    Silence(Peer),
    /// A wall clock is set, of a dispatcher when it starts, of the database while it runs.
    Clock(Shift),
    /// The subscriptions are divided into another number of partitions.
    Divide(u16),
    /// The scheduler hangs while its process lives.
    Hang,
    /// The database goes on from a copy of its data that is about a second old.
    FailOver,
    /// Receivers refuse everything, which makes backlog, and a process ends at this point.
    EndAt(BacklogPoint),
}

impl Blow {
    /// The requests that one such act on a process may repeat, in slots of a dispatcher. A dispatcher that is cut from
    /// the database, or hangs, goes on for some seconds. Other dispatchers make all of these requests again.
    fn slots_repeated(self) -> usize {
        match self {
            Blow::Kill
            | Blow::Freeze
            | Blow::LongFreeze
            | Blow::Fill
            | Blow::Clock(_)
            | Blow::EndAt(_) => 1,
            Blow::Cut(Peer::Database) | Blow::Silence(Peer::Database) | Blow::Hang => 4,
            _ => 0,
        }
    }

    /// The same for acts that differ in a number only.
    pub(super) fn kind(self) -> String {
        match self {
            Blow::Divide(_) => "divide into other partitions".to_owned(),
            blow => blow.to_string(),
        }
    }
}

impl fmt::Display for Blow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Blow::Kill => "kill",
            Blow::Freeze => "freeze",
            Blow::LongFreeze => "freeze for long",
            Blow::Stop => "stop",
            Blow::Fill => "fill",
            Blow::Raise(Fault::Deadlock) => "deadlocks in",
            Blow::Raise(Fault::Cancel) => "cancelled statements in",
            Blow::Raise(Fault::Revoke) => "revoked rights in",
            Blow::Raise(Fault::ReadOnly) => "read-only",
            Blow::Raise(Fault::Kill) => "killed sessions in",
            Blow::Raise(Fault::Unprepare) => "forgotten statements in",
            Blow::Abuse(Abuse::SlowReaders) => "slow readers of",
            Blow::Abuse(Abuse::SlowSenders) => "slow senders to",
            Blow::Abuse(Abuse::WrongKeys) => "wrong keys for",
            Blow::Abuse(Abuse::KeyAtLimits) => "a key at the limits of",
            Blow::DropWakeUps(1) => "drop all wake-ups",
            Blow::DropWakeUps(every) => return write!(f, "drop one of {every} wake-ups"),
            Blow::ComeAndGo => "start and end further dispatchers",
            Blow::Outage(Away::Killed) => "outage (killed) of",
            Blow::Outage(Away::Frozen) => "outage (frozen) of",
            Blow::Cut(Peer::Broker) => "cut the broker from",
            Blow::Cut(Peer::Database) => "cut the database from",
            Blow::Silence(Peer::Broker) => "silence the broker for",
            Blow::Silence(Peer::Database) => "silence the database for",
            Blow::Clock(Shift::Ahead) => "an hour ahead: the clock of",
            Blow::Clock(Shift::Back) => "an hour back: the clock of",
            Blow::Divide(count) => return write!(f, "divide into {count} partitions"),
            Blow::Hang => "hang the scheduler of",
            Blow::FailOver => "fail over to an old copy of",
            Blow::EndAt(point) => return write!(f, "end at {} in", point.name()),
        })
    }
}

/// When further dispatchers start and end.
pub(super) struct Coming {
    /// Between two steps.
    pub(super) every: Duration,
    /// How many there are in the end.
    pub(super) at_once: usize,
    /// How often the oldest is replaced. One counts as an owner after ten seconds.
    pub(super) replaced: usize,
}

pub(super) const COME_AND_GO: Coming = Coming {
    every: Duration::from_secs(3),
    at_once: 4,
    replaced: 4,
};

impl Coming {
    /// Every other one is killed, the first one as well.
    pub(super) const fn kills(&self) -> usize {
        (self.at_once + self.replaced).div_ceil(2)
    }

    pub(super) const fn stops(&self) -> usize {
        (self.at_once + self.replaced) / 2
    }

    pub(super) fn length(&self) -> Duration {
        self.every * u32::try_from(self.at_once + self.replaced).unwrap_or(u32::MAX)
    }
}

/// One line of the schedule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Act {
    /// When, counted from the beginning. It waits for the end of the one before.
    pub at: Duration,
    pub blow: Blow,
    /// Two targets are hit together and come back together. Empty if the blow hits all.
    pub targets: Vec<Target>,
    /// How long they are away, or frozen.
    pub away: Duration,
}

impl Act {
    /// The requests that the act may repeat, in slots of a dispatcher. A stop repeats none while the database can
    /// record them. Another number of partitions moves subscriptions without regard for their requests in flight.
    pub(super) fn slots_repeated(&self) -> usize {
        let delivering = self.targets.iter().filter(|target| target.delivers());
        match self.blow {
            Blow::ComeAndGo => COME_AND_GO.kills(),
            Blow::Divide(_) => 1,
            Blow::Stop if self.targets.len() > 1 => delivering.count(),
            blow => blow.slots_repeated() * delivering.count(),
        }
    }
}

impl fmt::Display for Act {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "at {:5.1} s: {}", self.at.as_secs_f64(), self.blow)?;
        let names: Vec<String> = self.targets.iter().map(Target::to_string).collect();
        if !names.is_empty() {
            write!(f, " {}", names.join(" and "))?;
        }
        write!(f, " for {:.1} s", self.away.as_secs_f64())
    }
}
