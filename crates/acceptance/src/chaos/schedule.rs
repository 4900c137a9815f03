//! The schedule of a run: which fault hits which part, and when. It is a function of the plan: a run can be made again.

use std::time::Duration;

use hookline_testkit::database_faults::DatabaseFault;
use hookline_testkit::deployment::Mode;
use rand::rngs::ChaCha8Rng;
use rand::seq::{IndexedRandom as _, SliceRandom as _};
use rand::{RngExt as _, SeedableRng as _};

use super::abuse::Abuse;
use super::fault::{BacklogPoint, CHURN, ClockShift, Dependency, Fault, Injection, Outage, Target};
use super::plan::Plan;
use super::scenario::{FaultKind, NODES, Scenario};

/// The faults that take turns with the others. A run of some minutes has each of them.
const DISTRIBUTED: [FaultKind; 10] = [
    FaultKind::WakeUps,
    FaultKind::LongFreeze,
    FaultKind::ComeAndGo,
    FaultKind::Clock,
    FaultKind::Outage,
    FaultKind::Cut,
    FaultKind::Divide,
    FaultKind::Hang,
    FaultKind::FailOver,
    FaultKind::Backlog,
];

const EMBEDDED: [FaultKind; 3] = [
    FaultKind::WakeUps,
    FaultKind::LongFreeze,
    FaultKind::Backlog,
];

/// Before it, queues are young: RabbitMQ 3.10 can lose one that is killed right after it was made.
const FIRST: Duration = Duration::from_secs(4);

/// How much later than the load a fault may end.
const LATER: Duration = Duration::from_secs(8);

const LONG_FREEZE: Duration = Duration::from_secs(20);

/// The faults of a run.
pub(super) fn schedule(plan: &Plan) -> Vec<Injection> {
    let mut rng = Generator {
        rng: ChaCha8Rng::seed_from_u64(plan.seed),
        plan: *plan,
        pending: Vec::new(),
    };
    let mut injections: Vec<Injection> = Vec::new();
    let mut at = FIRST;
    while at < plan.length {
        let mut injection = match plan.scenario {
            Scenario::FullDisk => rng.full_disk(at),
            Scenario::Cluster => rng.node(at, injections.len()),
            Scenario::Distributed | Scenario::Standalone => match plan.only {
                Some(choice) => rng.injection(at, choice),
                None if injections.is_empty() => rng.strike(at),
                None => {
                    let choice = rng.choice(injections.len());
                    rng.injection(at, choice)
                }
            },
        };
        // Even the shortest run has a kill.
        if injections.is_empty() && matches!(injection.fault, Fault::Freeze | Fault::Stop) {
            injection.fault = Fault::Kill;
            injection.away /= 2;
        }
        if injection.at + injection.away > plan.length + LATER {
            break;
        }
        let gap = Duration::from_millis(rng.rng.random_range(300..3_000));
        at += injection.away + gap;
        if matches!(
            injection.fault,
            Fault::Kill
                | Fault::Stop
                | Fault::FillDisk
                | Fault::Outage(Outage::Killed)
                | Fault::Clock(_)
                | Fault::FailOver
                | Fault::CrashAt(_)
        ) {
            let startup = injection
                .targets
                .iter()
                .map(|target| target.startup())
                .max();
            at += startup.unwrap_or_default();
        }
        injections.push(injection);
    }
    injections
}

struct Generator {
    rng: ChaCha8Rng,
    plan: Plan,
    pending: Vec<FaultKind>,
}

impl Generator {
    fn millis(&mut self, range: std::ops::Range<u64>) -> Duration {
        Duration::from_millis(self.rng.random_range(range))
    }

    fn one_of<T: Copy>(&mut self, all: &[T]) -> T {
        all[self.rng.random_range(0..all.len())]
    }

    /// Every second fault is one of the rarer kinds, or every fourth where that is small.
    fn choice(&mut self, number: usize) -> FaultKind {
        let (pending, every) = match self.plan.scenario {
            Scenario::Standalone => (&EMBEDDED[..], 4),
            _ => (&DISTRIBUTED[..], 2),
        };
        if number % every == 1 {
            if self.pending.is_empty() {
                self.pending = pending.to_vec();
                self.pending.shuffle(&mut self.rng);
            }
            if let Some(choice) = self.pending.pop() {
                return choice;
            }
        }
        match self.rng.random_range(0..6) {
            0 => FaultKind::Abuse,
            1 | 2 if self.plan.scenario == Scenario::Distributed => FaultKind::Database,
            _ => FaultKind::Strike,
        }
    }

    fn injection(&mut self, at: Duration, choice: FaultKind) -> Injection {
        let mode = self.plan.scenario.mode();
        let dispatcher = match mode {
            Mode::Standalone => Target::Serve,
            Mode::Distributed => {
                Target::Dispatcher(self.rng.random_range(0..self.plan.dispatchers))
            }
        };
        let (fault, targets, away) = match choice {
            FaultKind::Strike => return self.strike(at),
            FaultKind::Database => return self.database(at),
            FaultKind::Abuse => return self.abuse(at),
            FaultKind::WakeUps => {
                let fault = Fault::DropWakeUps(self.one_of(&[1, 3]));
                (fault, Vec::new(), self.millis(4_000..10_000))
            }
            FaultKind::LongFreeze => (Fault::LongFreeze, vec![dispatcher], LONG_FREEZE),
            FaultKind::ComeAndGo => (Fault::Churn, Vec::new(), CHURN.length()),
            FaultKind::Clock => {
                let fault = Fault::Clock(self.one_of(&[ClockShift::Ahead, ClockShift::Back]));
                let target = self.one_of(&[dispatcher, Target::Postgres]);
                (fault, vec![target], self.millis(3_000..8_000))
            }
            FaultKind::Outage => {
                let fault = Fault::Outage(self.one_of(&[Outage::Killed, Outage::Frozen]));
                let target = vec![Target::Postgres];
                (fault, target, self.millis(10_000..13_000))
            }
            FaultKind::Cut => {
                let fault = self.one_of(&[
                    Fault::Cut(Dependency::Broker),
                    Fault::Cut(Dependency::Database),
                    Fault::Silence(Dependency::Broker),
                    Fault::Silence(Dependency::Database),
                ]);
                (fault, vec![dispatcher], self.millis(3_000..10_000))
            }
            FaultKind::Divide => {
                let fault = Fault::Repartition(self.one_of(&[1, 5, 16, 32, 100]));
                (fault, Vec::new(), self.millis(1_000..3_000))
            }
            FaultKind::Hang => (
                Fault::HangScheduler,
                vec![dispatcher],
                self.millis(10_000..14_000),
            ),
            FaultKind::FailOver => {
                let target = vec![Target::Postgres];
                (Fault::FailOver, target, self.millis(800..1_500))
            }
            FaultKind::Backlog => {
                let fault = Fault::CrashAt(self.one_of(&BacklogPoint::ALL));
                // The first one that has backlog ends there.
                let all = match mode {
                    Mode::Standalone => vec![dispatcher],
                    Mode::Distributed => {
                        (0..self.plan.dispatchers).map(Target::Dispatcher).collect()
                    }
                };
                (fault, all, self.millis(2_000..4_000))
            }
        };
        Injection {
            at,
            fault,
            targets,
            away,
        }
    }

    fn strike(&mut self, at: Duration) -> Injection {
        let all = self.plan.scenario.targets(self.plan.dispatchers);
        let fault = match self.rng.random_range(0..10) {
            0..5 => Fault::Kill,
            5..8 => Fault::Freeze,
            _ => Fault::Stop,
        };
        let away = match fault {
            Fault::Freeze => self.millis(1_000..8_000),
            _ => self.millis(0..4_000),
        };
        // More than half are replicas of one another: kinds take turns, not processes.
        let mut parts: Vec<&str> = all.iter().map(|target| target.part()).collect();
        parts.dedup();
        parts.shuffle(&mut self.rng);
        let count = if self.rng.random_range(0..5) == 0 {
            2
        } else {
            1
        };
        let targets = parts
            .into_iter()
            .take(count)
            .filter_map(|part| {
                let replicas: Vec<Target> = all
                    .iter()
                    .copied()
                    .filter(|target| target.part() == part)
                    .collect();
                replicas.choose(&mut self.rng).copied()
            })
            .collect();
        Injection {
            at,
            fault,
            targets,
            away,
        }
    }

    /// A transient fault of the database; a full disk is one of seven.
    fn database(&mut self, at: Duration) -> Injection {
        let (fault, target) = match self.rng.random_range(0..=DatabaseFault::ALL.len()) {
            disk if disk == DatabaseFault::ALL.len() => (Fault::FillDisk, Target::Disk),
            fault => (Fault::Database(DatabaseFault::ALL[fault]), Target::Postgres),
        };
        Injection {
            at,
            fault,
            targets: vec![target],
            away: self.millis(1_000..4_000),
        }
    }

    fn abuse(&mut self, at: Duration) -> Injection {
        let target = match self.plan.scenario.mode() {
            Mode::Standalone => Target::Serve,
            Mode::Distributed => Target::Api,
        };
        let abuse = self.one_of(&Abuse::ALL);
        Injection {
            at,
            fault: Fault::Abuse(abuse),
            targets: vec![target],
            away: self.millis(3_000..8_000),
        }
    }

    fn full_disk(&mut self, at: Duration) -> Injection {
        let targets = match self.rng.random_range(0..3) {
            0 => vec![Target::Disk, Target::Serve],
            _ => vec![Target::Disk],
        };
        Injection {
            at,
            fault: Fault::FillDisk,
            targets,
            away: self.millis(1_000..4_000),
        }
    }

    /// A kill, then a freeze that is longer than the allowed standstill, in turns.
    fn node(&mut self, at: Duration, number: usize) -> Injection {
        let (fault, away) = match number % 2 {
            0 => (Fault::Kill, self.millis(0..4_000)),
            _ => (Fault::Freeze, self.millis(15_500..18_000)),
        };
        Injection {
            at,
            fault,
            targets: vec![Target::Node(self.rng.random_range(0..NODES))],
            away,
        }
    }
}

#[cfg(test)]
mod tests;
