//! The simulated store and dispatchers. Virtual time advances from event to event.
//!
//! Each dispatcher owns four partitions. A due message waits for the owner of its subscription's partition.

mod store;

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::time::{Duration, Instant};

use hookline_core::ids::SubscriptionId;
use hookline_core::retry::RetrySchedule;
use hookline_dispatcher::scheduler::Finish;
use rand::SeedableRng as _;
use rand::rngs::ChaCha8Rng;

use super::agenda::{Agenda, Event, Owed};
use super::desk::Desk;
use super::measured::Run;
use super::scene::{Endpoint, Kind, Scene, endpoints};
use super::tally::Tally;
use super::traffic::Traffic;

/// A delivery in the store. Times are milliseconds from the beginning.
struct Delivery {
    endpoint: u16,
    attempts: u8,
    state: State,
    published: u32,
    due: u32,
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
    /// Due messages, by the dispatcher that owns their partition.
    queues: Vec<VecDeque<Owed>>,
    desks: Vec<Desk>,
    /// The time from which each dispatcher may search backlogs again.
    reads_from: Vec<u32>,
    /// The time of the planned [`Event::Look`] of each dispatcher.
    looks: Vec<Option<u32>>,
    /// Dispatchers with an event at this time.
    touched: Vec<usize>,
    deliveries: Vec<Delivery>,
    /// The backlog of each subscription, by due time and delivery.
    backlog: HashMap<SubscriptionId, BTreeMap<(u32, u32), Owed>>,
    /// Deliveries of backlogs that a dispatcher has in hand.
    in_hand: HashSet<u32>,
    tally: Tally,
}

impl<'a> World<'a> {
    pub(super) fn new(scene: &'a Scene) -> Self {
        let count = scene.dispatchers;
        let traffic = Kind::ALL.into_iter().filter_map(|kind| {
            let rate = kind.rate(scene.load, count);
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
            queues: vec![VecDeque::new(); count],
            desks: (0..count).map(|_| Desk::new(scene)).collect(),
            reads_from: vec![0; count],
            looks: vec![None; count],
            touched: Vec::new(),
            deliveries: Vec::new(),
            backlog: HashMap::new(),
            in_hand: HashSet::new(),
            tally: Tally::new(count),
        }
    }

    /// Runs until no event is left.
    pub(super) fn run(mut self) -> Run {
        while let Some(next) = self.next() {
            let queued = self.queues.iter().map(VecDeque::len).sum();
            self.tally.pass(self.now, next, queued);
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
                    let owner = owner(endpoint, self.desks.len());
                    self.queues[owner].push_back(Owed {
                        delivery: u32::try_from(self.deliveries.len()).unwrap_or(u32::MAX),
                        endpoint,
                        attempt: 1,
                        is_marked: false,
                    });
                    self.touched.push(owner);
                    self.deliveries.push(Delivery {
                        endpoint,
                        attempts: 0,
                        state: State::Untried,
                        published: now,
                        due: now,
                    });
                }
            }
        }
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Back(owed) => {
                let owner = owner(owed.endpoint, self.desks.len());
                self.queues[owner].push_back(owed);
                self.touched.push(owner);
            }
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
                    health: (&outcome).into(),
                };
                let (dispatcher, now) = (usize::from(dispatcher), self.instant());
                self.desks[dispatcher].finished(held, Some(finish), now);
                self.touched.push(dispatcher);
                self.tally.over(owed.endpoint.into());
                self.record(owed, &outcome);
            }
        }
    }

    /// Lets the dispatchers in `touched` work until they are idle.
    fn hand_out(&mut self) {
        let mut touched = std::mem::take(&mut self.touched);
        touched.sort_unstable();
        touched.dedup();
        for dispatcher in touched {
            self.work(dispatcher);
        }
    }

    fn work(&mut self, dispatcher: usize) {
        let now = self.instant();
        loop {
            let mut idle = true;
            while self.desks[dispatcher].has_room()
                && let Some(owed) = self.queues[dispatcher].pop_front()
            {
                let kin = self.endpoints[usize::from(owed.endpoint)].kin;
                self.desks[dispatcher].push(kin, owed, now);
                self.tally.came();
                idle = false;
            }
            while let Some((held, owed)) = self.desks[dispatcher].next(now) {
                self.take_turn(dispatcher, held, owed);
                idle = false;
            }
            for owed in self.desks[dispatcher].take_excess() {
                self.tally.left();
                self.mark(dispatcher, owed);
                idle = false;
            }
            if self.reads_from[dispatcher] <= self.now && self.read(dispatcher) {
                idle = false;
            }
            if idle {
                break;
            }
        }
        if self.desks[dispatcher].may_read() {
            let at = self.reads_from[dispatcher].max(self.now + 1);
            self.look_at(dispatcher, at);
        }
        if let Some(wait) = self.desks[dispatcher].looks_again_in(now) {
            self.look_at(dispatcher, self.now + millis(wait).max(1));
        }
    }

    fn look_at(&mut self, dispatcher: usize, at: u32) {
        if self.looks[dispatcher].is_none_or(|planned| planned > at) {
            self.looks[dispatcher] = Some(at);
            let dispatcher = number(dispatcher);
            self.agenda.enter(at, Event::Look { dispatcher });
        }
    }
}

/// The dispatcher that owns the partition of an endpoint's subscription.
fn owner(endpoint: u16, dispatchers: usize) -> usize {
    usize::from(endpoint) % (4 * dispatchers) % dispatchers
}

fn millis(time: Duration) -> u32 {
    u32::try_from(time.as_millis()).unwrap_or(u32::MAX)
}

fn number(dispatcher: usize) -> u16 {
    u16::try_from(dispatcher).unwrap_or(u16::MAX)
}
