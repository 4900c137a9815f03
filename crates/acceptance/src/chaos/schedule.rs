//! What is done to whom, and when: a function of the seed, so that a run can be made again.

use std::fmt;
use std::time::Duration;

use rand::rngs::ChaCha8Rng;
use rand::seq::{IndexedRandom as _, SliceRandom as _};
use rand::{RngExt as _, SeedableRng as _};

use super::abuse::Abuse;
use crate::database_faults::Fault;
use crate::home::Kind;

/// Where a run is played, and what is done there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scene {
    /// Three services, two of ingest and dispatcher, with PostgreSQL and RabbitMQ.
    Distributed,
    /// `hookline serve`.
    Embedded,
    /// `hookline serve` on a disk that fills up.
    FullDisk,
}

impl Scene {
    /// The home it is played in.
    pub fn kind(self) -> Kind {
        match self {
            Scene::Distributed => Kind::Distributed,
            Scene::Embedded | Scene::FullDisk => Kind::Embedded,
        }
    }

    /// What a report calls it.
    pub fn name(self) -> &'static str {
        match self {
            Scene::Distributed => "distributed",
            Scene::Embedded => "embedded",
            Scene::FullDisk => "full disk",
        }
    }
}

/// A process that can be hit; of some there are two.
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
    /// PostgreSQL, all of its processes.
    Postgres,
    /// `hookline serve`, the one process of an embedded home.
    Serve,
    /// The disk of an embedded home, or that of a distributed home's database.
    Disk,
}

impl Target {
    /// Everything that a home has.
    pub fn all(kind: Kind) -> &'static [Target] {
        match kind {
            Kind::Embedded => &[Target::Serve],
            Kind::Distributed => &[
                Target::Ingest(0),
                Target::Ingest(1),
                Target::Dispatcher(0),
                Target::Dispatcher(1),
                Target::Api,
                Target::RabbitMq,
                Target::Postgres,
            ],
        }
    }

    /// What it is, whichever replica.
    pub fn part(self) -> &'static str {
        match self {
            Target::Ingest(_) => "ingest",
            Target::Dispatcher(_) => "dispatcher",
            Target::Api => "subscription-api",
            Target::RabbitMq => "rabbitmq",
            Target::Postgres => "postgres",
            Target::Serve => "serve",
            Target::Disk => "disk",
        }
    }

    /// How long it may take to come up, so that acts do not follow one another too closely.
    fn coming_up(self) -> Duration {
        Duration::from_secs(match self {
            Target::RabbitMq => 8,
            Target::Postgres => 3,
            _ => 1,
        })
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Target::Ingest(replica) | Target::Dispatcher(replica) => {
                write!(f, "{}-{}", self.part(), replica + 1)
            }
            _ => f.write_str(self.part()),
        }
    }
}

/// What is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Blow {
    /// SIGKILL.
    Kill,
    /// SIGSTOP, and SIGCONT in the end.
    Freeze,
    /// SIGTERM, and its good end.
    Stop,
    /// Nothing is left of the disk; a process that is hit with it is killed then, and started when
    /// there is room again.
    Fill,
    /// The database raises errors that are about the moment.
    Raise(Fault),
    /// Clients that mean harm occupy the API.
    Abuse(Abuse),
}

impl fmt::Display for Blow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Blow::Kill => "kill",
            Blow::Freeze => "freeze",
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
        })
    }
}

/// One line of the schedule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Act {
    /// When, counted from the beginning. It waits for the end of the one before.
    pub at: Duration,
    /// What.
    pub blow: Blow,
    /// To whom; two are hit at once and come back at once.
    pub targets: Vec<Target>,
    /// How long they are away, or frozen.
    pub away: Duration,
}

impl fmt::Display for Act {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<String> = self.targets.iter().map(Target::to_string).collect();
        write!(
            f,
            "at {:5.1} s: {} {} for {:.1} s",
            self.at.as_secs_f64(),
            self.blow,
            names.join(" and "),
            self.away.as_secs_f64()
        )
    }
}

/// Before it, queues are young: RabbitMQ 3.10 can lose one that is killed right after it was made.
const FIRST: Duration = Duration::from_secs(4);

/// The acts of a run that is so long.
pub fn schedule(seed: u64, scene: Scene, length: Duration) -> Vec<Act> {
    let mut chance = ChaCha8Rng::seed_from_u64(seed);
    let mut acts = Vec::new();
    let mut at = FIRST;
    while at < length {
        let mut act = match scene {
            Scene::FullDisk => full_disk(&mut chance, at),
            Scene::Distributed if !acts.is_empty() && chance.random_range(0..3) == 0 => {
                database(&mut chance, at)
            }
            _ if !acts.is_empty() && chance.random_range(0..6) == 0 => {
                abuse(&mut chance, at, scene.kind())
            }
            _ => act(&mut chance, at, Target::all(scene.kind())),
        };
        // However short, a run has a kill.
        if acts.is_empty() && matches!(act.blow, Blow::Freeze | Blow::Stop) {
            act.blow = Blow::Kill;
            act.away /= 2;
        }
        let coming_up = act.targets.iter().map(|target| target.coming_up()).max();
        let gap = Duration::from_millis(chance.random_range(300..3_000));
        at += act.away + gap;
        if !matches!(act.blow, Blow::Freeze | Blow::Raise(_) | Blow::Abuse(_)) {
            at += coming_up.unwrap_or_default();
        }
        acts.push(act);
    }
    acts
}

fn act(chance: &mut ChaCha8Rng, at: Duration, cast: &[Target]) -> Act {
    let blow = match chance.random_range(0..10) {
        0..5 => Blow::Kill,
        5..8 => Blow::Freeze,
        _ => Blow::Stop,
    };
    let away = match blow {
        Blow::Freeze => chance.random_range(1_000..8_000),
        _ => chance.random_range(0..4_000),
    };
    // Four of the seven are replicas of one another: kinds take turns, not processes.
    let mut parts: Vec<&str> = cast.iter().map(|target| target.part()).collect();
    parts.dedup();
    parts.shuffle(chance);
    let count = if chance.random_range(0..5) == 0 { 2 } else { 1 };
    let targets = parts
        .into_iter()
        .take(count)
        .filter_map(|part| {
            let replicas: Vec<Target> = cast
                .iter()
                .copied()
                .filter(|target| target.part() == part)
                .collect();
            replicas.choose(chance).copied()
        })
        .collect();
    Act {
        at,
        blow,
        targets,
        away: Duration::from_millis(away),
    }
}

/// A fault of the moment; the disk is one of seven.
fn database(chance: &mut ChaCha8Rng, at: Duration) -> Act {
    let (blow, target) = match chance.random_range(0..=Fault::ALL.len()) {
        disk if disk == Fault::ALL.len() => (Blow::Fill, Target::Disk),
        fault => (Blow::Raise(Fault::ALL[fault]), Target::Postgres),
    };
    Act {
        at,
        blow,
        targets: vec![target],
        away: Duration::from_millis(chance.random_range(1_000..4_000)),
    }
}

fn abuse(chance: &mut ChaCha8Rng, at: Duration, kind: Kind) -> Act {
    let target = match kind {
        Kind::Embedded => Target::Serve,
        Kind::Distributed => Target::Api,
    };
    let kind = chance.random_range(0..Abuse::ALL.len());
    Act {
        at,
        blow: Blow::Abuse(Abuse::ALL[kind]),
        targets: vec![target],
        away: Duration::from_millis(chance.random_range(3_000..8_000)),
    }
}

fn full_disk(chance: &mut ChaCha8Rng, at: Duration) -> Act {
    let targets = match chance.random_range(0..3) {
        0 => vec![Target::Disk, Target::Serve],
        _ => vec![Target::Disk],
    };
    Act {
        at,
        blow: Blow::Fill,
        targets,
        away: Duration::from_millis(chance.random_range(1_000..4_000)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    #[test]
    fn a_seed_makes_one_schedule() {
        for scene in [Scene::Distributed, Scene::Embedded, Scene::FullDisk] {
            assert_eq!(schedule(7, scene, MINUTE), schedule(7, scene, MINUTE));
            assert_ne!(schedule(7, scene, MINUTE), schedule(8, scene, MINUTE));
        }
    }

    #[test]
    fn the_shortest_run_has_a_kill() {
        for seed in 0..100 {
            let acts = schedule(seed, Scene::Embedded, Duration::from_secs(5));
            assert_eq!(acts[0].blow, Blow::Kill);
        }
    }

    #[test]
    fn a_longer_run_begins_as_a_shorter_one() {
        let short = schedule(7, Scene::Distributed, MINUTE);
        let long = schedule(7, Scene::Distributed, 10 * MINUTE);
        assert_eq!(short, long[..short.len()]);
    }

    #[test]
    fn everything_is_hit_in_every_way_within_an_hour() {
        let acts = schedule(1, Scene::Distributed, 60 * MINUTE);
        for &target in Target::all(Kind::Distributed) {
            for blow in [Blow::Kill, Blow::Freeze, Blow::Stop] {
                assert!(
                    acts.iter()
                        .any(|act| act.blow == blow && act.targets.contains(&target)),
                    "no {blow} of {target}"
                );
            }
        }
        let of_the_api = Abuse::ALL.map(Blow::Abuse);
        let of_the_database = Fault::ALL.map(Blow::Raise);
        for blow in of_the_api
            .into_iter()
            .chain(of_the_database)
            .chain([Blow::Fill])
        {
            assert!(acts.iter().any(|act| act.blow == blow), "no {blow}");
        }
        assert!(acts.iter().any(|act| act.targets.len() == 2));
        assert!(
            acts.iter()
                .all(|act| act.at >= FIRST && act.at < 60 * MINUTE)
        );
    }
}
