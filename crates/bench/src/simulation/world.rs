//! The broker, the store and the dispatchers, and time that passes from event to event.
//!
//! A message in the shared queue goes to a random dispatcher that has room, as a broker's consumers
//! get theirs; what comes out of a delay goes to the end of that queue.

mod store;

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::time::{Duration, Instant};

use hookline_core::ids::SubscriptionId;
use hookline_core::retry::RetrySchedule;
use hookline_dispatcher::lanes::Finish;
use rand::rngs::ChaCha8Rng;
use rand::{RngExt as _, SeedableRng as _};

use super::agenda::{Agenda, Event, Owed};
use super::desk::Desk;
use super::measured::Run;
use super::scene::{Endpoint, Kind, Scene, endpoints};
use super::tally::Tally;
use super::traffic::Traffic;

/// What the store knows of a delivery.
struct Delivery {
    endpoint: u16,
    attempts: u8,
    state: State,
    published: u32,
    due: u32,
    is_parked: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Untried,
    Tried,
    Ended,
}

pub(super) struct World<'a> {
    scene: &'a Scene,
    schedule: RetrySchedule,
    endpoints: Vec<Endpoint>,
    traffic: Vec<Traffic>,
    chance: ChaCha8Rng,
    begin: Instant,
    now: u32,
    agenda: Agenda,
    queue: VecDeque<Owed>,
    desks: Vec<Desk>,
    /// When each dispatcher looks again by itself.
    looks: Vec<Option<u32>>,
    /// Those at which something has happened.
    touched: Vec<usize>,
    deliveries: Vec<Delivery>,
    /// What was put off, of each subscription by when it is due.
    resting: HashMap<SubscriptionId, BTreeMap<(u32, u32), Owed>>,
    tally: Tally,
}

impl<'a> World<'a> {
    pub(super) fn new(scene: &'a Scene) -> Self {
        let count = scene.dispatchers;
        let traffic = Kind::ALL.into_iter().filter_map(|kind| {
            let rate = kind.rate(scene.load) * count as f64;
            Traffic::new(kind.used(scene), rate, scene.seed)
        });
        Self {
            scene,
            schedule: RetrySchedule::default(),
            endpoints: endpoints(),
            traffic: traffic.collect(),
            chance: ChaCha8Rng::seed_from_u64(scene.seed),
            begin: Instant::now(),
            now: 0,
            agenda: Agenda::default(),
            queue: VecDeque::new(),
            desks: (0..count).map(|_| Desk::new(scene)).collect(),
            looks: vec![None; count],
            touched: Vec::new(),
            deliveries: Vec::new(),
            resting: HashMap::new(),
            tally: Tally::new(count),
        }
    }

    /// Lets time pass until nothing is left to do.
    pub(super) fn run(mut self) -> Run {
        while let Some(next) = self.next() {
            self.tally.pass(self.now, next, self.queue.len());
            self.now = next;
            for event in self.agenda.take(next) {
                self.happen(event);
            }
            self.publish();
            self.hand_out();
        }
        self.tally.end(self.deliveries.len())
    }

    fn next(&self) -> Option<u32> {
        let end = millis(self.scene.published_for);
        let bursts = self.traffic.iter().map(Traffic::next);
        let burst = bursts.filter(|at| *at < end).min();
        self.agenda.next().into_iter().chain(burst).min()
    }

    fn instant(&self) -> Instant {
        self.begin + Duration::from_millis(u64::from(self.now))
    }

    fn publish(&mut self) {
        let now = self.now;
        if now >= millis(self.scene.published_for) {
            return;
        }
        for traffic in &mut self.traffic {
            while let Some(burst) = traffic.take(now) {
                for _ in 0..burst.messages {
                    let endpoint = u16::try_from(burst.endpoint).unwrap_or(u16::MAX);
                    self.queue.push_back(Owed {
                        delivery: u32::try_from(self.deliveries.len()).unwrap_or(u32::MAX),
                        endpoint,
                        attempt: 1,
                    });
                    self.deliveries.push(Delivery {
                        endpoint,
                        attempts: 0,
                        state: State::Untried,
                        published: now,
                        due: now,
                        is_parked: false,
                    });
                }
            }
        }
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Back(owed) => self.queue.push_back(owed),
            Event::Look { dispatcher } => {
                let dispatcher = usize::from(dispatcher);
                self.looks[dispatcher] = None;
                self.touched.push(dispatcher);
            }
            Event::Over {
                dispatcher,
                held,
                owed,
                answer,
                took,
            } => {
                let took = Duration::from_millis(took.into());
                let outcome = store::outcome_of(answer);
                let finish = Finish {
                    took,
                    verdict: (&outcome).into(),
                    was_parked: self.deliveries[owed.delivery as usize].is_parked,
                };
                let (dispatcher, now) = (usize::from(dispatcher), self.instant());
                self.desks[dispatcher].finished(held, Some(finish), now);
                self.touched.push(dispatcher);
                self.tally.over(owed.endpoint.into());
                self.record(owed, &outcome);
            }
        }
    }

    /// Gives what is queued to dispatchers, which do with it what they can.
    fn hand_out(&mut self) {
        loop {
            while let Some(owed) = self.queue.front().copied()
                && let Some(dispatcher) = self.choose()
            {
                self.queue.pop_front();
                let (kin, now) = (
                    self.endpoints[usize::from(owed.endpoint)].kin,
                    self.instant(),
                );
                self.desks[dispatcher].push(kin, owed, now);
                self.tally.came();
                self.touched.push(dispatcher);
            }
            let mut touched = std::mem::take(&mut self.touched);
            if touched.is_empty() {
                return;
            }
            touched.sort_unstable();
            touched.dedup();
            for dispatcher in touched {
                self.work(dispatcher);
            }
        }
    }

    /// A random one that has room.
    fn choose(&mut self) -> Option<usize> {
        let count = self.desks.len();
        let first = self.chance.random_range(0..count);
        let all = (0..count).map(|step| (first + step) % count);
        all.into_iter().find(|one| self.desks[*one].has_room())
    }

    fn work(&mut self, dispatcher: usize) {
        let now = self.instant();
        loop {
            let mut idle = true;
            while let Some((held, owed)) = self.desks[dispatcher].next(now) {
                self.take_turn(dispatcher, held, owed);
                idle = false;
            }
            for excess in self.desks[dispatcher].take_excess() {
                self.tally.left();
                self.put_off(dispatcher, excess.message, excess.delay);
                idle = false;
            }
            if idle {
                break;
            }
        }
        for (subscription, count) in self.desks[dispatcher].take_called_back() {
            self.call_back(dispatcher, subscription, count);
        }
        if let Some(wait) = self.desks[dispatcher].looks_again_in(now) {
            let at = self.now + millis(wait).max(1);
            if self.looks[dispatcher].is_none_or(|planned| planned > at) {
                self.looks[dispatcher] = Some(at);
                let dispatcher = number(dispatcher);
                self.agenda.enter(at, Event::Look { dispatcher });
            }
        }
    }
}

fn millis(time: Duration) -> u32 {
    u32::try_from(time.as_millis()).unwrap_or(u32::MAX)
}

fn number(dispatcher: usize) -> u16 {
    u16::try_from(dispatcher).unwrap_or(u16::MAX)
}
