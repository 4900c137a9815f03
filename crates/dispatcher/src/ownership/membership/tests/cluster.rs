//! A cluster of dispatchers in simulated time, with one store. Requests are slow or lost, processes freeze, die, start
//! and stop. At each step it checks that no two processes act for one partition.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use hookline_core::partition::{DispatcherId, Partition, Partitions};
use hookline_store::{ClusterState, HandOver, Heartbeat, PartitionClaim, PartitionOwner};
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use uuid::Uuid;

use super::super::{AnsweredBeat, Membership, Release};
use crate::ownership::keeper::{BEAT_EVERY, BEFORE_HAND_OVER, PATIENCE};
use crate::ownership::liveness::RosterRead;
use crate::ownership::model::Model;

const MILLI: Duration = Duration::from_millis(1);

/// A process, by its place in [`Cluster::processes`]. A process that starts again is another one.
type ProcessNumber = usize;

pub(super) struct Process {
    pub(super) membership: Membership,
    pub(super) alive: bool,
    pub(super) draining: bool,
    pub(super) able: bool,
    frozen_until: Duration,
    /// The end of its network partition from the store.
    cut_until: Duration,
    last_tick: Duration,
    /// The request without an answer yet.
    waits_for: Option<u64>,
    hands_over: BTreeMap<u64, Vec<Release>>,
}

enum StoreRequest {
    Beat(Heartbeat),
    Take(DispatcherId, Vec<PartitionClaim>),
    HandOver(DispatcherId, Vec<Release>),
}

enum StoreReply {
    Beat(Heartbeat, Instant, Option<(ClusterState, Partitions)>),
    Took(Vec<PartitionOwner>),
    HandedOver,
}

enum ClusterEvent {
    Tick,
    Arrived(u64, Duration, StoreRequest),
    /// The snapshot of a beat is older than its commit.
    Beaten(u64, Duration, Heartbeat, ClusterState),
    AnsweredBeat(u64, StoreReply),
    TimedOut(u64),
    Left(Vec<Release>),
}

/// The faults of requests.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Network {
    /// Requests and answers in a thousand that do not arrive.
    pub(super) lost: u32,
    /// Requests and answers in a thousand that take up to a second and a half.
    pub(super) slow: u32,
}

pub(super) struct Cluster {
    pub(super) store: Model,
    pub(super) processes: Vec<Process>,
    pub(super) network: Network,
    pub(super) rng: StdRng,
    pub(super) now: Duration,
    away_until: Duration,
    began: Instant,
    /// By time, then by the time without a freeze.
    events: BTreeMap<(Duration, Duration, u64), (ProcessNumber, ClusterEvent)>,
    numbers: u64,
}

impl Cluster {
    pub(super) fn new(seed: u64, partitions: u16) -> Self {
        Self {
            store: Model::new(Partitions::new(partitions).unwrap()),
            processes: Vec::new(),
            network: Network::default(),
            rng: StdRng::seed_from_u64(seed),
            now: Duration::ZERO,
            away_until: Duration::ZERO,
            began: Instant::now(),
            events: BTreeMap::new(),
            numbers: 0,
        }
    }

    /// A cluster of this many dispatchers that have shared the partitions evenly.
    pub(super) fn settled(seed: u64, partitions: u16, dispatchers: usize) -> Self {
        let mut cluster = Self::new(seed, partitions);
        (0..dispatchers).for_each(|_| cluster.start());
        cluster.run(Duration::from_secs(25));
        cluster.assert_settled();
        cluster
    }

    pub(super) fn start(&mut self) {
        let id = DispatcherId(Uuid::from_u128(self.rng.random()));
        self.store.register(id);
        self.processes.push(Process {
            membership: Membership::new(id),
            alive: true,
            draining: false,
            able: true,
            frozen_until: Duration::ZERO,
            cut_until: Duration::ZERO,
            last_tick: Duration::ZERO,
            waits_for: None,
            hands_over: BTreeMap::new(),
        });
        let first = self.now + MILLI * self.rng.random_range(0..500);
        self.schedule(first, self.processes.len() - 1, ClusterEvent::Tick);
    }

    pub(super) fn kill(&mut self, number: ProcessNumber) {
        self.processes[number].alive = false;
    }

    pub(super) fn stop(&mut self, number: ProcessNumber) {
        self.processes[number].draining = true;
    }

    pub(super) fn freeze(&mut self, number: ProcessNumber, time: Duration) {
        self.processes[number].frozen_until = self.now + time;
    }

    pub(super) fn cut(&mut self, number: ProcessNumber, time: Duration) {
        self.processes[number].cut_until = self.now + time;
    }

    pub(super) fn store_away(&mut self, time: Duration) {
        self.away_until = self.now + time;
    }

    /// Ends all faults.
    pub(super) fn heal(&mut self) {
        self.network = Network::default();
        self.away_until = self.now;
        for process in &mut self.processes {
            process.frozen_until = process.frozen_until.min(self.now);
            process.cut_until = self.now;
            process.able = true;
        }
        // Events that waited for the end of a freeze happen now.
        let (now, events) = (self.now, std::mem::take(&mut self.events));
        self.events = events
            .into_iter()
            .map(|((at, due, turn), event)| {
                let at = if at > due { now } else { at };
                ((at, due, turn), event)
            })
            .collect();
    }

    pub(super) fn living(&self) -> Vec<ProcessNumber> {
        let living = self.processes.iter().enumerate();
        living
            .filter(|(_, process)| process.alive && !process.draining)
            .map(|(number, _)| number)
            .collect()
    }

    /// The partitions that a process acts for now.
    pub(super) fn acted_for(&self) -> BTreeSet<Partition> {
        let acting = self.processes.iter();
        acting
            .filter(|process| process.frozen_until <= self.now)
            .flat_map(|process| self.held(process))
            .collect()
    }

    pub(super) fn owners(&self) -> Vec<Option<DispatcherId>> {
        self.store.holdings.iter().map(|each| each.owner).collect()
    }

    pub(super) fn epochs(&self) -> Vec<i64> {
        self.store.holdings.iter().map(|each| each.epoch).collect()
    }

    /// Asserts that living dispatchers act for all partitions. Their counts differ by at most one.
    pub(super) fn assert_settled(&self) {
        let counts = |number| self.held(&self.processes[number]).count();
        let counts: Vec<_> = self.living().into_iter().map(counts).collect();
        let (least, most) = (counts.iter().min().unwrap(), counts.iter().max().unwrap());
        assert!(most - least <= 1, "{counts:?}");
        assert_eq!(self.acted_for().len(), self.store.holdings.len());
    }

    pub(super) fn run(&mut self, time: Duration) {
        let end = self.now + time;
        while let Some(next) = self.events.first_entry()
            && next.key().0 <= end
        {
            let ((at, due, turn), (number, event)) = next.remove_entry();
            self.now = at;
            let thaws = self.processes[number].frozen_until;
            let of_store = matches!(event, ClusterEvent::Arrived(..) | ClusterEvent::Beaten(..));
            if of_store {
                self.at_store(number, event);
            } else if !self.processes[number].alive {
            } else if thaws > at {
                self.events.insert((thaws, due, turn), (number, event));
            } else {
                self.at_process(number, event);
                self.assert_exclusive(number);
            }
        }
        self.now = end;
    }

    /// Returns the longest time for which no process acted for a partition.
    pub(super) fn run_and_watch(&mut self, time: Duration) -> Duration {
        let step = 20 * MILLI;
        let mut since = BTreeMap::new();
        let mut longest = Duration::ZERO;
        let end = self.now + time;
        while self.now < end {
            self.run(step);
            let acted_for = self.acted_for();
            for partition in self.store.partitions.all() {
                let since = since.entry(partition).or_insert(self.now);
                if acted_for.contains(&partition) {
                    *since = self.now;
                }
                longest = longest.max(self.now - *since);
            }
        }
        longest
    }

    fn held<'a>(&self, process: &'a Process) -> impl Iterator<Item = Partition> + use<'a> {
        let now = self.began + self.now;
        let valid = process.alive && process.membership.valid_until().is_some_and(|at| now < at);
        let held = process.membership.held().keys().copied();
        held.filter(move |_| valid)
    }

    fn assert_exclusive(&self, number: ProcessNumber) {
        let held: Vec<_> = self.held(&self.processes[number]).collect();
        let now = self.began + self.now;
        for (other, rival) in self.processes.iter().enumerate() {
            let until = rival.membership.valid_until();
            if other != number && rival.alive && until.is_some_and(|until| now < until) {
                let theirs = rival.membership.held();
                let both = held.iter().find(|partition| theirs.contains_key(partition));
                assert_eq!(both, None, "{number} and {other} act for it");
            }
        }
    }

    fn schedule(&mut self, at: Duration, number: ProcessNumber, event: ClusterEvent) {
        self.numbers += 1;
        self.events.insert((at, at, self.numbers), (number, event));
    }

    fn delay(&mut self) -> Duration {
        let slow = self.rng.random_range(0..1_000) < self.network.slow;
        MILLI * self.rng.random_range(1..if slow { 1_500 } else { 20 })
    }

    fn is_lost(&mut self, number: ProcessNumber) -> bool {
        self.now < self.away_until
            || self.now < self.processes[number].cut_until
            || self.rng.random_range(0..1_000) < self.network.lost
    }

    fn send(&mut self, number: ProcessNumber, request: StoreRequest) -> u64 {
        self.numbers += 1;
        let id = self.numbers;
        self.schedule(self.now + PATIENCE, number, ClusterEvent::TimedOut(id));
        if !self.is_lost(number) {
            let at = self.now + self.delay();
            self.schedule(at, number, ClusterEvent::Arrived(id, self.now, request));
        }
        id
    }

    fn answer(&mut self, number: ProcessNumber, id: u64, reply: StoreReply) {
        if !self.is_lost(number) {
            let at = self.now + self.delay();
            self.schedule(at, number, ClusterEvent::AnsweredBeat(id, reply));
        }
    }

    fn at_store(&mut self, number: ProcessNumber, event: ClusterEvent) {
        match event {
            ClusterEvent::Arrived(..) if self.now < self.away_until => {}
            ClusterEvent::Arrived(id, sent, StoreRequest::Beat(beat)) => {
                let at = self.now + self.delay();
                let snapshot = self.store.roster();
                self.schedule(at, number, ClusterEvent::Beaten(id, sent, beat, snapshot));
            }
            ClusterEvent::Beaten(id, sent, beat, snapshot) => {
                let answer = self.store.raise(beat);
                let answer = answer.then_some((snapshot, self.store.partitions));
                self.answer(
                    number,
                    id,
                    StoreReply::Beat(beat, self.began + sent, answer),
                );
            }
            ClusterEvent::Arrived(id, _, StoreRequest::Take(dispatcher, claims)) => {
                let taken = self.store.take(dispatcher, &claims);
                self.answer(number, id, StoreReply::Took(taken));
            }
            ClusterEvent::Arrived(id, _, StoreRequest::HandOver(dispatcher, releases)) => {
                let hand_over = |release: Release| HandOver {
                    partition: release.partition,
                    epoch: release.epoch,
                    to: release.to,
                    note: String::new(),
                };
                let all: Vec<_> = releases.into_iter().map(hand_over).collect();
                self.store.hand_over(dispatcher, &all);
                self.answer(number, id, StoreReply::HandedOver);
            }
            _ => unreachable!("it is no event of the store"),
        }
    }

    fn at_process(&mut self, number: ProcessNumber, event: ClusterEvent) {
        let now = self.began + self.now;
        let process = &mut self.processes[number];
        match event {
            ClusterEvent::Tick => {
                process.last_tick = self.now;
                let beat = Heartbeat {
                    id: process.membership.id(),
                    draining: process.draining,
                    can_deliver: process.able,
                };
                let id = self.send(number, StoreRequest::Beat(beat));
                self.processes[number].waits_for = Some(id);
            }
            ClusterEvent::AnsweredBeat(id, reply) if process.waits_for == Some(id) => {
                process.waits_for = None;
                self.main_answer(number, reply);
            }
            ClusterEvent::TimedOut(id) if process.waits_for == Some(id) => {
                process.waits_for = None;
                process.membership.missed();
                self.rest(number);
            }
            ClusterEvent::AnsweredBeat(id, _) | ClusterEvent::TimedOut(id) => {
                if let Some(left) = process.hands_over.remove(&id) {
                    process.membership.hand_over_ended(&left, now);
                }
            }
            ClusterEvent::Left(releases) => {
                let dispatcher = process.membership.id();
                let id = self.send(number, StoreRequest::HandOver(dispatcher, releases.clone()));
                self.processes[number].hands_over.insert(id, releases);
            }
            _ => unreachable!("it is an event of the store"),
        }
    }

    fn main_answer(&mut self, number: ProcessNumber, reply: StoreReply) {
        let process = &mut self.processes[number];
        let id = process.membership.id();
        match reply {
            StoreReply::Beat(beat, sent, Some((roster, partitions))) => {
                let read = RosterRead {
                    sent,
                    answered: self.began + self.now,
                };
                let answered = AnsweredBeat {
                    roster: &roster,
                    partitions,
                    read,
                };
                let steps = process.membership.answered(beat, answered);
                if process.draining && process.membership.is_empty() {
                    process.alive = false;
                    return self.store.unregister(id);
                }
                if !steps.releases.is_empty() {
                    let at = self.now + BEFORE_HAND_OVER;
                    self.schedule(at, number, ClusterEvent::Left(steps.releases));
                }
                if !steps.claims.is_empty() {
                    let id = self.send(number, StoreRequest::Take(id, steps.claims));
                    self.processes[number].waits_for = Some(id);
                    return;
                }
            }
            StoreReply::Beat(_, _, None) => {
                let id = DispatcherId(Uuid::from_u128(self.rng.random()));
                self.store.register(id);
                process.membership = Membership::new(id);
                process.hands_over.clear();
            }
            StoreReply::Took(taken) => process.membership.claimed(taken),
            StoreReply::HandedOver => unreachable!("it is not waited for"),
        }
        self.rest(number);
    }

    fn rest(&mut self, number: ProcessNumber) {
        let at = (self.processes[number].last_tick + BEAT_EVERY).max(self.now);
        self.schedule(at, number, ClusterEvent::Tick);
    }
}
