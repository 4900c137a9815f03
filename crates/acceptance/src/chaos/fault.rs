//! The kinds of faults, and an injection: one fault, its targets, and for how long.

use std::fmt;
use std::time::Duration;

use super::abuse::Abuse;
use hookline_testkit::database_faults::DatabaseFault;

/// A process that can be hit. Some targets have several replicas.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Target {
    /// `ingest`, one of its replicas.
    Ingest(usize),
    /// `dispatcher`, one of its replicas.
    Dispatcher(usize),
    /// `subscription-api`
    Api,
    RabbitMq,
    /// A RabbitMQ node of a cluster of three.
    Node(usize),
    /// PostgreSQL, all of its processes.
    Postgres,
    /// `hookline serve`, the one process of a standalone deployment.
    Serve,
    /// The disk of a standalone deployment, or that of a distributed deployment's database.
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

    /// How long it may take to come up, so that faults do not follow one another too closely.
    pub(super) fn startup(self) -> Duration {
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
pub enum Dependency {
    /// RabbitMQ.
    Broker,
    /// PostgreSQL.
    Database,
}

/// The kind of a server's outage.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Outage {
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
pub enum ClockShift {
    /// An hour ahead.
    Ahead,
    /// An hour back.
    Back,
}

/// The kinds of faults.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Fault {
    /// SIGKILL.
    Kill,
    /// SIGSTOP, and SIGCONT in the end.
    Freeze,
    /// SIGSTOP for much longer than a lease.
    LongFreeze,
    /// SIGTERM, and a graceful shutdown.
    Stop,
    /// The disk is full. A process that is hit with it is killed then, and started when there is room again.
    FillDisk,
    /// The database raises transient errors.
    Database(DatabaseFault),
    /// Clients that mean harm occupy the API.
    Abuse(Abuse),
    /// Each process drops one wake-up in this many.
    DropWakeUps(u8),
    /// Further dispatchers start, are killed and stopped, every three seconds.
    Churn,
    /// The database is away for longer than an owner waits for it; no owner may change.
    Outage(Outage),
    /// The connections to one server end, and new ones are refused.
    Cut(Dependency),
    /// The connections to one server stay and say nothing.
    Silence(Dependency),
    /// A wall clock is set, of a dispatcher when it starts, of the database while it runs.
    Clock(ClockShift),
    /// The subscriptions are divided into another number of partitions.
    Repartition(u16),
    /// The scheduler hangs while its process lives.
    HangScheduler,
    /// The database goes on from a copy of its data that is about a second old.
    FailOver,
    /// Receivers refuse everything, which makes backlog, and a process ends at this point.
    CrashAt(BacklogPoint),
}

impl Fault {
    /// The requests that one such fault on a process may repeat, in slots of a dispatcher. A dispatcher that is cut from
    /// the database, or hangs, goes on for some seconds. Other dispatchers make all of these requests again.
    fn slots_repeated(self) -> usize {
        match self {
            Fault::Kill
            | Fault::Freeze
            | Fault::LongFreeze
            | Fault::FillDisk
            | Fault::Clock(_)
            | Fault::CrashAt(_) => 1,
            Fault::Cut(Dependency::Database)
            | Fault::Silence(Dependency::Database)
            | Fault::HangScheduler => 4,
            _ => 0,
        }
    }

    /// The same for faults that differ in a number only.
    pub(super) fn kind(self) -> String {
        match self {
            Fault::Repartition(_) => "divide into other partitions".to_owned(),
            fault => fault.to_string(),
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Fault::Kill => "kill",
            Fault::Freeze => "freeze",
            Fault::LongFreeze => "freeze for long",
            Fault::Stop => "stop",
            Fault::FillDisk => "fill",
            Fault::Database(DatabaseFault::Deadlock) => "deadlocks in",
            Fault::Database(DatabaseFault::Cancel) => "cancelled statements in",
            Fault::Database(DatabaseFault::Revoke) => "revoked rights in",
            Fault::Database(DatabaseFault::ReadOnly) => "read-only",
            Fault::Database(DatabaseFault::Kill) => "killed sessions in",
            Fault::Database(DatabaseFault::Unprepare) => "forgotten statements in",
            Fault::Abuse(Abuse::SlowReaders) => "slow readers of",
            Fault::Abuse(Abuse::SlowSenders) => "slow senders to",
            Fault::Abuse(Abuse::WrongKeys) => "wrong keys for",
            Fault::Abuse(Abuse::KeyAtLimits) => "a key at the limits of",
            Fault::DropWakeUps(1) => "drop all wake-ups",
            Fault::DropWakeUps(every) => return write!(f, "drop one of {every} wake-ups"),
            Fault::Churn => "start and end further dispatchers",
            Fault::Outage(Outage::Killed) => "outage (killed) of",
            Fault::Outage(Outage::Frozen) => "outage (frozen) of",
            Fault::Cut(Dependency::Broker) => "cut the broker from",
            Fault::Cut(Dependency::Database) => "cut the database from",
            Fault::Silence(Dependency::Broker) => "silence the broker for",
            Fault::Silence(Dependency::Database) => "silence the database for",
            Fault::Clock(ClockShift::Ahead) => "an hour ahead: the clock of",
            Fault::Clock(ClockShift::Back) => "an hour back: the clock of",
            Fault::Repartition(count) => return write!(f, "divide into {count} partitions"),
            Fault::HangScheduler => "hang the scheduler of",
            Fault::FailOver => "fail over to an old copy of",
            Fault::CrashAt(point) => return write!(f, "end at {} in", point.name()),
        })
    }
}

/// When further dispatchers start and end.
pub(super) struct ChurnPlan {
    /// Between two steps.
    pub(super) every: Duration,
    /// How many there are in the end.
    pub(super) at_once: usize,
    /// How often the oldest is replaced. One counts as an owner after ten seconds.
    pub(super) replaced: usize,
}

pub(super) const CHURN: ChurnPlan = ChurnPlan {
    every: Duration::from_secs(3),
    at_once: 4,
    replaced: 4,
};

impl ChurnPlan {
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
pub struct Injection {
    /// When, counted from the beginning. It waits for the end of the one before.
    pub at: Duration,
    pub fault: Fault,
    /// Two targets are hit together and come back together. Empty if the blow hits all.
    pub targets: Vec<Target>,
    /// How long they are away, or frozen.
    pub away: Duration,
}

impl Injection {
    /// The requests that the fault may repeat, in slots of a dispatcher. A stop repeats none while the database can
    /// record them. Another number of partitions moves subscriptions without regard for their requests in flight.
    pub(super) fn slots_repeated(&self) -> usize {
        let delivering = self.targets.iter().filter(|target| target.delivers());
        match self.fault {
            Fault::Churn => CHURN.kills(),
            Fault::Repartition(_) => 1,
            Fault::Stop if self.targets.len() > 1 => delivering.count(),
            fault => fault.slots_repeated() * delivering.count(),
        }
    }
}

impl fmt::Display for Injection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "at {:5.1} s: {}", self.at.as_secs_f64(), self.fault)?;
        let names: Vec<String> = self.targets.iter().map(Target::to_string).collect();
        if !names.is_empty() {
            write!(f, " {}", names.join(" and "))?;
        }
        write!(f, " for {:.1} s", self.away.as_secs_f64())
    }
}
