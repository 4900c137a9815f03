//! The schedule of a run: which act hits which part, and when. It is a function of the plan: a run can be made again.

use std::time::Duration;

use clap::ValueEnum;
use rand::rngs::ChaCha8Rng;
use rand::seq::{IndexedRandom as _, SliceRandom as _};
use rand::{RngExt as _, SeedableRng as _};

use super::Plan;
use super::abuse::Abuse;
use super::fault::{Act, Away, BacklogPoint, Blow, COME_AND_GO, Peer, Shift, Target};
use hookline_testkit::database_faults::Fault;
use hookline_testkit::deployment::Kind;

/// Where a run is played, and what is done there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scene {
    /// Three services, two or more of ingest and dispatcher, with PostgreSQL and RabbitMQ.
    Distributed,
    /// The same with a RabbitMQ of three nodes, which are hit one at a time.
    Cluster,
    /// `hookline serve`.
    Embedded,
    /// `hookline serve` on a disk that fills up.
    FullDisk,
}

impl Scene {
    /// The home it is played in.
    pub fn kind(self) -> Kind {
        match self {
            Scene::Distributed | Scene::Cluster => Kind::Distributed,
            Scene::Embedded | Scene::FullDisk => Kind::Embedded,
        }
    }

    /// The name in a report.
    pub fn name(self) -> &'static str {
        match self {
            Scene::Distributed => "distributed",
            Scene::Cluster => "cluster",
            Scene::Embedded => "embedded",
            Scene::FullDisk => "full disk",
        }
    }

    /// Everything that can be killed there.
    pub fn targets(self, dispatchers: usize) -> Vec<Target> {
        let mut all = match self {
            Scene::Embedded | Scene::FullDisk => return vec![Target::Serve],
            Scene::Distributed | Scene::Cluster => vec![Target::Ingest(0), Target::Ingest(1)],
        };
        all.extend((0..dispatchers).map(Target::Dispatcher));
        all.push(Target::Api);
        match self {
            Scene::Cluster => all.extend((0..NODES).map(Target::Node)),
            _ => all.push(Target::RabbitMq),
        }
        all.push(Target::Postgres);
        all
    }
}

/// Nodes of a cluster.
pub(super) const NODES: usize = 3;

/// A kind of act.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Choice {
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

/// The acts that take turns with the others. A run of some minutes has each of them.
const DISTRIBUTED: [Choice; 10] = [
    Choice::WakeUps,
    Choice::LongFreeze,
    Choice::ComeAndGo,
    Choice::Clock,
    Choice::Outage,
    Choice::Cut,
    Choice::Divide,
    Choice::Hang,
    Choice::FailOver,
    Choice::Backlog,
];

const EMBEDDED: [Choice; 3] = [Choice::WakeUps, Choice::LongFreeze, Choice::Backlog];

/// Before it, queues are young: RabbitMQ 3.10 can lose one that is killed right after it was made.
const FIRST: Duration = Duration::from_secs(4);

/// How much later than the load an act may end.
const LATER: Duration = Duration::from_secs(8);

const LONG_FREEZE: Duration = Duration::from_secs(20);

/// The acts of a run.
pub fn schedule(plan: &Plan) -> Vec<Act> {
    let mut chance = Chance {
        dice: ChaCha8Rng::seed_from_u64(plan.seed),
        plan: *plan,
        deck: Vec::new(),
    };
    let mut acts: Vec<Act> = Vec::new();
    let mut at = FIRST;
    while at < plan.length {
        let mut act = match plan.scene {
            Scene::FullDisk => chance.full_disk(at),
            Scene::Cluster => chance.node(at, acts.len()),
            Scene::Distributed | Scene::Embedded => match plan.acts {
                Some(choice) => chance.act(at, choice),
                None if acts.is_empty() => chance.strike(at),
                None => {
                    let choice = chance.choice(acts.len());
                    chance.act(at, choice)
                }
            },
        };
        // Even the shortest run has a kill.
        if acts.is_empty() && matches!(act.blow, Blow::Freeze | Blow::Stop) {
            act.blow = Blow::Kill;
            act.away /= 2;
        }
        if act.at + act.away > plan.length + LATER {
            break;
        }
        let gap = Duration::from_millis(chance.dice.random_range(300..3_000));
        at += act.away + gap;
        if matches!(
            act.blow,
            Blow::Kill
                | Blow::Stop
                | Blow::Fill
                | Blow::Outage(Away::Killed)
                | Blow::Clock(_)
                | Blow::FailOver
                | Blow::EndAt(_)
        ) {
            let coming_up = act.targets.iter().map(|target| target.coming_up()).max();
            at += coming_up.unwrap_or_default();
        }
        acts.push(act);
    }
    acts
}

struct Chance {
    dice: ChaCha8Rng,
    plan: Plan,
    deck: Vec<Choice>,
}

impl Chance {
    fn millis(&mut self, range: std::ops::Range<u64>) -> Duration {
        Duration::from_millis(self.dice.random_range(range))
    }

    fn one_of<T: Copy>(&mut self, all: &[T]) -> T {
        all[self.dice.random_range(0..all.len())]
    }

    /// Every second act is one of the deck, or every fourth where that is small.
    fn choice(&mut self, number: usize) -> Choice {
        let (deck, every) = match self.plan.scene {
            Scene::Embedded => (&EMBEDDED[..], 4),
            _ => (&DISTRIBUTED[..], 2),
        };
        if number % every == 1 {
            if self.deck.is_empty() {
                self.deck = deck.to_vec();
                self.deck.shuffle(&mut self.dice);
            }
            if let Some(choice) = self.deck.pop() {
                return choice;
            }
        }
        match self.dice.random_range(0..6) {
            0 => Choice::Abuse,
            1 | 2 if self.plan.scene == Scene::Distributed => Choice::Database,
            _ => Choice::Strike,
        }
    }

    fn act(&mut self, at: Duration, choice: Choice) -> Act {
        let kind = self.plan.scene.kind();
        let dispatcher = match kind {
            Kind::Embedded => Target::Serve,
            Kind::Distributed => {
                Target::Dispatcher(self.dice.random_range(0..self.plan.dispatchers))
            }
        };
        let (blow, targets, away) = match choice {
            Choice::Strike => return self.strike(at),
            Choice::Database => return self.database(at),
            Choice::Abuse => return self.abuse(at),
            Choice::WakeUps => {
                let blow = Blow::DropWakeUps(self.one_of(&[1, 3]));
                (blow, Vec::new(), self.millis(4_000..10_000))
            }
            Choice::LongFreeze => (Blow::LongFreeze, vec![dispatcher], LONG_FREEZE),
            Choice::ComeAndGo => (Blow::ComeAndGo, Vec::new(), COME_AND_GO.length()),
            Choice::Clock => {
                let blow = Blow::Clock(self.one_of(&[Shift::Ahead, Shift::Back]));
                let target = self.one_of(&[dispatcher, Target::Postgres]);
                (blow, vec![target], self.millis(3_000..8_000))
            }
            Choice::Outage => {
                let blow = Blow::Outage(self.one_of(&[Away::Killed, Away::Frozen]));
                let target = vec![Target::Postgres];
                (blow, target, self.millis(10_000..13_000))
            }
            Choice::Cut => {
                let blow = self.one_of(&[
                    Blow::Cut(Peer::Broker),
                    Blow::Cut(Peer::Database),
                    Blow::Silence(Peer::Broker),
                    Blow::Silence(Peer::Database),
                ]);
                (blow, vec![dispatcher], self.millis(3_000..10_000))
            }
            Choice::Divide => {
                let blow = Blow::Divide(self.one_of(&[1, 5, 16, 32, 100]));
                (blow, Vec::new(), self.millis(1_000..3_000))
            }
            Choice::Hang => (Blow::Hang, vec![dispatcher], self.millis(10_000..14_000)),
            Choice::FailOver => {
                let target = vec![Target::Postgres];
                (Blow::FailOver, target, self.millis(800..1_500))
            }
            Choice::Backlog => {
                let blow = Blow::EndAt(self.one_of(&BacklogPoint::ALL));
                // The first one that has backlog ends there.
                let all = match kind {
                    Kind::Embedded => vec![dispatcher],
                    Kind::Distributed => {
                        (0..self.plan.dispatchers).map(Target::Dispatcher).collect()
                    }
                };
                (blow, all, self.millis(2_000..4_000))
            }
        };
        Act {
            at,
            blow,
            targets,
            away,
        }
    }

    fn strike(&mut self, at: Duration) -> Act {
        let cast = self.plan.scene.targets(self.plan.dispatchers);
        let blow = match self.dice.random_range(0..10) {
            0..5 => Blow::Kill,
            5..8 => Blow::Freeze,
            _ => Blow::Stop,
        };
        let away = match blow {
            Blow::Freeze => self.millis(1_000..8_000),
            _ => self.millis(0..4_000),
        };
        // More than half are replicas of one another: kinds take turns, not processes.
        let mut parts: Vec<&str> = cast.iter().map(|target| target.part()).collect();
        parts.dedup();
        parts.shuffle(&mut self.dice);
        let count = if self.dice.random_range(0..5) == 0 {
            2
        } else {
            1
        };
        let targets = parts
            .into_iter()
            .take(count)
            .filter_map(|part| {
                let replicas: Vec<Target> = cast
                    .iter()
                    .copied()
                    .filter(|target| target.part() == part)
                    .collect();
                replicas.choose(&mut self.dice).copied()
            })
            .collect();
        Act {
            at,
            blow,
            targets,
            away,
        }
    }

    /// A transient fault of the database; a full disk is one of seven.
    fn database(&mut self, at: Duration) -> Act {
        let (blow, target) = match self.dice.random_range(0..=Fault::ALL.len()) {
            disk if disk == Fault::ALL.len() => (Blow::Fill, Target::Disk),
            fault => (Blow::Raise(Fault::ALL[fault]), Target::Postgres),
        };
        Act {
            at,
            blow,
            targets: vec![target],
            away: self.millis(1_000..4_000),
        }
    }

    fn abuse(&mut self, at: Duration) -> Act {
        let target = match self.plan.scene.kind() {
            Kind::Embedded => Target::Serve,
            Kind::Distributed => Target::Api,
        };
        let abuse = self.one_of(&Abuse::ALL);
        Act {
            at,
            blow: Blow::Abuse(abuse),
            targets: vec![target],
            away: self.millis(3_000..8_000),
        }
    }

    fn full_disk(&mut self, at: Duration) -> Act {
        let targets = match self.dice.random_range(0..3) {
            0 => vec![Target::Disk, Target::Serve],
            _ => vec![Target::Disk],
        };
        Act {
            at,
            blow: Blow::Fill,
            targets,
            away: self.millis(1_000..4_000),
        }
    }

    /// A kill, then a freeze that is longer than the allowed standstill, in turns.
    fn node(&mut self, at: Duration, number: usize) -> Act {
        let (blow, away) = match number % 2 {
            0 => (Blow::Kill, self.millis(0..4_000)),
            _ => (Blow::Freeze, self.millis(15_500..18_000)),
        };
        Act {
            at,
            blow,
            targets: vec![Target::Node(self.dice.random_range(0..NODES))],
            away,
        }
    }
}

#[cfg(test)]
mod tests;
