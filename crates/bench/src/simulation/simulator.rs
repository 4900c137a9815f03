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

use super::dispatcher_model::DispatcherModel;
use super::event_queue::{SimulationEvent, SimulationEvents};
use super::measured::SimulationResult;
use super::message::DueMessage;
use super::scenario::{EndpointKind, SimulatedEndpoint, SimulationScenario, endpoints};
use super::stats::Stats;
use super::traffic::Traffic;

/// A delivery in the store. Times are milliseconds from the beginning.
struct SimulatedDelivery {
    endpoint: u16,
    attempts: u8,
    state: DeliveryProgress,
    published: u32,
    due: u32,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum DeliveryProgress {
    Untried,
    Tried,
    Ended,
}

pub(super) struct Simulator<'a> {
    scenario: &'a SimulationScenario,
    schedule: RetrySchedule,
    endpoints: Vec<SimulatedEndpoint>,
    traffic: Vec<Traffic>,
    rng: ChaCha8Rng,
    begin: Instant,
    now: u32,
    event_queue: SimulationEvents,
    /// Due messages, by the dispatcher that owns their partition.
    queues: Vec<VecDeque<DueMessage>>,
    dispatchers: Vec<DispatcherModel>,
    /// The time from which each dispatcher may search backlogs again.
    reads_from: Vec<u32>,
    /// The time of the planned [`SimulationEvent::Wake`] of each dispatcher.
    looks: Vec<Option<u32>>,
    /// Dispatchers with an event at this time.
    touched: Vec<usize>,
    deliveries: Vec<SimulatedDelivery>,
    /// The backlog of each subscription, by due time and delivery.
    backlog: HashMap<SubscriptionId, BTreeMap<(u32, u32), DueMessage>>,
    /// Deliveries of backlogs that a dispatcher has in hand.
    in_hand: HashSet<u32>,
    stats: Stats,
}

impl<'a> Simulator<'a> {
    pub(super) fn new(scenario: &'a SimulationScenario) -> Self {
        let count = scenario.dispatchers;
        let traffic = EndpointKind::ALL.into_iter().filter_map(|kind| {
            let rate = kind.rate(scenario.load, count);
            Traffic::new(kind.used(scenario), rate, scenario.seed)
        });
        Self {
            scenario,
            schedule: RetrySchedule::default(),
            endpoints: endpoints(),
            traffic: traffic.collect(),
            rng: ChaCha8Rng::seed_from_u64(scenario.seed),
            begin: Instant::now(),
            now: 0,
            event_queue: SimulationEvents::default(),
            queues: vec![VecDeque::new(); count],
            dispatchers: (0..count).map(|_| DispatcherModel::new(scenario)).collect(),
            reads_from: vec![0; count],
            looks: vec![None; count],
            touched: Vec::new(),
            deliveries: Vec::new(),
            backlog: HashMap::new(),
            in_hand: HashSet::new(),
            stats: Stats::new(count),
        }
    }

    /// Runs until no event is left.
    pub(super) fn run(mut self) -> SimulationResult {
        while let Some(next) = self.next() {
            let queued = self.queues.iter().map(VecDeque::len).sum();
            self.stats.pass(self.now, next, queued);
            self.now = next;
            for event in self.event_queue.take(next) {
                self.handle(event);
            }
            self.publish();
            self.hand_out();
        }
        self.stats.end(self.deliveries.len())
    }

    fn next(&self) -> Option<u32> {
        let end = millis(self.scenario.published_for);
        let bursts = self.traffic.iter().map(Traffic::next);
        let burst = bursts.filter(|at| *at < end).min();
        self.event_queue.next().into_iter().chain(burst).min()
    }

    fn instant(&self) -> Instant {
        self.begin + Duration::from_millis(u64::from(self.now))
    }

    fn publish(&mut self) {
        let now = self.now;
        if now >= millis(self.scenario.published_for) {
            return;
        }
        for traffic in &mut self.traffic {
            while let Some(burst) = traffic.take(now) {
                for _ in 0..burst.messages {
                    let endpoint = u16::try_from(burst.endpoint).unwrap_or(u16::MAX);
                    let owner = owner(endpoint, self.dispatchers.len());
                    self.queues[owner].push_back(DueMessage {
                        delivery: u32::try_from(self.deliveries.len()).unwrap_or(u32::MAX),
                        endpoint,
                        attempt: 1,
                        is_marked: false,
                    });
                    self.touched.push(owner);
                    self.deliveries.push(SimulatedDelivery {
                        endpoint,
                        attempts: 0,
                        state: DeliveryProgress::Untried,
                        published: now,
                        due: now,
                    });
                }
            }
        }
    }

    fn handle(&mut self, event: SimulationEvent) {
        match event {
            SimulationEvent::Back(message) => {
                let owner = owner(message.endpoint, self.dispatchers.len());
                self.queues[owner].push_back(message);
                self.touched.push(owner);
            }
            SimulationEvent::Wake { dispatcher } => {
                let dispatcher = usize::from(dispatcher);
                self.looks[dispatcher] = None;
                self.touched.push(dispatcher);
            }
            SimulationEvent::Over {
                dispatcher,
                permit,
                message,
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
                self.dispatchers[dispatcher].finished(permit, Some(finish), now);
                self.touched.push(dispatcher);
                self.stats.over(message.endpoint.into());
                self.record(message, &outcome);
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
            while self.dispatchers[dispatcher].has_room()
                && let Some(message) = self.queues[dispatcher].pop_front()
            {
                let share_groups = self.endpoints[usize::from(message.endpoint)].share_groups;
                self.dispatchers[dispatcher].push(share_groups, message, now);
                self.stats.count_arrival();
                idle = false;
            }
            while let Some((permit, message)) = self.dispatchers[dispatcher].next(now) {
                self.take_turn(dispatcher, permit, message);
                idle = false;
            }
            for message in self.dispatchers[dispatcher].take_excess() {
                self.stats.left();
                self.mark(dispatcher, message);
                idle = false;
            }
            if self.reads_from[dispatcher] <= self.now && self.read(dispatcher) {
                idle = false;
            }
            if idle {
                break;
            }
        }
        if self.dispatchers[dispatcher].may_read() {
            let at = self.reads_from[dispatcher].max(self.now + 1);
            self.wake_at(dispatcher, at);
        }
        if let Some(wait) = self.dispatchers[dispatcher].next_change_in(now) {
            self.wake_at(dispatcher, self.now + millis(wait).max(1));
        }
    }

    fn wake_at(&mut self, dispatcher: usize, at: u32) {
        if self.looks[dispatcher].is_none_or(|planned| planned > at) {
            self.looks[dispatcher] = Some(at);
            let dispatcher = number(dispatcher);
            self.event_queue
                .enter(at, SimulationEvent::Wake { dispatcher });
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
